"""What a server learns from one and from five accepted labels, and from wrong ones, on real images.

    python scripts/measure_learning.py --data ../shared/data --output runs/learning

Structure: the two halves of the hippocampus in T1 MR (MSD Task04, every second case), which version 7 of the shipped
model has never seen; version 8 was trained on some of it, so give version 7 as --checkpoint. The labels of the first
patients are accepted one after the other; each training is the server's own job (monailabel_app.learning.job) with the
options of "learn while annotating": LoRA, 2 minutes of 2 cores. Other patients, who never train nor judge, are then
segmented by simulated users before and after: a box, a point, and clicks from a point until DSC 0.90 on single slices.
The liver and the pancreas of the validation patients of abdomen-ct-2d say what is unlearned. The defaults of a training
were chosen on other patients of the hippocampus and on other slices of the abdomen. Twice the five labels are
wrong, and the gate has to refuse what comes of them: `moved` by a third of the structure's width, and `swapped`, the
label of the next patient on each image. `--runs "5 swapped labels"` does one of them alone, as after a change of the
gate. It ends in learning.json and table.md. Every part is kept in the folder and not done again.
"""

from __future__ import annotations

import bundle  # noqa: F401, chooses how threads wait, before PyTorch is loaded

# isort: split

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import ResizeWithPadOrCrop
from tqdm import tqdm

from bundle.data.datasets import Item, msd
from bundle.data.labelled_slices import LabelledSlice, read_pool
from bundle.data.volume import read_label, write_label
from bundle.errors import explain_errors
from bundle.evaluation.cases import SliceCase
from bundle.evaluation.interaction import run_protocol
from bundle.evaluation.learning_table import BEFORE, gate_table, learning_rows, learning_table
from bundle.evaluation.models import open_slices
from bundle.evaluation.protocols import object_rng, protocol_named
from bundle.families.family import find_weights, load_family
from bundle.files import read_json, sha256_of, write_text
from bundle.interactive.segmenter import Segmenter
from bundle.layers import remember_settings
from monailabel_app.learning.gate import HELD_OUT, SHAPE, mean_dsc_in_boxes, scores_from_rows
from monailabel_app.learning.jobs import job_environment
from monailabel_app.learning.material import split_patients
from monailabel_app.learning.options import BACKGROUND, read_options

