"""What a server learns from one and from five accepted labels, and from wrong ones, on real images.

    python scripts/measure_learning.py --data ../shared/data --output runs/learning

Structure: the two halves of the hippocampus, which version 7 of the shipped model has never seen; version 8 was trained
on some of it, so give version 7 as --checkpoint. The labels of the first patients are accepted one after the other;
each training is the server's own job (monailabel_app.learning.job) with the options of "learn while annotating": LoRA,
2 minutes of 2 cores. Other patients (bundle/evaluation/learning_objects.py) are then segmented by simulated users
before and after: a box, a point, and clicks from a point until DSC 0.90 on single slices. Twice the five labels are
wrong, and the gate has to refuse what comes of them: `moved` by a third of the structure's width, and `swapped`, the
label of the next patient on each image. `--runs "1 label" --seeds 0 1 2` trains on one label three times. It ends in
learning.json.

With `--shares 1 0.5 0.25` nothing is trained: the networks between the base and each training of the folder (Wortsman
et al. 2022) are asked for the objects that the settings of a training are chosen on; shares.json.

Every part is kept in the folder and not done again.
"""

from __future__ import annotations

import bundle  # noqa: F401, chooses how threads wait, before PyTorch is loaded

# isort: split

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import ResizeWithPadOrCrop

from bundle.data.datasets import Item
from bundle.data.volume import read_label, write_label
from bundle.errors import explain_errors
from bundle.evaluation.learning_objects import (
    evaluate,
    items_that_choose,
    items_that_measure,
    labelled_patients,
    read_slices,
)
from bundle.evaluation.learning_table import BEFORE, gate_table, learning_rows, learning_table
from bundle.families.family import build_network, find_weights, load_family
from bundle.files import read_json, sha256_of, write_text
from bundle.interactive.segmenter import Segmenter
from bundle.interactive.slice_model import SlicePredictor
from bundle.layers import remember_settings
from monailabel_app.learning.gate import HELD_OUT, SHAPE, mean_dsc_in_boxes, scores_from_rows
from monailabel_app.learning.jobs import job_environment
from monailabel_app.learning.material import split_patients
from monailabel_app.learning.options import BACKGROUND, read_options
from monailabel_app.learning.weights import plain_weights, with_share

RUNS: dict[str, tuple[int, str]] = {
    "1 label": (1, ""),
    "5 labels": (5, ""),
    "5 moved labels": (5, "moved"),
    "5 swapped labels": (5, "swapped"),
}
"""Name -> how many labels, and how they are wrong."""
BEFORE_FILE = f"{BEFORE}.json"


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing; the results are written after each part, and the tables printed at the end."""
    options = arguments(argv)
    base = find_weights(options.checkpoint or "default").resolve()
    settings = {"minutes": options.minutes, "objects": options.per_structure} | dict(options.train)
    remember_settings(options.output, {**settings, "weights": sha256_of(base)[:16]})
    if options.shares:
        choose_share(base, options)
    else:
        measure(base, options)


def measure(base: Path, options: argparse.Namespace) -> None:
    """Train, judge, and ask what is published for objects; learning.json tells of all that lies in the folder."""
    items, count = labelled_patients(options.data), options.per_structure
    slices = read_slices(items_that_measure(options.data, count))
    evaluate(options.output / BEFORE_FILE, slices, count, partial(open_checkpoint, base))
    for name, seed in product(options.runs, options.seeds):
        folder = learn(name, seed, items, base, options)
        if file := played_file(folder):
            evaluate(file, slices, count, partial(open_checkpoint, folder / "candidate.safetensors"))
        result = summary(options)
        write_text(options.output / "learning.json", json.dumps(result, indent=1) + "\n")
    print(f"{learning_table(result).as_markdown()}\n{gate_table(result).as_markdown()}")


def choose_share(base: Path, options: argparse.Namespace) -> None:
    """Ask networks between the base and each training of the folder for the objects that choose; shares.json."""
    slices = read_slices(items_that_choose(options.data))
    ask = partial(evaluate, slices=slices, count=options.per_structure)
    played = {BEFORE: [ask(options.output / "before-chosen.json", predictor=partial(open_checkpoint, base))]}
    for name, share in product(options.runs, options.shares):
        for folder in trainings_of(name, options).values():
            answers = ask(folder / f"share-{share:g}.json", predictor=partial(open_share, base, folder, share))
            played.setdefault(f"{name}, {share:.0%}", []).append(answers)
    result = {"rows": learning_rows(played)}
    write_text(options.output / "shares.json", json.dumps(result, indent=1) + "\n")
    print(learning_table(result).as_markdown())


def open_checkpoint(checkpoint: Path) -> SlicePredictor:
    """A network of the shipped family."""
    return Segmenter.from_family("default", checkpoint=checkpoint).predictor


def open_share(base: Path, folder: Path, share: float) -> SlicePredictor:
    """The network that has a share of what a training changed."""
    family, trained = load_family("default"), folder / "training" / "best.safetensors"
    first, second = (plain_weights(build_network(family, checkpoint=path)) for path in (base, trained))
    return Segmenter(family, with_share(family, first, second, share)).predictor


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds ct-mr and abdomen-ct-2d")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run; it can be continued")
    parser.add_argument("--checkpoint", type=Path, help="what is tuned; by default the shipped weights")
    parser.add_argument("--minutes", type=float, default=BACKGROUND["minutes"], help="of two cores, for each training")
    parser.add_argument("--cores", type=int, default=2, help="that compute; with one, a training takes twice as long")
    parser.add_argument(
        "--per-structure", type=int, default=12, help="of each structure, that are segmented before and after"
    )
    parser.add_argument(
        "--train", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="other options of the training"
    )
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS), help="by default all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of each run's trainings, by default one")
    parser.add_argument(
        "--shares", nargs="+", type=float, help="train nothing, but try these shares of the trainings' changes"
    )
    return parser.parse_args(argv)


def learn(name: str, seed: int, items: Sequence[Item], base: Path, options: argparse.Namespace) -> Path:
    """Run the server's job on the labels of the first patients, from the weights `base`; its folder."""
    folder, (count, wrong) = folder_of(name, seed, options), RUNS[name]
    if (folder / "result.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    accepted = [accepted_label(items, number, folder, wrong) for number in range(count)]
    request = {
        "options": read_options({**dict(options.train), "seed": seed, "minutes": options.minutes * 2 / options.cores}),
        "accepted": accepted,
        "sides": split_patients([one["patient"] for one in accepted], options.output / "split.json"),
        "family": "default",
        "base": str(base),
        "active": str(base),
        "cores": options.cores,
        "device": None,
        "replay": str(options.output / f"phantoms-{sha256_of(base)[:16]}.json"),
    }
    write_text(folder / "request.json", json.dumps(request))
    print(f"training on {name}, seed {seed}", flush=True)
    command = [sys.executable, "-m", "monailabel_app.learning.job", str(folder)]
    with (folder / "log.txt").open("ab") as log:
        # A job ends when the other end of its standard input closes.
        environment = job_environment(options.cores)
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment)
        if process.wait():
            sys.exit(f"the training on {name} ended with {process.returncode}; {folder / 'log.txt'} says why")
    return folder


