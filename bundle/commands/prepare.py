"""`monai-sam prepare`: a labelled dataset as training slices."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from bundle.commands.common import known_family, output_folder

# Written here, since the modules that decide them import PyTorch; a test holds them to those.
LAYOUTS = ("flare22", "msd", "nnunet", "medsam", "sam_med2d", "monai_label", "folders")
PLANES = ("axial", "coronal", "sagittal")
STORAGES = ("png", "zarr")
FILTERS = {"min_voxels": 1000, "min_pixels": 100, "min_share": 0.00153}


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--layout", required=True, type=click.Choice(LAYOUTS), help="How DATA is laid out.")
@click.option("-o", "--output", required=True, callback=output_folder, help="Folder to write to.")
@click.option("--options", default="{}", metavar="JSON", callback=lambda *args: _json(args[2]), help="Of the layout.")
@click.option("--family", default="default", show_default=True, callback=known_family, help="Whose HU window is used.")
@click.option("--plane", "planes", multiple=True, type=click.Choice(PLANES), default=["axial"], show_default=True)
@click.option("--storage", type=click.Choice(STORAGES), default="png", show_default=True)
@click.option("--min-voxels", type=int, default=FILTERS["min_voxels"], show_default=True, help="Of a 3D component.")
@click.option("--min-pixels", type=int, default=FILTERS["min_pixels"], show_default=True, help="Of a 2D component.")
@click.option("--min-share", type=float, default=FILTERS["min_share"], show_default=True, help="Of the slice.")
@click.option(
    "--split", nargs=3, type=float, default=(0.8, 0.1, 0.1), show_default=True, help="Training, validation, test."
)
@click.option("--folds", type=click.IntRange(0), default=0, help="Also so many folds of cross-validation.")
@click.option("--seed", type=int, default=0, help="Of the split.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
def prepare(data: Path, output: str, **chosen: Any) -> None:
    """Turn the labelled images in DATA into slices: pictures, label maps, boxes, a patient-wise split and a report.

    A filter of 0 is off. A run that was stopped goes on with the same command. Several machines may prepare one dataset
    into one folder: start the command with torchrun, as a SLURM array, or as a Kubernetes indexed job.
    """
    from bundle.data import prepare as preparing
    from bundle.data.datasets import read_layout
    from bundle.data.slices import SliceFilters
    from bundle.families.family import load_family

    report = preparing.prepare(
        read_layout(chosen["layout"], data, **chosen["options"]),
        Path(output),
        preparing.Preparation(
            contract=load_family(chosen["family"]).contract,
            planes=tuple(chosen["planes"]),
            filters=SliceFilters(**{name: chosen[name] for name in FILTERS}),
            storage=chosen["storage"],
        ),
        fractions=tuple(chosen["split"]),
        folds=chosen["folds"],
        seed=chosen["seed"],
        workers=chosen["workers"],
    )
    _say(report, output)
    if report["failed"]:
        sys.exit(1)


def _say(report: Mapping[str, Any], output: str) -> None:
    click.echo(f"{report['slices']} slices of {report['items']} items in {output}, patients {report['patients']}")
    for rule, organs in report["dropped"].items():
        parts = ", ".join(f"{organ} {count['parts']} ({count['size']})" for organ, count in organs.items())
        click.echo(f"dropped by {rule}, parts (voxels or pixels): {parts}")
    for organ, items in report["organs_lost"].items():
        click.echo(f"nothing is left of {organ} in {len(items)} items; lower the filters if they are real")
    for item, reason in report["failed"].items():
        click.echo(f"failed {item}: {reason}", err=True)


def _json(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"must be JSON: {error}") from error
    if not isinstance(options, dict):
        raise click.BadParameter('must be a JSON object such as {"names": "names.json"}')
    return options
