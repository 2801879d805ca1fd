"""Labelled slices held in memory, ready to be drawn from in training and validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from bundle.data.phantom import make_phantom
from bundle.data.volume import Volume, read_label, read_volume
from bundle.transforms.contract import Contract, Intensity
from bundle.transforms.frames import SliceFrame


@dataclass(frozen=True, eq=False)
class LabelledSlice:
    """One slice with its labels.

    Attributes:
        picture: (H, W) intensities of the volume, or (H, W, 3) colour.
        labels: (H, W) integer label map.
        ids: label values that are labelled here; anything else is unlabelled, not background.
        intensity: the contract's views of the volume that the slice came from.
        modality: CT, other or windowed.
        pixel_spacing: (dy, dx) in mm.
        patient: who it shows; no patient may stand in two splits.
        key: name of the slice, unique within its source.
    """

    picture: np.ndarray
    labels: np.ndarray
    ids: tuple[int, ...]
    intensity: Intensity
    modality: str
    pixel_spacing: tuple[float, float]
    patient: str
    key: str


def cut_slices(
    volume: Volume,
    labels: Volume,
    *,
    contract: Contract,
    patient: str,
    axes: Sequence[int] = (2,),
    min_pixels: int = 20,
    max_side: int | None = None,
) -> list[LabelledSlice]:
    """Cut the slices of a volume that show at least one object of ``min_pixels`` pixels.

    Args:
        volume: the image.
        labels: its label map on the same grid.
        contract: gives the intensity views of the volume.
        patient: who it shows.
        axes: stored axes to slice along.
        min_pixels: smaller objects of a slice are not offered as objects.
        max_side: larger slices are shrunk to this many pixels, because the network would shrink them anyway.

    Raises:
        ValueError: when image and labels differ in shape.
    """
    if volume.shape != labels.shape:
        raise ValueError(f"image and label must have one shape, got {volume.shape} and {labels.shape} ({patient})")
    intensity = contract.intensity(volume.array, volume.modality)
    found = []
    for axis in axes:
        frame = SliceFrame.along(volume.shape, volume.affine, axis)
        spacing = frame.pixel_spacing(volume.spacing)
        for index in range(frame.depth):
            truth = frame.extract(labels.array, index)
            picture, truth, pixel = _shrink(frame.extract(volume.array, index), truth, spacing, max_side)
            values, counts = np.unique(truth, return_counts=True)
            ids = tuple(int(v) for v, n in zip(values, counts, strict=True) if v != 0 and n >= min_pixels)
            if ids:
                key = f"{patient}-{axis}-{index:04d}"
                found.append(
                    LabelledSlice(picture.copy(), truth.copy(), ids, intensity, volume.modality, pixel, patient, key)
                )
    return found


def read_pool(items: Iterable[Mapping[str, Any]], *, contract: Contract, **options: Any) -> list[LabelledSlice]:
    """Read the items of a dataset layout (``image``, ``label``, ``patient``) and cut them; options as cut_slices."""
    pool: list[LabelledSlice] = []
    for item in tqdm(list(items), desc="reading slices", leave=False):
        volume, labels = read_volume(item["image"]), read_label(item["label"])
        pool += cut_slices(volume, labels, contract=contract, patient=str(item["patient"]), **options)
    return pool


def phantom_pool(
    seeds: Sequence[int], *, contract: Contract, shape: tuple[int, int, int] = (112, 96, 48), **options: Any
) -> list[LabelledSlice]:
    """Slices of generated patients, one per seed."""
    pool: list[LabelledSlice] = []
    for seed in tqdm(seeds, desc="making phantoms", leave=False):
        volume, labels, _ = make_phantom(shape=shape, spacing=(3.4, 3.4, 5.0), seed=seed)
        pool += cut_slices(volume, labels, contract=contract, patient=f"phantom-{seed}", **options)
    return pool


def _shrink(
    picture: np.ndarray, labels: np.ndarray, spacing: tuple[float, float], max_side: int | None
) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    height, width = labels.shape
    if max_side is None or max(height, width) <= max_side:
        return picture, labels, spacing
    factor = max_side / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    picture = cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_AREA)
    labels = cv2.resize(np.ascontiguousarray(labels).astype(np.int32), size, interpolation=cv2.INTER_NEAREST_EXACT)
    return picture, labels, (spacing[0] * height / size[1], spacing[1] * width / size[0])
