"""Measure a click through a volume that the network of volumes answers, beside its own forward passes.

    python scripts/benchmark_corrections.py                       # in 512 x 512 x 50, 200 and 300 voxels
    python scripts/benchmark_corrections.py --before ../before    # beside another state of the code, in turns

The object is a ball of 20 mm with a smaller one at its side, where the click lies. Seconds are those of the processor;
the memory is the most that NumPy held at once during the click (tracemalloc), with the answer itself, which has a byte
for each voxel. Each measurement is a process of its own. Which way answers the click is not asked: it is the
network of volumes here, whatever it expects.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bundle.errors import explain_errors

SPACING = (0.8, 0.8, 1.0)
SIDE, RADIUS = 512, 20.0  # voxels, mm


def main() -> None:
    """Print a table."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="folder of another state of the code")
    parser.add_argument("--depths", type=int, nargs="+", default=[50, 200, 300], help="slices")
    options = parser.parse_args()
    here = Path(__file__).resolve().parents[1]
    states = {"now": here} if options.before is None else {"before": options.before.resolve(), "now": here}
    print("| volume | state | processor, s | its forward passes, s | memory, MB |")
    print("| --- | --- | ---: | ---: | ---: |")
    for depth in options.depths:
        for state, tree in states.items():
            command = [sys.executable, "-c", f"import runpy; runpy.run_path({__file__!r}, run_name='click')"]
            environment = {**os.environ, "PYTHONPATH": str(tree), "DEPTH": str(depth)}
            found = subprocess.run(command, env=environment, cwd=tree, stdout=subprocess.PIPE, text=True, check=True)
            one = json.loads(found.stdout.splitlines()[-1])
            volume = f"{SIDE} x {SIDE} x {depth}"
            print(
                f"| {volume} | {state} | {one['seconds']:.2f} | {one['passes']:.2f} | {one['memory']:.0f} |", flush=True
            )


def click(depth: int) -> dict[str, float]:
    """Seconds of a click, of its forward passes, and MB of memory at most."""
    import numpy as np
    import torch

    from bundle.data.volume import Volume
    from bundle.families.family import build_network, load_family
    from bundle.interactive import guided_following
    from bundle.interactive.cube_network import CubeNetwork
    from bundle.interactive.cube_predictor import CubePredictor
    from bundle.interactive.segmenter import Segmenter
    from bundle.interactive.slice_model import SlicePredictor
    from bundle.prompts.interactions import Mask, Point
    from bundle.prompts.prompts import ObjectPrompts

    torch.set_num_threads(1)
    guided_following.corrects = lambda network, sure: True
    shape, middle = (SIDE, SIDE, depth), (230, 250, depth // 2)
    beside = (middle[0] + round(RADIUS / SPACING[0]), *middle[1:])
    ball, bump = (_ball(shape, at, radius) for at, radius in ((middle, RADIUS), (beside, 0.35 * RADIUS)))
    array = np.where(ball | bump, 120, -20).astype(np.int16)
    array += np.random.default_rng(0).integers(-20, 20, shape, dtype=np.int16)
    volume = Volume(array, np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0]), "CT")
    family = load_family("default_3d")
    cubes = CubeNetwork(CubePredictor(build_network(family), family.contract))
    model = guided_following.GuidedFollowing(Segmenter.from_family("default", device="cpu").predictor, cubes)
    state = model.start(volume)
    start, point = Mask(ball), Point((beside[0] + 3, *beside[1:]))
    first = model.predict(state, ObjectPrompts([start]).validated(shape), None)
    both = ObjectPrompts([start, point]).validated(shape)
    model.predict(state, both, first)  # what is prepared once
    passes = [0.0]
    for predictor in (CubePredictor, SlicePredictor):
        predictor.predict = _timed(predictor.predict, passes)
    begun = time.process_time()
    model.predict(state, both, first)
    seconds = time.process_time() - begun
    taken = passes[0]
    tracemalloc.start()
    found = model.predict(state, both, first)
    peak = tracemalloc.get_traced_memory()[1]
    assert (found.segmentation.mask ^ first.segmentation.mask).any()  # else nothing was measured
    return {"seconds": seconds, "passes": taken, "memory": peak / 1e6}


def _ball(shape: tuple[int, int, int], middle: tuple[int, int, int], radius: float) -> Any:
    """(I, J, K) bool, radius in mm."""
    import numpy as np

    grid = np.ogrid[tuple(slice(0, size) for size in shape)]
    return sum(((along - at) * mm / radius) ** 2 for along, at, mm in zip(grid, middle, SPACING, strict=True)) <= 1


def _timed(method: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """The method, which adds the processor's seconds that it takes."""

    def call(*args: Any, **kwargs: Any) -> Any:
        begun = time.process_time()
        try:
            return method(*args, **kwargs)
        finally:
            seconds[0] += time.process_time() - begun

    return call


if __name__ == "__main__":
    main()
elif __name__ == "click":
    print(json.dumps(click(int(os.environ["DEPTH"]))))
