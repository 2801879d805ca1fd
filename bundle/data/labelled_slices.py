"""Labelled slices held in memory, ready to be drawn from in training and validation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bundle.data.dataset_files import read_image, stem
from bundle.data.grid import check_grid
from bundle.data.labelled_slice import LabelledSlice, shrunk, without_labels
from bundle.data.labelled_slice import LabelledStack as LabelledStack
from bundle.data.labelled_slice import describe_sources as describe_sources
from bundle.data.labelled_slice import few_slices as few_slices
from bundle.data.labelled_slice import resized as resized
from bundle.data.labelled_slice import stack_slices as stack_slices
from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import Volume, read_label
from bundle.errors import TrainingError, VolumeError
from bundle.transforms.contract import Contract
from bundle.transforms.dictionary import IntensityViewsd, VolumeToSlicesd

MIN_PIXELS = 20
"""Smaller objects of a slice are not offered as objects."""


def cut_slices(
    volume: Volume,
    labels: Volume | None,
    *,
    patient: str,
    contract: Contract | None = None,
    preprocessing: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None,
    axes: Sequence[int] = (2,),
    min_pixels: int = MIN_PIXELS,
    max_side: int | None = None,
    keep_empty: bool = False,
    annotated: Sequence[int] | None = None,
    name: str | None = None,
) -> list[LabelledSlice]:
    """Cut the slices of a volume that show at least one object of ``min_pixels`` pixels.

    Args:
        volume: the image.
        labels: its label map; None is an unlabelled volume, all of whose slices are kept.
        patient: who it shows.
        contract: gives the intensity views of the volume.
        preprocessing: of a training or evaluation, in place of ``IntensityViewsd`` of a contract: it takes ``image``
            (C, I, J, K), ``label`` (1, I, J, K), ``affine`` and ``modality`` and adds the views, ``intensity``.
        axes: stored axes to slice along.
        min_pixels: smaller objects of a slice are not offered as objects.
        max_side: larger slices are shrunk to this many pixels, because the network would shrink them anyway.
        keep_empty: keep slices without an object as well.
        annotated: label values that somebody looked for; None for all.
        name: of the volume, from which its slices get their keys; by default the patient.

    Raises:
        VolumeError: the label map does not lie on the image, see ``check_grid``.
        TrainingError: for both a contract and a preprocessing, or neither.
    """
    if (contract is None) == (preprocessing is None):
        raise TrainingError("slices are cut with the views of a contract or of a preprocessing, got both or neither")
    labels = None if labels is None else check_grid(volume, labels)
    known = () if labels is None else None if annotated is None else tuple(annotated)
    prepared = (preprocessing or IntensityViewsd("image", contract))(_dictionary_of(volume, labels))
    found = []
    for axis in axes:
        data = VolumeToSlicesd(("image", "label"), axis=axis)(prepared)
        slices = zip(np.moveaxis(data["image"], 1, 0), data["label"][0], strict=True)  # (C, H, W) and (H, W) each
        for index, (picture, truth) in enumerate(slices):
            picture = picture[0] if len(picture) == 1 else np.moveaxis(picture, 0, -1)
            picture, truth, pixel = shrunk(picture, truth, data["pixel_spacing"], max_side)
            values, counts = np.unique(truth, return_counts=True)
            ids = tuple(int(v) for v, n in zip(values, counts, strict=True) if v != 0 and n >= min_pixels)
            if ids or keep_empty or labels is None:
                key = f"{name or patient}-{axis}-{index:04d}"
                found.append(
                    LabelledSlice(
                        picture=picture.copy(),
                        labels=truth.copy(),
                        ids=ids,
                        intensity=data["intensity"],
                        modality=volume.modality,
                        pixel_spacing=pixel,
                        patient=patient,
                        key=key,
                        annotated=known,
                    )
                )
    return found


def _dictionary_of(volume: Volume, labels: Volume | None) -> dict[str, Any]:
    """A volume and its label map as MONAI's transforms take them: channels first, nothing copied."""
    array = np.moveaxis(volume.array, -1, 0) if volume.is_color else volume.array[None]
    truth = np.zeros(volume.shape, np.uint8) if labels is None else labels.array
    return {"image": array, "label": truth[None], "affine": volume.affine, "modality": volume.modality}