RUNS: dict[str, tuple[int, str]] = {
    "1 label": (1, ""),
    "5 labels": (5, ""),
    "5 moved labels": (5, "moved"),
    "5 swapped labels": (5, "swapped"),
}
"""Name -> how many labels, and how they are wrong."""
SETS = {"hippocampus": "ct-mr/msd-hippocampus-mr-3d", "abdomen": "abdomen-ct-2d"}
ORGANS = {"hippocampus": {1: "anterior", 2: "posterior"}, "abdomen": {1: "liver", 2: "pancreas"}}
PROTOCOLS = {"box": "box_jitter_20", "clicks": "clicks_from_point_4"}
LABELLED = max(count for count, _ in RUNS.values())  # patients whose labels are accepted
PATIENTS = 6  # whose hippocampus is segmented before and after
CHOSEN_ON = 8  # slices of each organ that the defaults of a training were chosen on
DATALIST = "datalist.json"


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing; the result is written after each part, and its table printed at the end."""
    options = arguments(argv)
    base = find_weights(options.checkpoint or "default").resolve()
    settings = {"minutes": options.minutes, "objects": options.per_structure} | dict(options.train)
    remember_settings(options.output, {**settings, "weights": sha256_of(base)[:16]})
    items = msd(options.data / SETS["hippocampus"], datalist=DATALIST)
    slices = {
        "hippocampus": read_slices(spread_patients(items)),
        "abdomen": read_slices(validation_items(options.data / SETS["abdomen"], options.per_structure)),
    }
    played, results = {BEFORE: evaluate(BEFORE, base, slices, options)}, {}
    for name in options.runs:
        folder = learn(name, items[:LABELLED], base, options)
        results[name] = read_json(folder / "result.json")
        if results[name]["accepted"]:  # nobody is answered by one that is refused
            played[name] = evaluate(name, folder / "candidate.safetensors", slices, options)
        result = summary(played, results, options)
        write_text(options.output / "learning.json", json.dumps(result, indent=1) + "\n")
        write_text(options.output / "table.md", page(result))
    print(page(result))


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
    return parser.parse_args(argv)


def validation_items(root: Path, count: int) -> list[Item]:
    """So many slices of the liver and of the pancreas, of patients who validated the shipped model."""
    items = [item for item in msd(root, datalist=DATALIST) if item.get("split") == "validation"]
    by_organ = [[item for item in items if Path(item["image"]).name.startswith(o)] for o in ORGANS["abdomen"].values()]
    unused = [[item for item in some if item not in _each(some, CHOSEN_ON)] for some in by_organ]
    return [item for some in unused for item in _each(some, count)]


def spread_patients(items: Sequence[Item]) -> list[Item]:
    """``PATIENTS`` of those whose labels are not accepted, halfway between those that the defaults were chosen on."""
    step = len(items) // PATIENTS
    return list(items[LABELLED + step // 2 :: step][:PATIENTS])


def _each(items: Sequence[Item], count: int) -> list[Item]:
    return list(items[:: max(1, len(items) // count)][:count])


def read_slices(items: Sequence[Item]) -> list[LabelledSlice]:
    """Slices with the views of the shipped family."""
    return read_pool(items, contract=load_family("default").contract, max_side=512)


def learn(name: str, items: Sequence[Item], base: Path, options: argparse.Namespace) -> Path:
    """Run the server's job on the labels of the first patients, from the weights `base`; its folder."""
    folder, (count, wrong) = folder_of(name, options), RUNS[name]
    if (folder / "result.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    accepted = [accepted_label(items, number, folder, wrong) for number in range(count)]
    request = {
        "options": read_options({**dict(options.train), "minutes": options.minutes * 2 / options.cores}),
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
    print(f"training on {name}", flush=True)
    command = [sys.executable, "-m", "monailabel_app.learning.job", str(folder)]
    with (folder / "log.txt").open("ab") as log:
        # A job ends when the other end of its standard input closes.
        environment = job_environment(options.cores)
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment)
        if process.wait():
            sys.exit(f"the training on {name} ended with {process.returncode}; {folder / 'log.txt'} says why")
    return folder


def folder_of(name: str, options: argparse.Namespace) -> Path:
    """Where a training leaves what it made."""
    return options.output / name.replace(" ", "_")


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


def evaluate(
    name: str, checkpoint: Path, slices: Mapping[str, Sequence[LabelledSlice]], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Every object's scores, of each prompt; kept in a file."""
    path = folder_of(name, options).with_suffix(".json")
    if path.is_file():
        return read_json(path)
    predict = open_slices(Segmenter.from_family("default", checkpoint=checkpoint).predictor)
    chosen = [
        (part, value, one) for part, value in structures() for one in spread(slices[part], value, options.per_structure)
    ]
    records = []
    for part, value, labelled in tqdm(chosen, desc=f"segmenting with {name}"):
        case, structure = SliceCase(labelled), ORGANS[part][value]
        for prompt, protocol in PROTOCOLS.items():
            played = run_protocol(
                protocol_named(protocol),
                predict(case),
                case.labels == value,
                rng=object_rng(0, f"{labelled.key} {structure}"),
                spacing=case.spacing,
            )
            scores = [{"dsc": round(one.score.dsc, 4), "nsd": round(one.score.nsd, 4)} for one in played]
            records.append({"structure": structure, "patient": labelled.patient, "prompt": prompt, "scores": scores})
    write_text(path, json.dumps(records))
    return records


def structures() -> list[tuple[str, int]]:
    """Set and label value of everything that is segmented."""
    return [(part, value) for part, names in ORGANS.items() for value in names]


def spread(slices: Sequence[LabelledSlice], value: int, count: int) -> list[LabelledSlice]:
    """So many slices that show a structure, evenly over all."""
    shown = [one for one in slices if value in one.ids]
    return [shown[int((number + 0.5) * len(shown) / count)] for number in range(min(count, len(shown)))]


def summary(
    played: Mapping[str, Sequence[Mapping[str, Any]]],
    results: Mapping[str, Mapping[str, Any]],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """What docs/learning.md shows: the answers of each published network, and what the gate said to each training."""
    return {
        "settings": read_json(options.output / "settings.json"),
        "rows": learning_rows(played),
        "gate": [{"network": name, **judged(result)} for name, result in results.items()],
    }


def judged(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the gate said to a training, and what it asks of boxes."""
    told = ("accepted", "reasons", "share", "steps", "seconds", "held_out", "dsc", "nsd")
    asked = {"box": ("after", HELD_OUT), "shape": ("before", SHAPE)}
    boxes = {name: mean_dsc_in_boxes(scores_from_rows(result[when]), part) for name, (when, part) in asked.items()}
    return {**{key: result[key] for key in told}, **{name: round(dsc, 4) for name, dsc in boxes.items()}}


def page(result: Mapping[str, Any]) -> str:
    """Both tables."""
    return f"{learning_table(result).as_markdown().strip()}\n\n{gate_table(result).as_markdown().strip()}\n"


if __name__ == "__main__":
    explain_errors()
    main()
