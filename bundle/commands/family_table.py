"""The table of model families: size, cost, prompts, weights, licence, and one box on one real slice with each."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch

from bundle.data.grid import check_grid
from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import Volume, read_label, read_volume
from bundle.engines.cache import PreparedCache
from bundle.errors import OptionError
from bundle.evaluation.metrics import dice
from bundle.families.family import Family, build_network, list_families, load_family
from bundle.families.summary import summarise
from bundle.interactive.slice_model import SlicePredictor, SlicePrompt, SliceView
from bundle.prompts.simulation import tight_box
from bundle.root import BUNDLE_ROOT
from bundle.transforms.frames import SliceFrame

LIVER = 1
COLUMNS = {
    "family": "<34",
    "parameters": ">11",
    "trainable": ">11",
    "input": ">5",
    "mask": ">4",
    "GMACs": ">7",
    "prompts": "<14",
    "licence": "<10",
    "weights from": "<22",
    "weights": "<7",
    "seconds": ">7",
    "one box": "",
}


@dataclass(frozen=True)
class RealSlice:
    """An axial slice of a volume, with the mask of one organ."""

    volume: Volume
    frame: SliceFrame
    index: int
    mask: np.ndarray
    origin: str


def lines(
    names: Sequence[str], *, variants: bool = False, image: Path | None = None, label: Path | None = None
) -> Iterator[str]:
    """The table line by line, each as soon as it is known.

    Args:
        names: of families; all where there are none.
        variants: count the variants of finetune-SAM, run nothing.
        image: a volume; by default a real CT, or the phantom without one.
        label: its label map, with the organ as value 1.

    Raises:
        FamilyError: one that does not exist.
        OptionError: an image without its label, or a label without the organ.
    """
    if (image is None) != (label is None):
        raise OptionError("--image and --label belong together: the box is drawn from the label")
    families = [load_family(name) for name in names or list_families(variants=variants)]
    example = None if variants else find_slice(image, label)
    if example:
        yield f"box around the liver on slice {example.index} of {example.origin}"
    yield line(*COLUMNS)
    yield from (row(family, example) for family in families)


def row(family: Family, example: RealSlice | None) -> str:
    """One line of the table."""
    size = summarise(family)
    checkpoint = family.checkpoint or {}
    here = bool(family.checkpoint) and family.checkpoint_path.is_file()
    seconds, answer = run(family, example, here=here) if example else ("", "")
    return line(
        family.name,
        f"{size.parameters:,}",
        f"{size.trainable:,}",
        size.image_size,
        size.mask_size,
        f"{size.gmacs:.1f}",
        " ".join(family.prompts),
        checkpoint.get("licence", "-"),
        source_of(family),
        "here" if here else "random",
        seconds,
        answer,
    )


def line(*values: object) -> str:
    """The values in columns."""
    return " ".join(f"{value:{width}}" for value, width in zip(values, COLUMNS.values(), strict=True))


def source_of(family: Family) -> str:
    """Where the weights come from: a host, the repository, or the family that training starts from."""
    if not family.checkpoint:
        return f"train from {family.start}"
    address = family.checkpoint.get("url") or family.checkpoint.get("page")
    return urlsplit(address).hostname if address else family.checkpoint["file"].partition("/")[0] + "/"


def find_slice(image: Path | None, label: Path | None) -> RealSlice:
    """The axial slice with most of the organ: of the given volume, of a FLARE-style CT, or of the phantom.

    Raises:
        OptionError: the label map does not show the organ.
    """
    folder = Path(os.environ.get("MONAI_SAM_DATA", BUNDLE_ROOT.parent / "shared" / "data")) / "flare22-style"
    if image is None and folder.is_dir():
        image, label = (next((folder / kind).glob("*.nii.gz")) for kind in ("images", "labels"))
    if image is None:
        volume, label_volume, _ = make_phantom()
        labels, origin = label_volume.array, "the generated phantom"
    else:
        volume, origin = read_volume(image), image.name
        labels = check_grid(volume, read_label(label)).array
    frame = SliceFrame.of_plane(volume.shape, volume.affine, "axial")
    organ = frame.stack(labels) == LIVER
    if not organ.any():
        raise OptionError(f"{label} has no voxel of value {LIVER}; give a label map in which the organ has that value")
    index = int(organ.sum(axis=(1, 2)).argmax())
    return RealSlice(volume, frame, index, organ[index], origin)


def run(family: Family, example: RealSlice, *, here: bool) -> tuple[str, str]:
    """Segment the slice; returns the seconds it took and what came out."""
    network = build_network(family, random=not here)
    if family.prompts != ("none",) and len(network.spec.input_shape) == 4:
        return "", "answers volumes, beside a family of slices"
    picture = example.frame.extract(example.volume.array, example.index)
    intensity = family.contract.intensity(example.volume.array, example.volume.modality)
    spacing = example.frame.pixel_spacing(example.volume.spacing)
    start = time.perf_counter()
    if family.prompts == ("none",):
        placement = family.contract.placement(*picture.shape[:2], spacing)
        image = family.contract.to_input(picture, intensity, placement)
        with torch.inference_mode():
            classes = network(image.reshape(1, *network.spec.input_shape)).argmax(1)
        answer = f"{len(classes.unique())} classes on {tuple(classes.shape[-2:])}"
    else:
        predictor = SlicePredictor(network, family.contract, store=PreparedCache())
        view = SliceView(picture, intensity, spacing)
        mask = predictor.predict(view, SlicePrompt(box=tight_box(example.mask))).mask
        answer = f"DSC {dice(mask, example.mask):.3f}" if here else f"{int(mask.sum())} pixels"
    return f"{time.perf_counter() - start:.1f}", answer
