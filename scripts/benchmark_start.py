"""How long our programs take to start, beside PyTorch's own import, in turns in one run.

    python scripts/benchmark_start.py [--rounds 5]

CPU seconds of fresh interpreters, the least of all rounds: wall-clock time on a machine with other work says little.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

BASE = "import torch"
STARTS = {
    "import torch": ["-c", BASE],
    "torch, then reach bundle.open": ["-c", f"{BASE}; import bundle.data.volume, bundle.interactive.segmenter"],
    "the same, with the shipped network": ["-c", f"{BASE}; import bundle; bundle.Segmenter.from_family()"],
    "torch, then MONAI's runner": ["-c", f"{BASE}; import monai.bundle"],
    "monai-sam --help": ["-m", "bundle.commands.main", "--help"],
    "monai-sam segment --help": ["-m", "bundle.commands.main", "segment", "--help"],
}


def cpu_seconds(words: Sequence[str]) -> float:
    """User and system time of an interpreter."""
    before = os.times()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, env=environment)
    after = os.times()
    return (after.children_user - before.children_user) + (after.children_system - before.children_system)


def main() -> None:
    """Measure in turns and print seconds, what is added to PyTorch's import, and the ratio to it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    least = dict.fromkeys(STARTS, float("inf"))
    for _ in range(rounds):
        for name, words in STARTS.items():
            least[name] = min(least[name], cpu_seconds(words))
    torch = least["import torch"]
    print(f"{'CPU seconds, least of ' + str(rounds):<40} {'seconds':>8} {'- torch':>8} {'/ torch':>8}")
    for name, seconds in least.items():
        print(f"{name:<40} {seconds:>8.2f} {seconds - torch:>8.2f} {seconds / torch:>8.2f}")


if __name__ == "__main__":
    main()
