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
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from bundle.errors import explain_errors
from bundle.waiting import PASSIVE

POLICIES: Mapping[str, Mapping[str, str]] = {"active": {}, "passive": PASSIVE}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="clicks of each policy, with neighbours and without")
    options = parser.parse_args()
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
            beside = "beside busy neighbours" if busy else "without our neighbours"
            load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
            print(f"{beside} ({load}): {times} a click; passive is {ratio:.2f} times as fast", flush=True)


def answer() -> None:
    """Answer each line of standard input with the seconds of one click on a slice."""
    from bundle.data.phantom import make_phantom
    from bundle.inference.segmenter import Segmenter
    from bundle.transforms.prompts import ObjectPrompts

    image, _, _ = make_phantom()
    session = Segmenter.from_family(device="cpu").open(image)
    i, j, k = (size // 2 for size in image.shape)
    for number, _ in enumerate(sys.stdin):
        started = time.perf_counter()
        session.segment_slice(ObjectPrompts(points=[[i + number % 20, j, k]], point_labels=[1], name=f"{number}"))
        print(time.perf_counter() - started, flush=True)


@contextmanager
def _model(policy: Mapping[str, str]) -> Iterator[subprocess.Popen]:
    environment = {name: value for name, value in os.environ.items() if name not in PASSIVE} | policy
    # PyTorch comes first, so that the environment alone decides.
    command = [sys.executable, "-c", f"import runpy, torch; runpy.run_path({__file__!r}, run_name='answer')"]
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
    explain_errors()
    main()
elif __name__ == "answer":
    answer()
