"""One training, in a process of its own: ``python -m monailabel_app.learning.job FOLDER``.

It reads ``request.json`` of its folder and leaves ``candidate.safetensors`` and ``result.json``: whether the candidate
is good enough is decided here (``gate``), the server publishes it. It can be killed at any moment and started again.
``progress.json`` says how far it is.
"""

from __future__ import annotations

import bundle  # noqa: F401, chooses how threads wait, before PyTorch is loaded

# isort: split

import json
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bundle.data.labelled_slice import LabelledSlice
from bundle.data.labelled_slices import phantom_pool, read_pool
from bundle.data.synthetic.phantom import PHANTOM_LABELS
from bundle.errors import explain_errors
from bundle.families.checkpoints import open_checkpoint, save_checkpoint
from bundle.families.family import Family, build_network, load_family
from bundle.files import read_json, write_text
from bundle.interactive.segmenter import Segmenter
from bundle.layers import run_layers
from monailabel_app.learning.gate import (
    HELD_OUT,
    REPLAY,
    Score,
    Verdict,
    judge,
    judge_labels,
    mean_of,
    measure,
    measure_shapes,
    score_rows,
    scores_from_rows,
)
from monailabel_app.learning.jobs import BEFORE
from monailabel_app.learning.material import MAX_SIDE, TRAINING, VALIDATION, write_material
from monailabel_app.learning.weights import plain_weights, start_of, with_share

logger = logging.getLogger(__name__)

ORGAN_NAMES = {value: name for name, value in PHANTOM_LABELS.items()}
REPLAY_SEEDS = (2000, 2001)  # phantoms that the gate asks for; the training's own are 1000 to 1005
SHARES = {"patients": (1.0, 0.5, 0.25), "slices": (0.5, 0.25)}
"""How much of the change is tried (``with_share``), by what is held out. Other slices of the patient that trained look
like those that did, so that they cannot tell what holds for this patient alone: half of the change at most."""
_STEPS_PER_EPOCH = 10  # how much a training that is killed does again
_LEAST = 0.25  # of the budget is left for training, however long the reading took
_PRIVATE = 0o600


@dataclass(frozen=True)
class Request:
    """What a job is to do, as the server wrote it.

    Attributes:
        options: of ``read_options``.
        accepted: the labels, of ``accepted_labels``.
        sides: patient -> "training" or "validation".
        family: name, or file, of the network's family.
        base: checkpoint that training starts from.
        active: checkpoint that is served now.
        cores: that the budget counts, and threads of the training.
        device: where the network runs; None chooses.
        replay: file that remembers how the base does on the replay set.
    """

    options: dict[str, Any]
    accepted: list[dict[str, Any]]
    sides: dict[str, str]
    family: str
    base: str
    active: str
    cores: int
    device: str | None
    replay: str

    @property
    def seconds(self) -> float:
        """The budget: seconds of computing, of all cores together."""
        return self.options["minutes"] * 60.0 * self.cores


def report_stage(folder: Path, name: str) -> None:
    """Say what is done now, in the log and in the file that the server shows."""
    write_text(folder / "progress.json", json.dumps({"stage": name}), mode=_PRIVATE)
    logger.info("%s", name)


def run(folder: Path) -> dict[str, Any]:
    """Do the job of a folder; the content of its ``result.json``."""
    request = Request(**read_json(folder / "request.json"))
    torch.set_num_threads(request.cores)
    family = load_family(request.family)
    report_stage(folder, "reading the labels")
    data = write_material(request.accepted, request.sides, folder / "data")
    names = {int(value): name for value, name in data["labels"].items() if int(value)}
    training, held_out = (
        read_pool(_items(folder / "data", data[side]), contract=family.contract, max_side=MAX_SIDE)
        for side in (TRAINING, VALIDATION)
    )
    replay = phantom_pool(REPLAY_SEEDS, contract=family.contract)
    report_stage(folder, "measuring the network that is served")
    before = kept_scores(folder / BEFORE, lambda: scores_before(request, training, held_out, replay, names))
    training = ()  # room for the recipe, which reads its own
    report_stage(folder, "training")
    trained = train(request, family, folder, used=time.process_time())
    base = plain_weights(build_network(family, checkpoint=request.base))
    change = plain_weights(build_network(family, checkpoint=trained))

    def scores(share: float) -> list[Score]:
        report_stage(folder, f"judging {share:.0%} of the change")
        return kept_scores(
            folder / f"after-{share:g}.json",
            lambda: scores_after(request, family, with_share(family, base, change, share), held_out, replay, names),
        )

    whole = scores(1.0)
    verdict, share, after = choose_share(before, whole, scores, SHARES[data["held_out"]])
    notes = open_checkpoint(trained).metadata
    metadata = {
        name: notes[name] for name in ("family", "contract", "labels", "training_data", "steps") if name in notes
    }
    metadata |= {"recipe": "accepted", "tuning": request.options["tuning"], "share": share}
    save_checkpoint(with_share(family, base, change, share), folder / "candidate.safetensors", metadata=metadata)
    result = {
        "accepted": verdict.accepted,
        "reasons": list(verdict.reasons),
        "share": share,
        "before": score_rows(before),
        "after": score_rows(after),
        "whole": score_rows(whole),
        "dsc": _pair(before, after, "dsc"),
        "nsd": _pair(before, after, "nsd"),
        "held_out": data["held_out"],
        "labels": data["accepted"],
        "patients": len(set(request.sides)),
        "structures": list(names.values()),
        "steps": notes.get("steps"),
        "seconds": round(time.process_time(), 1),
    }
    write_text(folder / "result.json", json.dumps(result, indent=1), mode=_PRIVATE)
    report_stage(folder, "good enough" if verdict.accepted else "refused")
    return result


