"""Draw the curve of a training run: ``python scripts/plot_curve.py runs/default/curve.csv docs/images/curve.png``."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
    """Read ``curve.csv`` as SaveBest writes it, and draw loss and DSC over steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("curve", type=Path)
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    with args.curve.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        parser.error(f"{args.curve} holds no epoch yet")
    steps = [int(row["step"]) for row in rows]
    figure, loss_axis = plt.subplots(figsize=(7, 4), layout="constrained")
    loss_axis.plot(steps, [float(row["train_loss"]) for row in rows], color="tab:gray", label="training loss")
    loss_axis.set(xlabel="step", ylabel="training loss")
    dice_axis = loss_axis.twinx()
    for name in [name for name in rows[0] if name.startswith("val_")]:
        dice_axis.plot(steps, [float(row[name]) for row in rows], marker="o", label=name.removeprefix("val_"))
    dice_axis.set(ylabel="DSC on validation patients", ylim=(0, 1))
    dice_axis.legend(handles=[*loss_axis.get_lines(), *dice_axis.get_lines()], loc="lower right")
    args.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.picture, dpi=110)


if __name__ == "__main__":
    main()
