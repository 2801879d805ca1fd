"""`monai-sam train`: train or fine-tune a network on labelled images."""

from __future__ import annotations

import os
from typing import Any

import click

from bundle.commands.common import LAYOUTS, RECIPES, TUNINGS, output_folder, run, set_option


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--layout", type=click.Choice(LAYOUTS), default="folders", show_default=True, help="How DATA is laid out."
)
@click.option("-o", "--output", required=True, callback=output_folder, help="Folder for weights, curve and state.")
@click.option("--recipe", type=click.Choice(RECIPES), default="default", show_default=True)
@click.option("--tuning", type=click.Choice(TUNINGS), help="Fine-tune the family's weights; by default from nothing.")
@click.option("--epochs", type=click.IntRange(1))
@click.option("--batch-size", type=click.IntRange(1))
@click.option("--seed", type=int)
@click.option("--device", help="Such as cuda:1 or cpu; by default a GPU where there is one.")
@set_option
def train(data: str, layout: str, output: str, recipe: str, tuning: str | None, **options: Any) -> None:
    """Train on the labelled images in DATA; `best.safetensors` is what the validation patients chose.

    \b
    monai-sam train DATA --tuning lora -o runs/lora          # DATA/images and DATA/labels, files of the same names

    A run that was stopped goes on with the same command; torchrun shares the batch out to several processes.
    """
    layers = ["train", f"recipes/{recipe}"]
    if tuning:
        layers += ["tuning/finetune", f"tuning/{tuning}"]
    layers.append(f"datasets/{layout}")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        layers.append("multi_gpu_train")
    values = {
        "dataset_dir": data,
        "output_dir": output,
        **{name: options[name] for name in ("epochs", "batch_size", "seed", "device")},
        **options["settings"],
    }
    run(layers, values, resume="run the same command again to go on")
