"""Train the shipped model as it was trained, in four stages; every part can be stopped and goes on where it was.

    python scripts/train_default.py
    python scripts/train_default.py --zero_shot     # also the models that leave one organ out, and their common start

The data is found through MONAI_SAM_DATA.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRAIN, RECIPES = "configs/train.json", "configs/recipes"
FIRST = [TRAIN, f"{RECIPES}/shipped/first.json"]
DEFAULT = [TRAIN, f"{RECIPES}/default.json"]
LAST = [*DEFAULT, f"{RECIPES}/shipped/last.json"]
LONG = [*LAST, f"{RECIPES}/shipped/long.json"]
ZERO_SHOT = [[*DEFAULT, f"{RECIPES}/shipped/{name}.json"] for name in ("stem", "without_pancreas", "without_liver")]


def main() -> None:
    """Run the parts one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zero_shot", action="store_true", help="also train without the one and the other organ")
    arguments = parser.parse_args()
    for files in (FIRST, DEFAULT, LAST, LONG, *(ZERO_SHOT if arguments.zero_shot else [])):
        print(f"training {Path(files[-1]).stem}", flush=True)
        subprocess.run(command(files), cwd=ROOT, check=True)


def command(files: list[str]) -> list[str]:
    """The call of MONAI's bundle runner for a list of config files."""
    return [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files)]


if __name__ == "__main__":
    main()
