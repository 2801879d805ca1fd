"""Time what a user waits for, for each model and engine: start, clicks, precompute, 3D, undo, restoring; and memory.

    python scripts/benchmark.py [--families default mobile_sam] [--engines torch openvino]
    python scripts/benchmark.py --only-volumes        # whether a click of the shipped model depends on the volume
    python scripts/tables.py                     # the table in docs/performance.md

The result that the page shows is docs/results/performance.json (`--results`).

Each model runs with each engine in a process of its own, one after the other; beside it, in the same process,
segment-anything's own predictor with the same weights where it can hold them, and the way of MONAI Label's SAM2 task:
read the volume, encode the slice, decode, write the label, for every click. Weights are random where none are on this
machine: arithmetic does not depend on them. Seconds are those of the processor (user and system time of the process),
medians of several; they hardly depend on what else the machine does, and are the wall-clock time of one thread on an
idle one. `--device cuda:0` times a GPU, by the clock.
"""

from __future__ import annotations

import bundle  # noqa: F401, chooses how threads wait, before PyTorch is loaded

# isort: split

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from segment_anything import SamPredictor

from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import Volume, read_volume, write_label
from bundle.engines.cache import PreparedCache
from bundle.engines.choice import computes_in_bfloat16, is_installed
from bundle.errors import CheckpointError, SessionError, explain_errors
from bundle.families.export import as_segment_anything
from bundle.families.family import build_network, load_family
from bundle.families.summary import summarise
from bundle.files import read_json, write_text
from bundle.interactive.journal import Journal
from bundle.interactive.precompute import precompute
from bundle.interactive.segmenter import Segmenter
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_model import SlicePredictor
from bundle.prompts.interactions import Point
from bundle.prompts.prompts import ObjectPrompts

MODELS = ("default", "tiny_vit", "lite_medsam", "mobile_sam", "sam_vit_b")
DEPTHS = (50, 200, 400)  # slices of 512 x 512
THREADS = 1


