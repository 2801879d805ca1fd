"""Time the shipped model with OpenMP threads that wait actively and passively, beside busy neighbours and without.

    python scripts/benchmark_waiting.py

One process for each policy holds the model; they answer in turns, so that all of them meet the same machine. The
neighbours are processes that count, one for each core. Active is what PyTorch's OpenMP does where nothing is set.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bundle.waiting import PASSIVE

POLICIES: dict[str, dict[str, str]] = {"active": {}, "passive": dict(PASSIVE)}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="clicks of each policy, with neighbours and without")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)  # a process of one policy
    options = parser.parse_args()
    if options.answer:
        return answer()
    with ExitStack() as stack:
        models = {name: stack.enter_context(_model(policy)) for name, policy in POLICIES.items()}
        for busy in (False, True):
            seconds: dict[str, list[float]] = {name: [] for name in models}
            with _neighbours(os.cpu_count() or 1 if busy else 0):
                for _ in range(options.rounds):
                    for name, model in models.items():
                        seconds[name].append(_ask(model))
            medians = {name: 1000 * statistics.median(values) for name, values in seconds.items()}
            times = ", ".join(f"{name} {median:.0f} ms" for name, median in medians.items())
            ratio = medians["active"] / medians["passive"]
            print(f"{'busy' if busy else 'idle'} machine: {times} a click; passive is {ratio:.2f} times as fast")
    return None


def answer() -> None:
    """Answer each line of standard input with the seconds of one click on a slice."""
    import numpy as np

    from bundle.data.phantom import make_phantom
    from bundle.inference.segmenter import Segmenter
    from bundle.transforms.prompts import ObjectPrompts

    image, _, _ = make_phantom()
    session = Segmenter.from_family(device="cpu").open(image)
    centre = np.array(image.shape) // 2
    for number, _ in enumerate(sys.stdin):
        started = time.perf_counter()
        session.segment_slice(ObjectPrompts(points=[centre + [number % 20, 0, 0]], point_labels=[1], name=f"{number}"))
        print(time.perf_counter() - started, flush=True)


@contextmanager
def _model(policy: dict[str, str]) -> Iterator[subprocess.Popen]:
    environment = {name: value for name, value in os.environ.items() if name not in PASSIVE} | policy
    # `bundle.waiting` must not decide here: an empty value counts as set.
    environment = {**dict.fromkeys(PASSIVE, ""), **environment}
    command = [sys.executable, __file__, "--answer"]
    model = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        _ask(model)  # the first one loads what later ones have
        yield model
    finally:
        model.stdin.close()
        model.wait()


def _ask(model: subprocess.Popen) -> float:
    print("click", file=model.stdin, flush=True)
    return float(model.stdout.readline())


@contextmanager
def _neighbours(count: int) -> Iterator[None]:
    neighbours = [multiprocessing.Process(target=_count, daemon=True) for _ in range(count)]
    for neighbour in neighbours:
        neighbour.start()
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.terminate()
            neighbour.join()


def _count() -> None:
    while True:
        pass


if __name__ == "__main__":
    main()
