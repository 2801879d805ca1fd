"""Whether a label map lies on its image: the one check at every door that takes both."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import product

import nibabel as nib
import numpy as np

from bundle.data.formats.stored import distance_apart
from bundle.data.volume import Volume
from bundle.errors import VolumeError

logger = logging.getLogger(__name__)

# Shares of the image's smallest voxel side: how far a label map may be off, and from where on it is said.
_LARGEST_OFFSET = 0.5
_NOTED_OFFSET = 0.1


def check_grid(image: Volume, label: Volume) -> Volume:
    """The label map on the grid of its image, or a refusal; labels are never interpolated.

    A label map that was stored with other axes or directions than its image is reordered by the affines, exactly. A
    segmentation of 3D Slicer that is cropped to its segments is put back into its place. Pictures and other files that
    say nothing about where they lie are compared by shape alone.

    Args:
        image: the image.
        label: its label map.

    Returns:
        ``label`` with the shape and affine of ``image``.

    Raises:
        VolumeError: it has another shape, lies elsewhere or is turned; the message says how far off it is.
    """
    if not (image.placed or label.placed):
        if image.shape != label.shape:
            raise VolumeError(_other_shape(image, label))
        return replace(label, affine=image.affine)
    readings = list(product(_affines(image), _affines(label)))
    found = [_on_grid(label, of_label, image.shape, of_image) for of_image, of_label in readings]
    # Headers that can be read in two ways: what needs no reordering is the likelier reading.
    fitting = [number for number, (array, off, _) in enumerate(found) if array is not None and _fits(image, off)]
    if not fitting:
        raise VolumeError(_refusal(image, label, found[0]))
    chosen = min(fitting, key=lambda number: found[number][2])
    array, off, is_reordered = found[chosen]
    _log(image, label, off, is_reordered=is_reordered, other_reading=chosen > 0)
    return replace(label, array=array, affine=image.affine, other_affine=image.other_affine)


def _affines(volume: Volume) -> list[np.ndarray]:
    return [volume.affine] if volume.other_affine is None else [volume.affine, volume.other_affine]


def _fits(image: Volume, off: float) -> bool:
    return off <= _LARGEST_OFFSET * image.spacing.min()


def _on_grid(
    label: Volume, of_label: np.ndarray, shape: tuple[int, int, int], of_image: np.ndarray
) -> tuple[np.ndarray | None, float, bool]:
    """The labels in the image's order of axes (None if the shape differs), how far off in mm, and if they moved."""
    if label.segments:
        of_label = _with_step_of(of_image, of_label, label.shape)
    try:
        orientation = nib.io_orientation(np.linalg.inv(of_image) @ of_label)
    except np.linalg.LinAlgError:
        orientation = np.full((3, 2), np.nan)
    if np.isnan(orientation).any():
        return None, np.inf, False
    array = nib.apply_orientation(label.array, orientation)
    affine = of_label @ nib.orientations.inv_ornt_aff(orientation, label.shape)
    is_reordered = not np.array_equal(orientation, [[0, 1], [1, 1], [2, 1]])
    if label.segments:
        array, affine = _uncropped(array, affine, shape, of_image)
    if array is None or array.shape != shape:
        return None, np.inf, is_reordered
    return array, distance_apart(of_image, affine, shape), is_reordered


def _with_step_of(of_image: np.ndarray, of_label: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The affine of a segmentation of one slice, which has no step of its own, with the step of the image from there.

    Its file names a thickness at best: along the normal also where the slices of the image are sheared, and without
    the gaps between them.
    """
    single = [axis for axis, count in enumerate(shape) if count == 1]
    if len(single) != 1 or abs(np.linalg.det(of_image)) < 1e-12:
        return of_label
    in_plane = np.linalg.solve(of_image[:3, :3], np.delete(of_label[:3, :3], single[0], axis=1))
    taken = np.abs(in_plane).argmax(axis=0)
    if taken[0] == taken[1]:
        return of_label
    step = of_image[:3, 3 - taken.sum()]
    of_label = of_label.copy()
    of_label[:3, single[0]] = step if step @ of_label[:3, single[0]] >= 0 else -step
    return of_label


def _uncropped(
    array: np.ndarray, affine: np.ndarray, shape: tuple[int, int, int], of_image: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray]:
    """A cropped label map on a grid of the image's shape, None if it lies beside the image altogether.

    What lies outside of the image goes, with a warning.
    """
    start = np.linalg.solve(of_image, affine[:, 3])[:3]
    start = np.floor(start + 0.5).astype(int)
    moved = affine.copy()
    moved[:3, 3] -= affine[:3, :3] @ start
    if array.shape == shape and not start.any():
        return array, affine
    inside = [slice(max(0, -s), max(0, min(n, size - s))) for s, n, size in zip(start, array.shape, shape, strict=True)]
    kept = array[tuple(inside)]
    if array.any() and not kept.any():
        return None, affine
    whole = np.zeros(shape, array.dtype)
    where = [slice(max(0, s), max(0, s) + n) for s, n in zip(start, kept.shape, strict=True)]
    whole[tuple(where)] = kept
    if lost := np.count_nonzero(array) - np.count_nonzero(kept):
        logger.warning("%d labelled voxels of a segmentation lie outside of its image and are left out", lost)
    return whole, moved


def _log(image: Volume, label: Volume, off: float, *, is_reordered: bool, other_reading: bool) -> None:
    if other_reading:
        logger.warning("%s lies on %s by the other of qform and sform; it is taken so", label.source, image.source)
    if is_reordered:
        logger.warning("%s was stored in another order of axes than %s; it is reordered", label.source, image.source)
    if off > _NOTED_OFFSET * image.spacing.min():
        logger.warning("%s lies %.2f mm off %s; it is taken as it is", label.source, off, image.source)


def _other_shape(image: Volume, label: Volume) -> str:
    return (
        f"label map {label.source} has {label.shape} voxels and its image {image.shape}; "
        "give the label map of this image, or resample it to the image's grid"
    )


def _refusal(image: Volume, label: Volume, found: tuple[np.ndarray | None, float, bool]) -> str:
    array, off, _ = found
    if array is None and label.segments:
        return f"segmentation {label.source} lies outside of its image; give the segmentation of this image"
    if array is None and image.shape != label.shape:
        return _other_shape(image, label)
    off = off if array is not None else distance_apart(image.affine, label.affine, image.shape)
    sentence = f"label map {label.source} lies up to {off:.1f} mm off its image {image.source or ''}".rstrip()
    if image.placed != label.placed:
        return f"{sentence}, of which one does not say where it lies; store both in one format"
    return f"{sentence}; resample it to the image's grid"
