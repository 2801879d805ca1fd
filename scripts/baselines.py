"""Scores what a box gives without learning (ellipse, Otsu, GrabCut, random walker) on a data list of slices.

    python scripts/baselines.py --datalist ../shared/data/abdomen-ct-2d/datalist.json --output runs/baselines

Boxes are tight, with each side moved outward by 0..5 pixels of 256; NSD is at 2 pixels of 256.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bundle.data.datasets import msd
from bundle.data.labelled_slices import read_pool
from bundle.errors import explain_errors
from bundle.evaluation.baselines import BASELINES
from bundle.evaluation.models import open_baseline
from bundle.evaluation.report import write_report
from bundle.evaluation.study import SliceStudy
from bundle.families.family import load_family

PROTOCOL = "box_jitter_20"


def main() -> None:
    """Evaluate every baseline, write a report and print where it is."""
    options = _options()
    items = [
        item for item in msd(options.datalist.parent, datalist=options.datalist.name) if item["split"] == options.items
    ]
    slices = read_pool(items, contract=load_family("default").contract, max_side=256, min_pixels=1)
    organs = {value: name for name, value in items[0]["labels"].items()}
    runs, overlays = {}, {}
    for name, baseline in BASELINES.items():
        study = SliceStudy(
            open_baseline(baseline),
            slices,
            organs=organs,
            protocols=[PROTOCOL],
            folder=options.output / name,
            seed=options.seed,
        )
        runs[name] = study.evaluate()
        overlays |= {f"{name}: {heading}": cases for heading, cases in study.overlays(runs[name]).items()}
    settings = study.settings
    description = [f"{len(slices)} slices of the {options.items} list {options.datalist.name}"]
    description += [f"{PROTOCOL}, seed {settings.seed}, NSD at {settings.tolerance:g} px of {settings.pixels_of:g}"]
    print(write_report(options.output, runs, title="Baselines in a box", description=description, overlays=overlays))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datalist", type=Path, required=True, help="data list with training and validation items")
    parser.add_argument("--items", default="validation", choices=("training", "validation"))
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run; it can be continued")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    explain_errors()
    main()
