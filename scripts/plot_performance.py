"""Draw what a user waits for, for each model and engine, from the result of scripts/benchmark.py.

python scripts/plot_performance.py docs/results/performance.json --output docs/images/performance.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bundle.errors import explain_errors
from bundle.files import read_json

DRAWN = (
    "warm click",
    "new slice",
    "undo",
    "segment-anything: warm click",
    "segment-anything: new slice",
    "load, encode, decode, write: every click",
)


def main() -> None:
    """Draw seconds on a logarithmic axis, a marker for each thing and a row for each model."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="a PNG or PDF")
    options = parser.parse_args()
    models = read_json(options.result)["models"]
    figure, axis = plt.subplots(figsize=(8, 0.5 * len(models) + 2), layout="constrained")
    for number, thing in enumerate(DRAWN):
        points = [(model["seconds"][thing], row) for row, model in enumerate(models) if thing in model["seconds"]]
        if points:
            seconds, rows = zip(*points, strict=True)
            axis.plot(seconds, rows, "o" if number < 3 else "x", color=f"C{number % 3}", label=thing)
    axis.set(xscale="log", xlabel="seconds of one core", yticks=range(len(models)))
    axis.set_yticklabels([model["name"] for model in models])
    axis.invert_yaxis()
    axis.grid(alpha=0.3)
    axis.legend(loc="upper center", bbox_to_anchor=(0.4, -0.2), ncols=2, fontsize=8)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=120)


if __name__ == "__main__":
    main()