def choose_share(
    before: Sequence[Score],
    whole: Sequence[Score],
    scores: Callable[[float], Sequence[Score]],
    shares: Sequence[float],
) -> tuple[Verdict, float, Sequence[Score]]:
    """The first share of the change that loses nothing, and its scores; else the last. None is tried of wrong labels.

    Args:
        before: of ``scores_before``.
        whole: of all of the change.
        scores: measures a share.
        shares: that are tried, the largest first.
    """
    verdict, share, after = judge_labels(before, whole), 1.0, whole
    if verdict.accepted:
        for share in shares:
            after = scores(share)
            verdict = judge(before, after)
            if verdict.accepted:
                break
            logger.info("%s", "; ".join(verdict.reasons))
    return verdict, share, after


def scores_before(
    request: Request,
    training: Sequence[LabelledSlice],
    held_out: Sequence[LabelledSlice],
    replay: Sequence[LabelledSlice],
    names: Mapping[int, str],
) -> list[Score]:
    """What must not be lost: of the network that is served, and of the base on the replay set, once for all jobs.

    And what the mean shape of the labels that train has in the boxes of the held-out ones, which has to be surpassed.
    """

    def of_base() -> list[Score]:
        base = Segmenter.from_family(request.family, checkpoint=request.base, device=request.device)
        return measure(base.predictor, replay, ORGAN_NAMES, part=REPLAY)

    active = Segmenter.from_family(request.family, checkpoint=request.active, device=request.device)
    served = measure(active.predictor, held_out, names, part=HELD_OUT, seed=request.options["seed"])
    shapes = measure_shapes(held_out, training, names, seed=request.options["seed"])
    return served + shapes + kept_scores(Path(request.replay), of_base)


def scores_after(
    request: Request,
    family: Family,
    network: nn.Module,
    held_out: Sequence[LabelledSlice],
    replay: Sequence[LabelledSlice],
    names: Mapping[int, str],
) -> list[Score]:
    """How a trained network does on both sets."""
    predictor = Segmenter(family, network, device=request.device).predictor
    served = measure(predictor, held_out, names, part=HELD_OUT, seed=request.options["seed"])
    return served + measure(predictor, replay, ORGAN_NAMES, part=REPLAY)


def kept_scores(path: Path, scores: Callable[[], list[Score]]) -> list[Score]:
    """What a file remembers, measured if there is none."""
    if not path.is_file():
        write_text(path, json.dumps(score_rows(scores())), mode=_PRIVATE)
    return scores_from_rows(read_json(path))


def train(request: Request, family: Family, folder: Path, *, used: float) -> Path:
    """Run the recipe; its checkpoint.

    Args:
        used: seconds of computing so far. As many are kept for judging.
    """
    out = folder / "training"
    if (done := out / "best.safetensors").is_file():
        return done
    options = request.options
    run_layers(
        [
            "train",
            "recipes/default",
            "tuning/finetune",
            "datasets/prepared",
            f"tuning/{options['tuning']}",
            "tuning/accepted",
        ],
        {
            "family_name": request.family,
            "start": str(start_of(request.base, family, folder)),
            "dataset_dir": str(folder / "data"),
            "output_dir": str(out),
            "run_name": "accepted",
            "epochs": max(1, math.ceil(options["steps"] / _STEPS_PER_EPOCH)),
            "steps_per_epoch": options["steps"] // math.ceil(options["steps"] / _STEPS_PER_EPOCH),  # at most in all
            "learning_rate": options["learning_rate"] or None,
            "replay_share": options["replay_share"],
            "seed": options["seed"],
            "threads": request.cores,
            "budget_seconds": max(_LEAST * request.seconds, request.seconds - 2 * used),
        },
        wiring={"validation_pool": "@training_pool"},  # who judges is the gate; it has read the held-out labels
    )
    return done


def _items(folder: Path, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**entry, "label": str(folder / entry["label"])} for entry in entries]


def _pair(before: Sequence[Score], after: Sequence[Score], score: str) -> dict[str, float]:
    """Before and after on the held-out labels."""
    return {"before": round(mean_of(before, score), 4), "after": round(mean_of(after, score), 4)}


def _end_with_the_server() -> None:
    """End when the server does: it holds the other end of our standard input."""

    def wait() -> None:
        while os.read(0, 4096):  # not sys.stdin, whose lock this thread would hold when the interpreter ends
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Become the job of a folder."""
    explain_errors()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    if hasattr(os, "nice"):
        os.nice(19)
    _end_with_the_server()
    run(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
