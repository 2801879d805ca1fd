"""Tune the parameters by which an object is followed through a volume, on volumes that are not for testing.

    python scripts/tune_following.py --output runs/following                # 3 phantoms that no network was trained on
    python scripts/tune_following.py --output runs/following --case ct.nii.gz labels.nii.gz --rules swells unsure

Every parameter of ``PropagationRule`` takes some values, one at a time, the others being as shipped. With each, every
object is started by a 3D box, a 2D box on its largest slice and a point in it, and corrected by clicks at the centre of
the largest wrong region. It prints the mean DSC at the start and after the clicks, and how many objects ended more than
0.02 below their start, and leaves `result.json`, the DSC of each object. A killed run goes on when it is started again.
"""

from __future__ import annotations

import bundle  # noqa: F401, chooses how threads wait, before PyTorch is loaded

# isort: split

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bundle.data.grid import check_grid
from bundle.data.synthetic.phantom import PHANTOM_LABELS, make_phantom
from bundle.data.volume import Volume, read_label, read_volume
from bundle.errors import explain_errors
from bundle.evaluation.cases import VolumeCase
from bundle.evaluation.models import open_volumes
from bundle.evaluation.protocols import Box, ClickProtocol, Points
from bundle.evaluation.records import Records
from bundle.evaluation.runner import EvaluationSettings, Prompting, evaluate
from bundle.evaluation.statistics import curve
from bundle.evaluation.volume_table import rule_table
from bundle.files import write_text
from bundle.interactive.propagation import PropagationRule
from bundle.interactive.segmenter import Segmenter
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_following import SliceFollowing

AS_SHIPPED = "as shipped"
VALUES: dict[str, tuple[float, ...]] = {
    "surer": (0.0, 0.01, 0.05),
    "unsure": (0.0, 0.02, 0.1, 1.0),
    "swells": (1.0, 1.5, 3.0, 1000.0),
    "margin": (0.02, 0.1),
    "growth": (1.05, 1.3),
    "smallest_iou": (0.3, 0.6),
    "smallest_share": (0.005, 0.05),
    "shade": (3.0, 6.0),
    "farthest_mm": (0.0, 3.0),
}
"""Parameter -> values beside the shipped one; `unsure` 1 and `swells` 1000 carry every correction on to the end."""
STARTS = {"3D box": Box(), "2D box": Box("largest", flat=True), "point": Points(1)}
FIRST_SEED = 1000  # of phantoms; those below are trained on
HARM = 0.02


def main(argv: Sequence[str] | None = None) -> None:
    """Play what is missing and write the table."""
    explain_errors()
    options = _options(argv)
    segmenter = Segmenter.from_family(options.family, checkpoint=options.checkpoint, device=options.device)
    cases, organs = _cases(options, segmenter)
    records = {}
    for name, rule in _rules(segmenter, options.rules).items():
        records[name] = play(segmenter, rule, cases, organs, folder=options.output / name, clicks=options.clicks)
    result = result_of(records, options.clicks)
    write_text(options.output / "result.json", json.dumps(result, indent=1) + "\n")
    print(rule_table(result).as_markdown())


def play(
    segmenter: Segmenter,
    rule: PropagationRule,
    cases: Mapping[str, Callable[[], VolumeCase]],
    organs: Mapping[str, Mapping[int, str]],
    *,
    folder: Path,
    clicks: int,
) -> Records:
    """What every object of some volumes comes to with a rule, from every start and after every click."""
    protocols = {name: ClickProtocol(start, clicks=clicks) for name, start in STARTS.items()}
    settings = EvaluationSettings(
        tuple(protocols), model=f"{segmenter.predictor.identity} {asdict(rule)} {clicks}", data=" ".join(cases)
    )

    def opened(volume: Volume) -> InteractiveSession:
        return InteractiveSession(volume, segmenter.predictor, rule=rule)

    def user(key: str, case: VolumeCase):  # noqa: ANN202, see Prompting
        return Prompting(open_volumes(opened), organs[key], protocols, settings)(key, case)

    return evaluate(user, cases, folder=folder, settings=settings)


def result_of(records: Mapping[str, Records], clicks: int) -> dict[str, Any]:
    """For each rule and start the DSC of every object at the start and after the clicks, see ``rule_table``."""
    rows = []
    for name, found in records.items():
        for start in STARTS:
            objects: dict[tuple[str, str], list[float]] = {}
            for row in found:
                if row["protocol"] == start:
                    objects.setdefault((row["key"], row["organ"]), []).append(row["dsc"])
            curves = [curve(dsc, clicks + 1) for dsc in objects.values()]
            first, last = ([round(float(dsc[step]), 4) for dsc in curves] for step in (0, -1))
            rows.append({"rule": name, "start": start, "first": first, "last": last})
    volumes = list(dict.fromkeys(row["key"] for found in records.values() for row in found))
    return {"clicks": clicks, "harm": HARM, "volumes": volumes, "rows": rows}


def _rules(segmenter: Segmenter, names: Sequence[str]) -> dict[str, PropagationRule]:
    shipped = SliceFollowing(segmenter.predictor).rule
    varied = {f"{name} {value:g}": replace(shipped, **{name: value}) for name in names for value in VALUES[name]}
    return {AS_SHIPPED: shipped, **varied}


def _cases(
    options: argparse.Namespace, segmenter: Segmenter
) -> tuple[dict[str, Callable[[], VolumeCase]], dict[str, Mapping[int, str]]]:
    """Key -> opens the volume, and key -> its objects; the key of files is their paths as they were given."""
    contract = segmenter.family.contract
    cases: dict[str, Callable[[], VolumeCase]] = {}
    organs: dict[str, Mapping[int, str]] = {}
    for image, label in options.case:
        labels = np.unique(read_label(label).array)
        key = f"{image} {label}"  # files of two folders may have one name, and an image two label maps
        cases[key] = partial(_read, key, image, label, contract=contract)
        organs[key] = {int(value): f"label {value}" for value in labels if value}
    for seed in range(FIRST_SEED, FIRST_SEED + (0 if options.case else options.phantoms)):
        cases[f"phantom {seed}"] = partial(_phantom, seed, contract=contract)
        organs[f"phantom {seed}"] = {value: name for name, value in PHANTOM_LABELS.items()}
    return cases, organs


def _read(key: str, image: str, label: str, *, contract) -> VolumeCase:  # noqa: ANN001, as VolumeCase takes it
    volume = read_volume(image)
    return VolumeCase(key, volume, check_grid(volume, read_label(label)), contract=contract)


def _phantom(seed: int, *, contract) -> VolumeCase:  # noqa: ANN001
    image, labels, _ = make_phantom(seed=seed)
    return VolumeCase(f"phantom {seed}", image, labels, contract=contract)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run")
    parser.add_argument("--family", default="default")
    parser.add_argument("--checkpoint", type=Path, help="weights; without it the family's own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clicks", type=int, default=3, help="corrections of each object (default: 3)")
    parser.add_argument("--phantoms", type=int, default=3, help="how many, where no --case is given (default: 3)")
    parser.add_argument("--case", nargs=2, action="append", default=[], metavar=("IMAGE", "LABEL"), help="may repeat")
    parser.add_argument("--rules", nargs="+", choices=list(VALUES), default=list(VALUES), metavar="PARAMETER")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