def folder_of(name: str, seed: int, options: argparse.Namespace) -> Path:
    """Where a training leaves what it made."""
    return options.output / f"{name.replace(' ', '_')}_seed_{seed}"


def trainings_of(name: str, options: argparse.Namespace) -> dict[int, Path]:
    """Seed -> folder of each training that was judged."""
    found = options.output.glob(f"{name.replace(' ', '_')}_seed_*/result.json")
    return dict(sorted((int(path.parent.name.rpartition("_")[2]), path.parent) for path in found))


def played_file(folder: Path) -> Path | None:
    """Of what the published network answers; None where the gate has refused it, so that it answers nobody."""
    result = read_json(folder / "result.json")
    return folder / f"played-{result['share']:g}.json" if result["accepted"] else None


def accepted_label(items: Sequence[Item], number: int, folder: Path, wrong: str) -> dict[str, Any]:
    """What the server knows of a patient's label, which may be moved, or that of the next patient."""
    item, label = items[number], Path(items[number]["label"])
    if wrong:
        truth = read_label(label)
        other = truth if wrong == "moved" else read_label(items[(number + 1) % len(items)]["label"])
        label = write_label(WRONG[wrong](other.array, truth.array.shape), truth, folder / f"{item['patient']}.nii.gz")
    return {"image": str(item["image"]), "label": str(label), "names": item["labels"], "patient": item["patient"]}


def moved(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Labels (I, J, K) a third of the structure's width beside their place, along the first axis."""
    width = np.ptp(np.flatnonzero(labels.any(axis=(1, 2)))) + 1
    return np.roll(labels, max(1, width // 3), axis=0)


def swapped(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Labels of another image in the middle of one of this shape, cut off at its faces."""
    return ResizeWithPadOrCrop(shape)(labels[None])[0].numpy().astype(labels.dtype)


WRONG = {"moved": moved, "swapped": swapped}


def summary(options: argparse.Namespace) -> dict[str, Any]:
    """What docs/learning.md shows: the answers of the published networks, and what the gate said to each training."""
    played, gate = {BEFORE: [read_json(options.output / BEFORE_FILE)]}, []
    for name in RUNS:
        for seed, folder in trainings_of(name, options).items():
            gate.append({"network": name, "seed": seed, **judged(read_json(folder / "result.json"))})
            if (file := played_file(folder)) and file.is_file():
                played.setdefault(name, []).append(read_json(file))
    return {"settings": read_json(options.output / "settings.json"), "rows": learning_rows(played), "gate": gate}


def judged(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the gate said to a training, and what it asks of boxes."""
    told = ("accepted", "reasons", "share", "steps", "seconds", "held_out", "dsc", "nsd")
    asked = {"box": ("whole", HELD_OUT), "shape": ("before", SHAPE)}
    boxes = {name: mean_dsc_in_boxes(scores_from_rows(result[when]), part) for name, (when, part) in asked.items()}
    return {**{key: result[key] for key in told}, **{name: round(dsc, 4) for name, dsc in boxes.items()}}


if __name__ == "__main__":
    explain_errors()
    main()
