"""`monai-sam evaluate`: score a model by simulated prompts on labelled images."""

from __future__ import annotations

import os
from typing import Any

import click

from bundle.commands.common import LAYOUTS, engine_option, model_options, output_folder, run, set_option


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--layout", type=click.Choice(LAYOUTS), default="folders", show_default=True, help="How DATA is laid out."
)
@click.option("-o", "--output", required=True, callback=output_folder, help="Folder for report, tables and records.")
@click.option("--items", type=click.Choice(["all", "validation", "test"]), default="all", show_default=True)
@click.option("--volumes", is_flag=True, help="Prompt and score whole volumes in 3D; by default slices.")
@click.option("--protocol", "protocols", multiple=True, help="Such as box or clicks_from_box; may repeat.")
@click.option("--limit", type=click.IntRange(1), help="At most so many images.")
@set_option
@engine_option("torch")
@model_options
def evaluate(data: str, layout: str, output: str, items: str, volumes: bool, **options: Any) -> None:
    """Score a family, or a checkpoint of yours, on the labelled images in DATA.

    \b
    monai-sam evaluate DATA --layout folders -o out          # DATA/images and DATA/labels, files of the same names

    A run that was stopped goes on with the same command. Several workers may share a folder of results: start the
    command with torchrun, as a SLURM array, or as a Kubernetes indexed job.
    """
    layers = ["evaluate", f"datasets/{layout}"]
    if volumes:
        layers.append("evaluate_volumes")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        layers.append("multi_gpu_evaluate")
    values = {
        "dataset_dir": data,
        "output_dir": output,
        "protocols": list(options["protocols"]) or None,
        "limit": options["limit"],
        "family_name": options["family"],
        "checkpoint": options["checkpoint"],
        "device": options["device"],
        "engine": options["engine"],
        **options["settings"],
    }
    wiring = {"items": "@dataset_items" if items == "all" else f"$@splits['{items}']"}
    run(layers, values, wiring=wiring, resume="run the same command again to go on")
