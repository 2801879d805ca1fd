"""Train the shipped model as it was trained; every part can be stopped and goes on where it was.

    python scripts/train_default.py
    python scripts/train_default.py --zero-shot     # the models that leave one organ out, from the same 1_pretrain
    python scripts/train_default.py --left-out      # those that leave one modality out, from the same 3_finetune

The data is found through MONAI_SAM_DATA. Its slices are gathered in two files first, once, in minutes. The steps
take about 25 minutes on an H200; on two cores of a CPU they would take two days. scripts/train_bare.py
trains a part on a machine that has nothing but PyTorch, NumPy, OpenCV, SciPy and safetensors.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import bundle  # noqa: F401, chooses how the threads of this program's children wait

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ["configs/train.json", "configs/recipes/default.json", "configs/recipes/shipped/batched.json"]
SETS = "configs/recipes/shipped/sets.json"  # lies over LAYERS in the parts of WITH_SETS
LEFT_OUT = {f"without_{name}": "4_more_sets" for name in ("ultrasound", "endoscopy", "microscopy")}  # lies over that
WITH_SETS = ("4_more_sets", "5_color_and_scenes", *LEFT_OUT)
SLICES = ROOT / "runs" / "slices"
FIRST = ("1_pretrain",)
SHIPPED = (*FIRST, "2_train", "3_finetune", "4_more_sets", "5_color_and_scenes")
ZERO_SHOT = (*FIRST, "without_liver", "without_pancreas")


def main() -> None:
    """Gather the slices unless they are there, and train one part after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--zero-shot", action="store_true", help="train the two leave-one-organ-out models instead")
    what.add_argument("--left-out", action="store_true", help="train the leave-one-modality-out models instead")
    for name in parts_of(parser.parse_args()):
        files = layers_of(name)
        slices = SLICES / ("sets.npz" if SETS in files else "slices.npz")
        if not slices.exists():
            run(f"gathering {slices.name}", command([*LAYERS, SETS] if SETS in files else LAYERS, "gather"))
        run(f"training {name}", command(files))


def parts_of(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The parts that are trained, one after the other; one that has ended takes seconds."""
    if arguments.zero_shot:
        return ZERO_SHOT
    if arguments.left_out:
        return (*SHIPPED[:3], *LEFT_OUT)
    return SHIPPED


def layers_of(name: str) -> list[str]:
    """The config files of a part."""
    over = [SETS] if name in WITH_SETS else []
    parts = [LEFT_OUT[name], name] if name in LEFT_OUT else [name]
    return [*LAYERS, *over, *(f"configs/recipes/shipped/{part}.json" for part in parts)]


def command(files: list[str], *run_id: str) -> list[str]:
    """The call of MONAI's bundle runner for a list of config files."""
    return [sys.executable, "-m", "monai.bundle", "run", *run_id, "--config_file", str(files)]


def run(title: str, call: list[str]) -> None:
    """Say what is done, and do it."""
    print(title, flush=True)
    subprocess.run(call, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