def main() -> None:
    """Time the models and write the result."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=MODELS, help="families (default: %(default)s)")
    parser.add_argument("--engines", nargs="+", default=["torch", *["openvino"] * is_installed()])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", type=Path, help="JSON; what is there of other models stays")
    parser.add_argument("--only-volumes", action="store_true", help="only clicks of the first model, in three volumes")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "ENGINE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    if options.one:
        print(json.dumps(time_model(*options.one, device=options.device)))
        return
    if options.only_volumes:
        keep(options.results, "volumes", [time_volume(options.families[0], depth) for depth in DEPTHS], key="shape")
        return
    for model in options.families:
        for engine in options.engines:
            words = [sys.executable, __file__, "--device", options.device, "--one", model, engine]
            done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                print(f"{model} on {engine} could not be timed, see above", file=sys.stderr)
                continue
            keep(options.results, "models", [json.loads(done.stdout.splitlines()[-1])], key="name")


def keep(output: Path | None, section: str, rows: list[dict[str, Any]], *, key: str) -> None:
    """Print rows, and put them into the result file in the place of those of the same name."""
    for row in rows:
        print(json.dumps(row, indent=1), flush=True)
    if output is None:
        return
    result = read_json(output) if output.is_file() else {}
    new = {json.dumps(row[key]) for row in rows}
    result[section] = [row for row in result.get(section, []) if json.dumps(row[key]) not in new] + rows
    write_text(output, json.dumps(result, indent=1) + "\n")


def time_model(name: str, engine: str, *, device: str) -> dict[str, Any]:
    """All numbers of one model on one engine, in seconds of the processor (of the clock on a GPU)."""
    clock = Clock(device)
    family = load_family(name)
    has_weights = family.checkpoint_path is not None and family.checkpoint_path.is_file()
    network = build_network(family, random=not has_weights)
    segmenter = Segmenter(family, network, device=device, engine=engine)
    image, truth, _ = make_phantom()
    with tempfile.TemporaryDirectory(prefix="monai-sam-benchmark-") as folder:
        session = segmenter.open(image, journal=Journal.of(folder, image))
        seconds = {"cold start": time.process_time()}  # since the interpreter began
        slow = summarise(family).gmacs > 30
        seconds |= time_clicks(session, truth, clock, rounds=3 if slow else 9, slices=1 if slow else 3)
        seconds |= time_others(session, network, family.contract, image, clock, Path(folder))
        seconds |= time_history(session, image, truth, clock, Path(folder), slow=slow)
    gflop = 2 * summarise(family).gmacs
    return {
        "name": f"{name}, {engine}",
        "device": device if device != "cpu" else f"{platform.processor() or platform.machine()}, {THREADS} thread",
        "weights": "shipped" if has_weights else "random",
        "seconds": {what: round(value, 5) for what, value in seconds.items()},
        "gflop": round(gflop, 1),
        "matmul_gflop_s": {kind: round(rate, 1) for kind, rate in matmul_rates(clock).items()},
        "memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "cache_mib": round(segmenter.predictor.store.held_bytes / 2**20, 1),
        "load": round(os.getloadavg()[0], 1),
    }


class Clock:
    """Seconds of the processor, or of the wall where a GPU computes."""

    def __init__(self, device: str) -> None:
        self.cuda = device != "cpu"

    def now(self) -> float:
        """A time to take differences of."""
        if self.cuda:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def of(self, do: Callable[[], object]) -> float:
        """Seconds that a function takes."""
        begun = self.now()
        do()
        return self.now() - begun

    def median(self, do: Callable[[int], object], rounds: int) -> float:
        """Median of some rounds, each with its number."""
        return statistics.median(self.of(lambda n=n: do(n)) for n in range(rounds))


def time_clicks(
    session: InteractiveSession, truth: Volume, clock: Clock, *, rounds: int, slices: int
) -> dict[str, float]:
    """The first click, clicks on slices that were seen and not seen, and what of them are forward passes."""
    i, j, k = np.argwhere(truth.array == 1).mean(axis=0).round().astype(int)

    def click(n: int, at: int = k) -> None:
        prompts = ObjectPrompts(points=[[i + n % 7, j - n % 5, at]], point_labels=[1], name=f"{n} {at}")
        session.segment_slice(prompts)

    seconds = {"first click": clock.of(lambda: click(0))}
    click(1)
    with forward_seconds(session.predictor.network, clock) as passes:
        seconds["warm click"] = clock.median(lambda n: click(n + 2), rounds)
    seconds["its forward passes"] = sum(passes) / rounds
    seconds["new slice"] = clock.median(lambda n: click(n, k + 1 + n), slices)
    if session.predictor.network.spec.keeps_prepared:

        def stop(done: int) -> None:
            if done == slices:
                raise StopIteration

        session.predictor.store = PreparedCache()

        def run() -> None:
            with suppress(StopIteration):
                precompute(session.slices, axis=2, index=int(k), progress=stop)

        seconds["precompute, a slice"] = clock.of(run) / slices
    return seconds


@contextmanager
def forward_seconds(network: Any, clock: Clock) -> Iterator[list[float]]:
    """Collect the seconds of each forward pass while the block runs."""
    passes: list[float] = []

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            begun = clock.now()
            try:
                return method(*args, **kwargs)
            finally:
                passes.append(clock.now() - begun)

        return call

    network.predict, network.prepare = timed(network.predict), timed(network.prepare)
    try:
        yield passes
    finally:
        del network.predict, network.prepare


def time_history(
    session: InteractiveSession, image: Volume, truth: Volume, clock: Clock, folder: Path, *, slow: bool
) -> dict[str, float]:
    """A box through the volume, and undo, redo and restoring of what was clicked."""
    voxels = np.argwhere(truth.array == 1)
    first, last, middle = voxels.min(axis=0), voxels.max(axis=0), voxels.mean(axis=0).round().astype(int)
    depth = 2 if slow else 8  # of one slice it would be followed through the whole volume
    box = [[*first[:2], middle[2] - depth // 2], [*last[:2], middle[2] + (depth - 1) // 2]]
    seconds = {"3D, a slice": clock.of(lambda: session.segment_volume(ObjectPrompts(box=box, name="b"))) / depth}
    for n in range(4):
        session.add(Point(middle + np.array([n, 0, 0]), positive=True), f"{n}", dimension=2)
    labels, steps = session.labels, session.undo_depth
    seconds["undo"] = clock.median(lambda _: session.undo(), steps)
    seconds["redo"] = clock.median(lambda _: session.redo(), steps)
    again: list[InteractiveSession] = []
    seconds["restore"] = clock.of(lambda: again.append(session.for_user(Journal.of(folder, image))))
    if not (np.array_equal(session.labels, labels) and np.array_equal(again[0].labels, labels)):
        raise SessionError("a restored session differs from the one that was worked on")
    return seconds


def time_others(
    session: InteractiveSession, network: Any, contract: Any, image: Volume, clock: Clock, folder: Path
) -> dict[str, float]:
    """The same click in segment-anything's predictor, and in the way that reads, encodes and writes each time."""
    seconds, k = {}, image.shape[2] // 2
    try:
        predictor = SamPredictor(as_segment_anything(network, contract))
    except CheckpointError as error:  # another contract than segment-anything's, or another network
        print(f"without a comparison: {error}", file=sys.stderr)
    else:
        picture = np.repeat(np.clip(image.array[:, :, k, None] / 4 + 128, 0, 255).astype(np.uint8), 3, axis=2)
        seconds["segment-anything: new slice"] = clock.of(lambda: predictor.set_image(picture))
        point = {"point_coords": np.array([[60.0, 60.0]]), "point_labels": np.array([1])}
        seconds["segment-anything: warm click"] = clock.median(lambda _: predictor.predict(**point), 5)
    file = folder / "image.nii.gz"
    write_label(image.array, image, file, dtype=np.dtype(np.int16))
    bare = SlicePredictor(network, contract, store=PreparedCache(memory_bytes=0), device=session.predictor.device)

    def click() -> None:
        volume = read_volume(file, modality="CT")
        found = InteractiveSession(volume, bare).segment_slice(
            ObjectPrompts(points=[[60, 60, k]], point_labels=[1], name="a")
        )
        write_label(found.mask.astype(np.uint8), volume, folder / "label.nii.gz")

    seconds["load, encode, decode, write: every click"] = clock.of(click)
    return seconds


