"""Train the shipped model as it was trained; every part can be stopped and goes on where it was.

    python scripts/train_default.py
    python scripts/train_default.py --zero_shot     # the models that leave one organ out, from the same 1_pretrain

The data is found through MONAI_SAM_DATA. Its slices are gathered in one file first, once, in minutes. The steps
take eight minutes on an H200; on two cores of a CPU they would take a day.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import bundle  # noqa: F401, chooses how the threads of this program's children wait

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ["configs/train.json", "configs/recipes/default.json", "configs/recipes/shipped/batched.json"]
SLICES = ROOT / "runs" / "slices" / "slices.npz"
PRETRAINED = "1_pretrain"
SHIPPED = ("2_train", "3_finetune")
ZERO_SHOT = ("without_liver", "without_pancreas")


def main() -> None:
    """Gather the slices unless they are there, and train one part after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zero_shot", action="store_true", help="train the two leave-one-organ-out models instead")
    arguments = parser.parse_args()
    if not SLICES.exists():
        run("gathering the slices", command(LAYERS, "gather"))
    for name in (PRETRAINED, *(ZERO_SHOT if arguments.zero_shot else SHIPPED)):
        run(f"training {name}", command(layers_of(name)))


def layers_of(name: str) -> list[str]:
    """The config files of a part."""
    return [*LAYERS, f"configs/recipes/shipped/{name}.json"]


def command(files: list[str], *run_id: str) -> list[str]:
    """The call of MONAI's bundle runner for a list of config files."""
    return [sys.executable, "-m", "monai.bundle", "run", *run_id, "--config_file", str(files)]


def run(title: str, call: list[str]) -> None:
    """Say what is done, and do it."""
    print(title, flush=True)
    subprocess.run(call, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
