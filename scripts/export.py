"""Write a model, or a checkpoint of your own, in a form that other programs open.

    python scripts/export.py onnx out/                                     # encoder.onnx and decoder.onnx
    python scripts/export.py torchscript out/ --checkpoint runs/lora/best.safetensors
    python scripts/export.py official medsam_mine.pth --family medsam --checkpoint runs/medsam/best.safetensors
    python scripts/export.py state_dict model.pt --checkpoint runs/lora/best.safetensors

``official`` is the layout of segment-anything, which micro-sam, napari-sam and MedSAM's scripts open. ``state_dict`` is
what MONAI's ``ckpt_export`` takes as ``--ckpt_file``, beside the same ``--checkpoint``. LoRA is merged in all but the
last, and a checkpoint of this project says itself what was tuned in it.
"""

from __future__ import annotations

import bundle  # noqa: F401, chooses how threads wait, before PyTorch is loaded

# isort: split

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from bundle.errors import MonaiSamError
from bundle.families.export import export_official, export_onnx, export_torchscript
from bundle.families.family import build_network
from bundle.files import write_atomically
from bundle.networks.promptable_sam import PromptableSam


def export_state_dict(network: PromptableSam, path: Path) -> Path:
    """Write the weights alone, under the names that the network has."""
    return write_atomically(path, lambda partial: torch.save(network.state_dict(), partial))


FORMATS = {
    "official": export_official,
    "onnx": export_onnx,
    "torchscript": export_torchscript,
    "state_dict": export_state_dict,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when the files are written, 1 when they cannot be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("format", choices=FORMATS)
    parser.add_argument("out", type=Path, help="a file, or for onnx and torchscript a folder")
    parser.add_argument("--family", default="default", help="a name, or a JSON file of your own")
    parser.add_argument("--checkpoint", type=Path, help="by default the family's own weights")
    options = parser.parse_args(argv)
    try:
        written = FORMATS[options.format](build_network(options.family, checkpoint=options.checkpoint), options.out)
    except MonaiSamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path in [written] if isinstance(written, Path) else written:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
