"""`monai-sam export`: a model in a form that other programs open."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.commands.common import known_family

FORMATS = ("official", "onnx", "torchscript", "state_dict")


@click.command()
@click.argument("format", type=click.Choice(FORMATS))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--family", default="default", show_default=True, callback=known_family, help="See `families`.")
@click.option("--checkpoint", type=click.Path(exists=True, dir_okay=False), help="By default the family's own weights.")
def export(format: str, out: Path, family: str, checkpoint: str | None) -> None:
    """Write a model, or a checkpoint of yours, as FORMAT to OUT: a file, or for onnx and torchscript a folder.

    \b
    monai-sam export onnx out/
    monai-sam export torchscript out/ --checkpoint runs/lora/best.safetensors
    monai-sam export official medsam_mine.pth --family medsam --checkpoint runs/medsam/best.safetensors
    monai-sam export state_dict model.pt --checkpoint runs/lora/best.safetensors

    `official` is the layout of segment-anything, which micro-sam, napari-sam and MedSAM's scripts open. `state_dict`
    is what MONAI's ckpt_export takes as --ckpt_file, beside the same --checkpoint. LoRA is merged in all but the
    last, and a checkpoint of this project says itself what was tuned in it.
    """
    from bundle.families import export as exports
    from bundle.families.family import build_network

    write = getattr(exports, f"export_{format}")
    written = write(build_network(family, checkpoint=checkpoint), out)
    for path in [written] if isinstance(written, Path) else written:
        click.echo(path)
