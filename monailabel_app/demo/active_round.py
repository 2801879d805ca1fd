"""Active learning against the real server, with 3D Slicer's own client code and an annotator who knows the truth."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.data.datasets import msd
from bundle.data.grid import check_grid
from bundle.data.volume import read_label, read_volume
from bundle.errors import OptionError
from bundle.prompts.simulation import tight_box
from monailabel_app.demo.slicer_user import load_slicer_client
from monailabel_app.server.launch import ServerError, running_server

TRAINER = "finetune"
_PATIENCE = 3600.0  # seconds that a training, or the scores of all images, may take
_HELD_OUT = 6  # images that are asked for with a box, before and after


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
        What happened in each round, with the DSC of a box on held-out images after each training, and that before.
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
            trains = TRAINER in annotator.client.info()["trainers"]
            before, played = annotator.box_dsc(held_out), []
            for number in range(1, rounds + 1):
                now = trains and (train_after is None or number in train_after)
                played.append(annotator.round(strategy, cases, options if now else None))
                if now:
                    played[-1]["dsc"] = annotator.box_dsc(held_out)
    return {
        "strategy": strategy,
        "data": data.name,
        "images": len(cases),
        "trained": trains,
        "rounds": played,
        "dsc_before": before,
    }


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

    def box_dsc(self, cases: Sequence[Case]) -> float:
        """Mean DSC of ``sam_2d`` with a box around each structure, on the slice that shows most of it."""
        found = []
        for case in cases:
            volume = read_volume(case.image)
            truth = check_grid(volume, read_label(case.label)).array
            for name, value in case.names.items():
                mask = truth == value
                if mask.any():
                    found.append(self._dsc_of_box(case, name, mask))
        return round(float(np.mean(found)), 4)

    def _dsc_of_box(self, case: Case, name: str, mask: np.ndarray) -> float:
        index = int(mask.sum(axis=(0, 1)).argmax())
        i0, j0, i1, j1 = (int(v) for v in tight_box(mask[:, :, index].T)[[0, 1, 2, 3]])
        params = {"label": name, "roi": [i0, i1, j0, j1, index, index], "result_extension": ".nrrd"}
        file, _ = self.client.infer("sam_2d", "", params, file=str(case.image))
        answer = read_label(file).array[:, :, index] != 0
        Path(file).unlink()
        return float(2 * (answer & mask[:, :, index]).sum() / (answer.sum() + mask[:, :, index].sum()))
