"""Active learning against the real server, with 3D Slicer's own client code and an annotator who knows the truth."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.data.datasets import msd
from bundle.data.grid import check_grid
from bundle.data.volume import read_label, read_volume
from bundle.errors import OptionError
from bundle.evaluation.learning_table import BEFORE, Played, answer_rows
from bundle.evaluation.metrics import evaluate_label_map
from bundle.prompts.simulation import interior_point, tight_box
from monailabel_app.demo.slicer_user import load_slicer_client
from monailabel_app.server.launch import ServerError, running_server

TRAINER = "finetune"
TOLERANCE_MM = 1.0  # of the NSD: a voxel of MSD's hippocampi
_PATIENCE = 3600.0  # seconds that a training, or the scores of all images, may take
_HELD_OUT = 6  # images that are asked for before and after


@dataclass(frozen=True)
class Case:
    """An image and its truth.

    Attributes:
        name: its id at the server.
        image, label: files.
        names: name -> value.
    """

    name: str
    image: Path
    label: Path
    names: Mapping[str, int]


def cases_of(data: Path, split: str, count: int) -> list[Case]:
    """The first so many cases of a split of a folder with a ``datalist.json``.

    Raises:
        OptionError: there are none.
    """
    items = [item for item in msd(data, datalist="datalist.json") if item.get("split", "training") == split][:count]
    if not items:
        raise OptionError(f"expected images of the split {split} in {data}, got none")
    return [
        Case(item["patient"], Path(item["image"]), Path(item["label"]), {k: v for k, v in item["labels"].items() if v})
        for item in items
    ]


def play_on_server(
    data: Path,
    strategy: str,
    *,
    rounds: int,
    volumes: int,
    folder: Path,
    options: Mapping[str, Any],
    conf: Mapping[str, str] | None = None,
    train_after: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Start a server over images without labels, and label what it hands out.

    Args:
        data: folder of volumes with a ``datalist.json``.
        strategy: name, as in ``/info/``.
        rounds: images that are labelled.
        volumes: images of the server's folder.
        folder: where the log is written, and the server's folder lies while it runs.
        options: of ``POST /train/finetune``; empty for the server's own.
        conf: further options of the app.
        train_after: numbers of labels after which a training is asked for; None is after each.

    Returns:
        What ``Annotator.play`` returns, with the names of the strategy and the data.
    """
    cases = {case.name: case for case in cases_of(data, "training", volumes)}
    held_out = cases_of(data, "validation", _HELD_OUT)
    names = next(iter(cases.values())).names
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="studies-", dir=folder) as kept:
        studies = Path(kept, "studies")
        studies.mkdir()
        for case in cases.values():
            shutil.copyfile(case.image, studies / f"{case.name}{''.join(case.image.suffixes)}")
        ours = {"labels": ",".join(names), "sessions": "off", "learning": str(Path(kept, "learning"))}
        ours["learn_while_annotating"] = "off"  # the trainings are those of the rounds
        shown = {**ours, **(conf or {})}
        settings = {"TMPDIR": kept}
        with running_server(studies, log=folder / "server.log", conf=shown, settings=settings, timeout=600) as url:
            annotator = Annotator(url, Path(kept, "client"))
            played = annotator.play(strategy, cases, held_out, rounds=rounds, options=options, train_after=train_after)
    return {"strategy": strategy, "data": data.name, **played}


