"""Time undo, redo and restoring of a session against the clicks that they take back, with the shipped model.

    python scripts/benchmark_sessions.py [--image CT --label LABELS]

Each of some organs is clicked, and corrected in 3D at the centre of the largest error. Clicks, undo, redo and restoring
in a new session are timed one after the other in one run, and the journal's bytes are counted. Without an image, a
generated CT.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import Volume, read_label, read_volume
from bundle.errors import explain_errors
from bundle.interactive.journal import Journal
from bundle.interactive.segmenter import Segmenter
from bundle.interactive.session import InteractiveSession
from bundle.prompts.interactions import Point
from bundle.prompts.simulation import error_voxel


def main() -> None:
    """Print a table."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, help="a CT; with it --label")
    parser.add_argument("--label", type=Path, help="its label map")
    parser.add_argument("--organs", type=int, nargs="+", default=[1, 2, 3], help="values in it (default: %(default)s)")
    parser.add_argument("--clicks", type=int, default=6, help="for each (default: %(default)s)")
    args = parser.parse_args()
    image, truth = (read_volume(args.image), read_label(args.label)) if args.image else make_phantom()[:2]
    segmenter = Segmenter.from_family()
    with tempfile.TemporaryDirectory(prefix="monai-sam-sessions-") as folder:
        session = segmenter.open(image, journal=Journal.of(folder, image))
        clicks, sizes = _work(session, truth, args.organs, args.clicks)
        labels, steps = session.labels, session.undo_depth
        undo = [_seconds(session.undo) for _ in range(steps)]
        redo = [_seconds(session.redo) for _ in range(steps)]
        assert np.array_equal(session.labels, labels)
        again: list[InteractiveSession] = []
        restore = _seconds(lambda: again.append(session.for_user(Journal.of(folder, image))))
        assert np.array_equal(again[0].labels, labels)
    click = statistics.median(clicks)
    print(f"{image.shape} voxels, {len(args.organs)} objects, {steps} steps")
    print(f"a click: {1000 * click:.0f} ms (median), all of them {sum(clicks):.1f} s")
    for name, values in (("undo", undo), ("redo", redo)):
        took = statistics.median(values)
        print(f"{name}: {1000 * took:.1f} ms (median), {click / took:.0f} times as fast as the click")
    print(f"restoring all: {1000 * restore:.0f} ms, {sum(clicks) / restore:.0f} times as fast as the clicks")
    print(f"journal: {np.median(sizes):.0f} bytes a step (median), {max(sizes)} at most, {sum(sizes)} in all")


def _work(session: InteractiveSession, truth: Volume, organs: list[int], clicks: int) -> tuple[list[float], list[int]]:
    """Click each organ; the seconds of each click and the bytes that it added to the journal."""
    seconds, sizes, path = [], [0], session._journal.path
    for organ in organs:
        mask, name = truth.array == organ, f"organ {organ}"
        for number in range(clicks):
            found = session.mask(name) if number else np.zeros_like(mask)
            error = error_voxel(mask, found)
            if error is None:
                break
            point = Point(np.array(error[:3]), positive=error[3] == 1)
            seconds.append(_seconds(lambda given=point, at=name: session.add(given, at)))
            sizes.append(path.stat().st_size)
    return seconds, np.diff(sizes).tolist()


def _seconds(do: Callable[[], object]) -> float:
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