def read_pool(items: Iterable[Mapping[str, Any]], **options: Any) -> list[LabelledSlice]:
    """Read the items of a dataset layout and cut them.

    Args:
        items: as ``read_what_can_be_read`` takes them.
        options: as cut_slices; ``contract`` or ``preprocessing`` gives the intensity views.

    Raises:
        VolumeError: naming every item that cannot be read. They are not left out: a training on fewer patients is
            another one.
    """
    items = list(items)
    pool = read_what_can_be_read(items, **options)
    failed = [reason for _, reason in pool.unreadable]
    if failed:
        several = f"{len(failed)} of {len(items)} items cannot be read; mend them or take them out of the data:"
        raise VolumeError(failed[0] if len(failed) == 1 else "\n  ".join([several, *failed]))
    return pool.slices


@dataclass(frozen=True, eq=False)
class Pool:
    """What was read of a data set.

    Attributes:
        slices: of the items that could be read.
        unreadable: of each of the others its key, ``patient/file``, and why it could not be read.
    """

    slices: list[LabelledSlice]
    unreadable: list[tuple[str, str]]


def read_what_can_be_read(items: Iterable[Mapping[str, Any]], **options: Any) -> Pool:
    """Read the items of a dataset layout and cut them, as ``read_pool``, going on after one that cannot be read.

    Args:
        items: each with ``image``, ``label`` (None where nobody labelled it), ``patient``, and optionally ``labelled``,
            the label values that were annotated, ``slices``, which say it for each slice along the last axis, and
            ``series`` and ``read_as``, see ``read_image``.
        options: as cut_slices.
    """
    pool: list[LabelledSlice] = []
    unreadable: list[tuple[str, str]] = []
    for item in tqdm(list(items), desc="reading slices", leave=False):
        try:
            found = _read_item(item, options)
        except (VolumeError, OSError, MemoryError) as error:
            key = f"{item['patient']}/{Path(item['image']).name}"
            unreadable.append((key, str(error) or type(error).__name__))
            continue
        pool += _annotated_by_slice(found, item["slices"]) if "slices" in item else found
    return Pool(pool, unreadable)


def _read_item(item: Mapping[str, Any], options: Mapping[str, Any]) -> list[LabelledSlice]:
    volume = read_image(item)
    labels = read_label(item["label"]) if item.get("label") else None
    patient, name = str(item["patient"]), stem(Path(item["image"]))
    return cut_slices(volume, labels, patient=patient, annotated=item.get("labelled"), name=name, **options)


def _annotated_by_slice(slices: Sequence[LabelledSlice], described: Sequence[Mapping[str, Any]]) -> list[LabelledSlice]:
    """What was looked for in each slice of a prepared zarr: filters may have dropped an organ in some of them."""
    known = [tuple(about["labelled"]) for about in described]
    return [replace(part, annotated=known[int(part.key.rpartition("-")[2])]) for part in slices]


def phantom_pool(
    seeds: Sequence[int],
    *,
    contract: Contract,
    shape: tuple[int, int, int] = (112, 96, 48),
    without: Sequence[str] = (),
    **options: Any,
) -> list[LabelledSlice]:
    """Slices of generated patients, one per seed, as if nobody had labelled the organs named in ``without``."""
    pool: list[LabelledSlice] = []
    for seed in tqdm(seeds, desc="making phantoms", leave=False):
        volume, labels, names = make_phantom(shape=shape, spacing=(3.4, 3.4, 5.0), seed=seed)
        slices = cut_slices(volume, labels, contract=contract, patient=f"phantom-{seed}", **options)
        hidden = [names[organ] for organ in without if organ in names]
        pool += without_labels(slices, hidden) if hidden else slices
    return pool