class Annotator:
    """Asks for images, knows their labels, and saves them.

    Args:
        url: of the server.
        folder: for the client's files.
    """

    def __init__(self, url: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        module = load_slicer_client()
        self.client = module.MONAILabelClient(url, tmpdir=str(folder), client_id="simulated annotator")
        self._url, self._get = url, module.MONAILabelUtils.http_method

    def play(
        self,
        strategy: str,
        cases: Mapping[str, Case],
        held_out: Sequence[Case],
        *,
        rounds: int,
        options: Mapping[str, Any],
        train_after: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """Label what the server hands out; for the arguments see ``play_on_server``.

        Args:
            cases: every image of the server, by its id.
            held_out: what is segmented before and after each training; the server does not hold these.

        Returns:
            What happened in each round, with the mean DSC in a box on the held-out images after each training, and that
            before; ``rows`` are those of ``answer_rows``.
        """
        trains = TRAINER in self.client.info()["trainers"]
        answers, played = {BEFORE: self.answers(held_out)}, []
        for number in range(1, rounds + 1):
            now = trains and (train_after is None or number in train_after)
            played.append(self.round(strategy, cases, options if now else None))
            if now:
                network = f"{number} label{'s' if number > 1 else ''}"
                answers[network] = self.answers(held_out)
                played[-1]["dsc"] = box_dsc(answers[network])
        return {
            "images": len(cases),
            "trained": trains,
            "rounds": played,
            "dsc_before": box_dsc(answers[BEFORE]),
            "rows": answer_rows({network: [records] for network, records in answers.items()}),
        }

    def round(self, strategy: str, cases: Mapping[str, Case], options: Mapping[str, Any] | None) -> dict[str, Any]:
        """Take the next image, save its label, and train on all labels, where options are given.

        A label takes a person minutes, in which the server scores; this one draws until it has.
        """
        started = time.perf_counter()
        sample = self.client.next_sample(strategy, {})
        waited = time.perf_counter() - started
        if not sample.get("id"):
            raise OptionError("the server has no image left; label fewer, or give it more")
        case = cases[sample["id"]]
        drawn = self._wait_for(self._is_scoring)
        info = [{"name": name, "idx": value} for name, value in case.names.items()]
        self.client.save_label(case.name, str(case.label), params={"label_info": info})
        said = {
            "image": case.name,
            "reason": sample.get("reason"),
            "seconds_until_sample": round(waited, 3),
            "seconds_of_scoring": drawn,
        }
        return said if options is None else {**said, **self._train(options)}

    def _train(self, options: Mapping[str, Any]) -> dict[str, Any]:
        self.client.train_start(TRAINER, dict(options))
        seconds = self._wait_for(self._is_training)
        status = self.client.train_status()
        stats = self.client.info()["train_stats"].get(TRAINER, {})
        said = {"training": status.get("status"), "version": status.get("version"), "seconds_of_training": seconds}
        return {**said, **{f"gate_{name}": stats[name] for name in ("dsc", "nsd", "reasons") if stats.get(name)}}

    def _wait_for(self, goes_on: Callable[[], bool]) -> float:
        """Seconds until something of the server has ended.

        Raises:
            ServerError: it takes an hour.
        """
        started = time.perf_counter()
        while goes_on():
            if time.perf_counter() - started > _PATIENCE:
                raise ServerError(f"the server was not ready within {_PATIENCE:.0f} s")
            time.sleep(0.2)
        return round(time.perf_counter() - started, 1)

    def _is_scoring(self) -> bool:
        return self._get("GET", self._url, "/scoring/?check_if_running=true")[0] == 200

    def _is_training(self) -> bool:
        """Whether the server trains, also while it learns by itself."""
        return self.client.train_status(check_if_running=True)

    def answers(self, cases: Sequence[Case]) -> list[Played]:
        """What ``sam_2d`` answers on the slice that shows most of each structure, to a tight box and to a point in it.

        NSD is at ``TOLERANCE_MM``.
        """
        found: list[Played] = []
        for case in cases:
            volume = read_volume(case.image)
            truth = check_grid(volume, read_label(case.label)).array
            for name, value in case.names.items():
                mask = truth == value
                if mask.any():
                    found += self._answers_of(case, name, mask, volume.spacing)
        return found

    def _answers_of(self, case: Case, name: str, mask: np.ndarray, spacing: np.ndarray) -> Iterator[Played]:
        place = place_in(mask)
        j0, i0, j1, i1 = (int(v) for v in tight_box(mask[:, :, place[2]]))  # its rows are i, its columns j
        asked = {"box": {"roi": [i0, i1, j0, j1, place[2], place[2]]}, "clicks": {"foreground": [place]}}
        for prompt, where in asked.items():
            params = {"label": name, "slice": place[2], **where, "result_extension": ".nrrd"}
            file, _ = self.client.infer("sam_2d", "", params, file=str(case.image))
            answer = read_label(file).array[:, :, place[2]] != 0
            Path(file).unlink()
            score = evaluate_label_map(
                answer, mask[:, :, place[2]], spacing=spacing[:2], labels={"it": 1}, tolerance_mm=TOLERANCE_MM
            )[0]
            scores = [{"dsc": round(score.dsc, 4), "nsd": round(score.nsd, 4)}]
            yield {"structure": name, "patient": case.name, "prompt": prompt, "scores": scores}


def place_in(mask: np.ndarray) -> list[int]:
    """The voxel (i, j, k) farthest from the edge of an object, on the slice k that shows most of it."""
    index = int(mask.sum(axis=(0, 1)).argmax())
    j, i = interior_point(mask[:, :, index])  # the rows of the array are i, its columns j
    return [int(i), int(j), index]


def box_dsc(answers: Sequence[Played]) -> float:
    """The mean DSC of the answers to a box."""
    return round(float(np.mean([one["scores"][0]["dsc"] for one in answers if one["prompt"] == "box"])), 4)
