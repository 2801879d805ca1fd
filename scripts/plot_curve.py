"""Draw how a training went, one stage after the other:

python scripts/plot_curve.py docs/training/curve.csv --out docs/images/curve.png
"""

from __future__ import annotations

import argparse
import csv
from itertools import groupby
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

METRIC = "val_dice"


def main() -> None:
    """Read files of ``curve.csv``, and draw the validation DSC over the steps of all stages.

    Each file is a stage, as SaveBest writes it, or holds several, which its column ``stage`` names.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", type=Path, nargs="+", help="in the order in which the stages followed")
    parser.add_argument("--out", type=Path, required=True, help="a PNG or PDF")
    args = parser.parse_args()
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    done = 0
    stages = [rows for path in args.curves for rows in read_stages(path, parser)]
    for rows in stages:
        steps = [done + int(row["step"]) for row in rows]
        for color, name in enumerate(column for column in rows[0] if column.startswith(METRIC)):
            label = (name.removeprefix(METRIC).strip("_") or "mean") if done == 0 else None
            axis.plot(steps, [float(row[name] or "nan") for row in rows], ".-", color=f"C{color}", label=label)
        done = steps[-1]
        if rows is not stages[-1]:
            axis.axvline(done, color="0.7", linestyle=":")
    axis.set(xlabel="step", ylabel="DSC on validation patients", ylim=(None, 1))
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=120)


def read_stages(path: Path, parser: argparse.ArgumentParser) -> list[list[dict[str, str]]]:
    """The rows of each stage; ends the program with a sentence where there are none."""
    if not path.is_file():
        parser.error(f"there is no {path}; a training writes curve.csv into its output_dir")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        parser.error(f"{path} holds no epoch yet")
    return [list(stage) for _, stage in groupby(rows, lambda row: row.get("stage"))]


if __name__ == "__main__":
    main()
