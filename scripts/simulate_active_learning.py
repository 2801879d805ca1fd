"""Play active learning with simulated annotators.

    python scripts/simulate_active_learning.py curves --output runs/active
    python scripts/simulate_active_learning.py server --strategy clasp_pe --output runs/active-server

`curves` compares strategies in this process: slices of real volumes are the pool, their labels the annotator, a small
network over the shipped one's frozen features the learner, and the scores and rules are those that the server uses. It
goes on where it was stopped, and ends in active_learning.json and curves.png.

`server` starts the real server over a folder of volumes and drives it as a client does, for one strategy: next sample,
save its label, train where a trainer is offered, again. It proves the wiring; its numbers are of few images.
`--train-after 1 5` trains when the server would by itself while people annotate.
"""

from __future__ import annotations

import bundle  # noqa: F401, chooses how threads wait, before PyTorch is loaded

# isort: split

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bundle.active.pixel_head import PixelLearner, SeenSlice, load_slices, save_slices, see
from bundle.active.selection import RULES
from bundle.active.simulation import Measured, Plan, curves, gains, play
from bundle.data.datasets import msd
from bundle.data.grid import check_grid
from bundle.data.volume import read_label, read_volume
from bundle.errors import OptionError, explain_errors
from bundle.families.family import find_weights
from bundle.files import read_json, sha256_of, write_atomically, write_text
from bundle.interactive.segmenter import Segmenter
from bundle.interactive.slice_model import SliceView
from bundle.interactive.volume_slices import VolumeSlices
from bundle.layers import remember_settings
from bundle.root import BUNDLE_ROOT

