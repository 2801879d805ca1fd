"""Train the shipped model as it was trained, in six stages; every part can be stopped and goes on where it was.

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
TRAIN, DEFAULT, SHIPPED = "configs/train.json", "configs/recipes/default.json", "configs/recipes/shipped"
STAGES = [
    [TRAIN, DEFAULT],
    *([TRAIN, DEFAULT, f"{SHIPPED}/{name}.json"] for name in ("second", "third", "fourth", "fifth", "sixth")),
]
ZERO_SHOT = [[TRAIN, DEFAULT, f"{SHIPPED}/{name}.json"] for name in ("stem", "without_pancreas", "without_liver")]


def main() -> None:
    """Run the parts one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zero_shot", action="store_true", help="also train without the one and the other organ")
    arguments = parser.parse_args()
    for files in [*STAGES, *(ZERO_SHOT if arguments.zero_shot else [])]:
        print(f"training {Path(files[-1]).stem}", flush=True)
        subprocess.run(command(files), cwd=ROOT, check=True)


def command(files: list[str]) -> list[str]:
    """The call of MONAI's bundle runner for a list of config files."""
    return [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files)]


if __name__ == "__main__":
    main()
