"""Draw how a training went, one stage after the other:

python scripts/plot_curve.py docs/training/curve.csv --output docs/images/curve.png
"""

from __future__ import annotations

import argparse
import csv
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

METRIC, LOSS = "val_dice", "loss"


def main() -> None:
    """Read files of ``curve.csv``, and draw validation DSC and, where it is, loss over the steps of all stages.

    Each file is a stage, as SaveBest writes it, or holds several, which its column ``stage`` names.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", type=Path, nargs="+", help="in the order in which the stages followed")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a PNG or PDF")
    args = parser.parse_args()
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    done = 0
    stages = [rows for path in args.curves for rows in read_stages(path, parser)]
    for rows in stages:
        steps = [done + int(row["step"]) for row in rows]
        for color, name in enumerate(column for column in rows[0] if column.startswith(METRIC)):
            label = (name.removeprefix(METRIC).strip("_") or "mean") if done == 0 else None
            draw(axis, steps, rows, name, ".-", color=f"C{color}", label=label)
        if LOSS in rows[0]:
            draw(axis, steps, rows, LOSS, "-", color="0.5", label="training loss" if done == 0 else None)
        done = steps[-1]
        if rows is not stages[-1]:
            axis.axvline(done, color="0.7", linestyle=":")
    axis.set(xlabel="step", ylabel="DSC on validation patients; loss", ylim=(0 if LOSS in stages[0][0] else None, 1))
    axis.grid(alpha=0.3)
    axis.legend(loc="best")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.output, dpi=120)


def draw(axis: Axes, steps: list[int], rows: list[dict[str, str]], name: str, style: str, **options: Any) -> None:
    """A column over the steps at which it has a value."""
    points = [(step, float(row[name])) for step, row in zip(steps, rows, strict=True) if row[name]]
    if points:
        axis.plot(*zip(*points, strict=True), style, **options)


def read_stages(path: Path, parser: argparse.ArgumentParser) -> list[list[dict[str, str]]]:
    """The rows of each stage; ends the program with a sentence where there are none."""
    if not path.is_file():
        parser.error(f"there is no {path}; a training writes curve.csv into its output_dir")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        parser.error(f"{path} holds no epoch yet")
    return [list(stage) for _, stage in groupby(rows, lambda row: row.get("stage"))]


if __name__ == "__main__":
    main()