DATA = Path(os.environ.get("MONAI_SAM_DATA", BUNDLE_ROOT.parent / "shared" / "data")) / "ct-mr/msd-hippocampus-mr-3d"
STRATEGIES = ("random", "foreground_random", "clasp_pe")
BASELINE = "foreground_random"
AXIS = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when all is done."""
    options = arguments(argv)
    if options.command == "curves":
        return play_curves(options)
    from monailabel_app.demo.active_round import play_on_server  # MONAI Label is not needed for curves

    report = play_on_server(
        options.data,
        options.strategy,
        rounds=options.rounds,
        folder=options.output,
        volumes=options.volumes,
        options=dict(options.train or ()),
        conf=dict(options.conf or ()),
        train_after=options.train_after,
    )
    write_text(options.output / "server.json", json.dumps(report, indent=2))
    print(json.dumps(report, indent=2))
    return 0


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    many = commands.add_parser("curves", help="compare strategies in this process")
    many.add_argument("--strategies", nargs="+", choices=sorted(RULES), default=list(STRATEGIES))
    many.add_argument("--baseline", choices=sorted(RULES), default=BASELINE)
    many.add_argument("--seeds", type=int, default=5)
    many.add_argument("--patients", type=int, default=40, help="of the training part, whose slices are the pool")
    many.add_argument("--checkpoint", type=Path, help="whose features are taken; by default the shipped weights")
    many.add_argument("--slices", type=int, default=6, help="of each patient, evenly through the volume")
    many.add_argument("--start", type=int, default=Plan.start, help="slices that are labelled at first")
    many.add_argument("--per-round", type=int, default=Plan.per_round)
    many.add_argument("--rounds", type=int, default=Plan.rounds)
    one = commands.add_parser("server", help="drive the real server with one strategy")
    one.add_argument("--strategy", choices=sorted(RULES), default="clasp_pe")
    one.add_argument("--rounds", type=int, default=3, help="images that are labelled")
    one.add_argument("--volumes", type=int, default=6, help="images of the server's folder")
    one.add_argument("--train", nargs=2, action="append", metavar=("NAME", "VALUE"), help="options of the training")
    one.add_argument("--train-after", nargs="+", type=int, metavar="LABELS", help="by default after each label")
    one.add_argument("--conf", nargs=2, action="append", metavar=("NAME", "VALUE"), help="options of the app")
    for command in (many, one):
        command.add_argument("--data", type=Path, default=DATA, help="folder of volumes with a datalist.json")
        command.add_argument("-o", "--output", type=Path, required=True, help="folder; curves go on where they ended")
    return parser.parse_args(argv)


# ---- curves ---------------------------------------------------------------------------------------------------------


def play_curves(options: argparse.Namespace) -> int:
    """Play what is not in rows.json yet, then write the results."""
    names = ("data", "patients", "slices", "start", "per_round", "rounds")
    weights = sha256_of(options.checkpoint or find_weights("default"))[:16]
    remember_settings(options.output, {**{name: str(getattr(options, name)) for name in names}, "weights": weights})
    stored = options.output / "rows.json"
    rows = read_rows(stored)
    plan = Plan(options.start, options.per_round, options.rounds)
    wanted = [(name, seed) for seed in range(options.seeds) for name in options.strategies]
    played = {(row.strategy, row.seed) for row in rows}
    missing = [run for run in wanted if run not in played]
    if missing:
        pool, held_out, structures = slices_of(options)
        for number, (strategy, seed) in enumerate(missing, start=1):
            started = time.perf_counter()
            learner = PixelLearner(pool, held_out, structures, seed=seed)
            run = list(play(strategy, learner, sorted(pool), plan, seed=seed))
            rows += run
            write_text(stored, json.dumps([row.to_json() for row in rows], indent=1))  # whole runs only
            seconds = time.perf_counter() - started
            last = f"{run[-1].score:.3f} with {run[-1].labels} labels"
            print(f"[{number}/{len(missing)}] {strategy}, seed {seed}: {last}, {seconds:.0f} s", flush=True)
    chosen = [row for row in rows if (row.strategy, row.seed) in wanted]
    write_results(chosen, options)
    return 0


def slices_of(options: argparse.Namespace) -> tuple[dict[str, SeenSlice], list[SeenSlice], list[str]]:
    """The pool, the held-out slices, and the names of the structures."""
    items = msd(options.data, datalist="datalist.json")
    training = [item for item in items if item["split"] == "training"][: options.patients]
    validation = [item for item in items if item["split"] == "validation"]
    structures = [name for name, value in sorted(items[0]["labels"].items(), key=lambda one: one[1]) if value]
    predictor = Segmenter.from_family(checkpoint=options.checkpoint).predictor
    pool: dict[str, SeenSlice] = {}
    held_out: list[SeenSlice] = []
    for number, item in enumerate([*training, *validation], start=1):
        stored = options.output / f"slices-{number:03d}.npz"
        if not stored.is_file():
            seen = dict(seen_slices(item, options.slices, predictor))
            write_atomically(stored, partial(save_slices, slices=seen))
        if number <= len(training):
            pool |= load_slices(stored)
        else:
            held_out += load_slices(stored).values()
        print(f"read {number}/{len(training) + len(validation)}", end="\r", flush=True)
    print()
    return pool, held_out, structures


def seen_slices(item: dict[str, Any], count: int, predictor: Any) -> Iterator[tuple[str, SeenSlice]]:
    """Slices evenly through a volume, by name."""
    volume = read_volume(item["image"])
    labels = check_grid(volume, read_label(item["label"])).array
    slices = VolumeSlices(volume, predictor)
    frame = slices.frame(AXIS)
    for index in np.linspace(0, frame.depth - 1, count).round().astype(int).tolist():
        picture = frame.extract(volume.array, index)
        view = SliceView(picture, slices.intensity, frame.pixel_spacing(volume.spacing))
        truth = frame.extract(labels, index)
        yield f"{item['patient']} {index:03d}", see(view, truth, predictor, patient=item["patient"])


def read_rows(path: Path) -> list[Measured]:
    """What was measured before."""
    return [Measured(**row) for row in read_json(path)] if path.is_file() else []


def write_results(rows: Sequence[Measured], options: argparse.Namespace) -> None:
    """active_learning.json, from which the document's table is made, and curves.png."""
    found = gains(rows, baseline=options.baseline)
    result = {
        "data": options.data.name,
        "patients": options.patients,
        "slices": options.slices,
        "baseline": options.baseline,
        "gains": [vars(gain) for gain in found],
        "curves": {name: [vars(point) for point in curve] for name, curve in curves(rows).items()},
    }
    write_text(options.output / "active_learning.json", json.dumps(result, indent=1) + "\n")
    write_atomically(options.output / "curves.png", lambda partial: draw(result, partial))
    for gain in found:
        print(f"{gain.strategy}: {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}], last {gain.last:.3f}")


def draw(result: dict[str, Any], path: str) -> None:
    """The curves with their intervals, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, curve in result["curves"].items():
        labels, mean, low, high = ([point[key] for point in curve] for key in ("labels", "mean", "low", "high"))
        axis.plot(labels, mean, ".-", label=name)
        axis.fill_between(labels, low, high, alpha=0.12)
    axis.set(xlabel="labelled slices", ylabel="DSC on held-out patients")
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")
    figure.savefig(path, dpi=100, format="png")


if __name__ == "__main__":
    explain_errors()
    try:
        sys.exit(main())
    except OptionError as error:
        sys.exit(f"error: {error}")
