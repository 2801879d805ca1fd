"""`monai-sam segment`: images and prompts in, label maps out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from bundle.commands.common import engine_option, model_options, output_folder, run

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".npz", ".png", ".dcm")


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(exists=True), metavar="IMAGE...")
@click.option("--box", nargs=6, type=float, metavar="I0 I1 J0 J1 K0 K1", help="Both ends included, in voxels.")
@click.option(
    "--point", "points", nargs=3, type=float, multiple=True, metavar="I J K", help="On the object; may repeat."
)
@click.option("--background", nargs=3, type=float, multiple=True, metavar="I J K", help="Off the object; may repeat.")
@click.option("--name", default="object", show_default=True, help="Of the object of --box and --point.")
@click.option(
    "--prompts", type=click.Path(exists=True), help="JSON; a folder of them, or a table (.csv) for several images."
)
@click.option("--label", type=click.Path(exists=True), help="Label map, or folder: boxes around its objects, scores.")
@click.option("--names", type=click.Path(exists=True, dir_okay=False), help='JSON {"liver": 1} of --label.')
@click.option("-o", "--output", required=True, callback=output_folder, help="Folder for the results; is made.")
@click.option("--format", "ending", type=click.Choice(ENDINGS), default=".nii.gz", show_default=True)
@click.option("--slices", is_flag=True, help="Only the slices of the prompts; by default through the volume.")
@click.option("--axis", type=click.IntRange(0, 2), default=2, show_default=True, help="That slices are stacked along.")
@click.option(
    "--limits", nargs=2, type=int, metavar="FIRST LAST", help="Slices that answers may lie on, both included."
)
@click.option("--islands-mm", type=float, default=0.0, help="Remove pieces smaller than a ball of this diameter.")
@click.option("--holes-mm", type=float, default=0.0, help="Fill holes up to a ball of this diameter.")
@click.option("--smoothing-mm", type=float, default=0.0, help="Smooth the surface, standard deviation of a Gaussian.")
@click.option("--preview", is_flag=True, help="Also a picture of each case, with contours.")
@click.option("--statistics", is_flag=True, help="Also ml, axes in mm and mean HU of each object, in report.csv.")
@click.option(
    "--modality", type=click.Choice(["CT", "windowed", "other"]), help="Where the file does not say it right."
)
@click.option("--series", help="Which of several DICOM series or scans.")
@click.option("--overwrite", is_flag=True, help="Do anew what is done already.")
@engine_option("auto")
@model_options
def segment(images: tuple[str, ...], output: str, ending: str, slices: bool, overwrite: bool, **options: Any) -> None:
    """Segment IMAGE: a volume, the folder of a DICOM series, a folder of images, or a list (.txt).

    \b
    monai-sam segment ct.nii.gz --box 62 109 23 82 21 50 --point 85 50 35 -o out
    monai-sam segment images/ --prompts boxes.csv -o out --preview --statistics

    Results that are there, from the same files and settings, are kept: after a stop the same command goes on. Several
    workers may share a folder of results: start the command with torchrun, as a SLURM array, or as a Kubernetes
    indexed job.
    """
    prompts = _prompts(
        images, output, **{key: options[key] for key in ("box", "points", "background", "name", "prompts")}
    )
    if prompts is None and options["label"] is None:
        raise click.UsageError("say what to segment: --box, --point, --prompts or --label")
    values = {
        "image": images[0] if len(images) == 1 else list(images),
        "prompts": prompts,
        "label": options["label"],
        "label_names": options["names"],
        "output_dir": output,
        "output_ext": ending,
        "dimension": 2 if slices else 3,
        "axis": options["axis"],
        "limits": list(options["limits"]) if options["limits"] else None,
        "islands_mm": options["islands_mm"],
        "holes_mm": options["holes_mm"],
        "smoothing_mm": options["smoothing_mm"],
        "family_name": options["family"],
        "checkpoint": options["checkpoint"],
        "device": options["device"],
        "engine": options["engine"],
        "modality": options["modality"],
        "series": options["series"],
        "statistics": options["statistics"],
        "preview": options["preview"],
        "resume": not overwrite,
    }
    run(["inference"], values, resume="run the same command again to go on")


def _prompts(
    images: tuple[str, ...],
    output: str,
    *,
    box: tuple[float, ...] | None,
    points: tuple[tuple[float, ...], ...],
    background: tuple[tuple[float, ...], ...],
    name: str,
    prompts: str | None,
) -> str | None:
    """The prompts file: the one given, or one with what was typed, which is kept beside the results."""
    if box is None and not points and not background:
        return prompts
    if prompts:
        raise click.UsageError("give --prompts, or --box and --point, not both")
    if len(images) > 1 or not _is_one(Path(images[0])):
        raise click.UsageError(
            "a box or point belongs to one image; for several give --prompts with a folder or a table"
        )
    typed: dict[str, Any] = {"name": name, "label": 1}
    if box is not None:
        typed["box"] = [list(box[::2]), list(box[1::2])]
    if points or background:
        typed["points"] = [list(point) for point in (*points, *background)]
        typed["point_labels"] = [1] * len(points) + [0] * len(background)
    from bundle.errors import OptionError
    from bundle.files import write_text

    path = Path(output) / "prompts.json"
    try:
        return str(write_text(path, json.dumps({"objects": [typed]}, indent=1) + "\n"))
    except OSError as error:
        raise OptionError(f"cannot write into the folder {output} ({error.strerror}); choose another") from error


def _is_one(path: Path) -> bool:
    """Whether a path can be one image; of a folder the bundle finds out."""
    return path.is_dir() or path.suffix != ".txt"