def matmul_rates(clock: Clock) -> dict[str, float]:
    """The best of some products of 2048 x 2048 matrices, in GFLOP/s, in the types that this device computes in."""
    device = "cuda" if clock.cuda else "cpu"
    kinds = {"float32": torch.float32}
    if clock.cuda or computes_in_bfloat16(torch.device("cpu")):
        kinds["bfloat16"] = torch.bfloat16
    rates = {}
    for name, kind in kinds.items():
        a = torch.randn(2048, 2048, device=device, dtype=kind)
        rates[name] = 2 * 2048**3 / min(clock.of(lambda a=a: a @ a) for _ in range(5)) / 1e9
    return rates


def time_volume(name: str, depth: int) -> dict[str, Any]:
    """A warm click in a volume of so many slices, beside its forward passes."""
    draw = np.random.default_rng(0)
    array = np.repeat(draw.normal(0, 100, (512, 512, 1)).astype(np.int16), depth, axis=2)
    session = Segmenter.from_family(name, device="cpu").open(Volume(array, np.diag([0.8, 0.8, 2.0, 1.0]), "CT", None))
    clock, k = Clock("cpu"), depth // 2

    def click(n: int) -> None:
        session.segment_slice(ObjectPrompts(points=[[200 + n, 256, k]], point_labels=[1], name=f"{n}"))

    click(0)
    with forward_seconds(session.predictor.network, clock) as passes:
        warm = clock.median(lambda n: click(n + 1), 7)
    return {"shape": [512, 512, depth], "warm click": round(warm, 4), "its forward passes": round(sum(passes) / 7, 4)}


if __name__ == "__main__":
    main()
