"""DICOM SEG read as a label map, with the names and colours of its segments (PS3.3 A.51, A.94)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset

from bundle.data.formats.dicom_files import read_dataset
from bundle.data.formats.dicom_geometry import Frame, frames_of, positions_along_normal
from bundle.data.formats.dicom_pixels import decode
from bundle.data.formats.stored import LPS_TO_RAS, Segment, Stored, told_apart
from bundle.errors import VolumeError

logger = logging.getLogger(__name__)

# More slices than any scan has: a wrong distance between them must not fill the memory.
_MOST_SLICES = 8192
# How far a slice may lie off its place, in steps.
_UNEVEN = 0.1


def is_segmentation(header: Dataset) -> bool:
    """Whether the tags of a file are those of a segmentation (frames of one segment each, or a label map)."""
    return header.get("Modality") == "SEG" and "SegmentSequence" in header


def read_segments(path: Path) -> tuple[Segment, ...]:
    """The segments of a DICOM SEG; their values are the segment numbers.

    Raises:
        VolumeError: it is no DICOM SEG, or two segments have one number.
    """
    return _segments_of(read_dataset(path, stop_before_pixels=True), path)


def segment_names(header: Dataset) -> dict[int, str]:
    """Number -> name of the segments that the tags of a DICOM SEG describe."""
    labels = {int(item.SegmentNumber): item.get("SegmentLabel") for item in _items_of(header)}
    return told_apart({number: str(label or f"segment {number}") for number, label in labels.items()})


def read_segmentation(header: FileDataset, path: Path) -> Stored:
    """Read a DICOM SEG; the value of a segment is its number.

    A SEG has no frames for the slices on which it shows nothing, so its grid reaches from its first slice to its last;
    ``bundle.data.grid`` puts it onto that of an image. Where segments overlap, the one with the higher number is taken,
    and a warning says how many voxels that are. Of a fractional SEG, what is at least half inside counts.

    Args:
        header: its tags.
        path: the file.

    Raises:
        VolumeError: its frames do not lie on one grid, or it is damaged.
    """
    segments = _segments_of(header, path)
    frames = frames_of(header, path)
    if any(frame.position is None for frame in frames):
        raise VolumeError(f"{path} does not say where its frames lie; segment a tomographic series")
    slices, affine = _grid(frames, path)
    values = decode(frames[0])
    if len(values) != len(frames):
        raise VolumeError(f"{path} holds {len(values)} frames and describes {len(frames)}; export it again")
    array = np.zeros((slices.max() + 1, *values.shape[1:]), np.uint16)
    covered = 0
    for index in np.argsort([_number_of(frame) for frame in frames], kind="stable"):
        number = _number_of(frames[index])
        mask = values[index] > 0 if number == 0 else _is_inside(values[index], header)
        labels = array[slices[index]]
        covered += int(np.count_nonzero(labels[mask]))
        labels[mask] = values[index][mask] if number == 0 else number
    if covered:
        logger.warning(
            "segments overlap in %d voxels of %s; there the one with the higher number is taken", covered, path
        )
    if header.get("SegmentationType") == "FRACTIONAL":
        logger.warning("%s holds fractions; voxels that are at least half inside a segment are taken", path)
    return Stored(array.transpose(2, 1, 0), LPS_TO_RAS @ affine, "other", segments=segments)


def _segments_of(header: Dataset, path: Path) -> tuple[Segment, ...]:
    if not is_segmentation(header):
        raise VolumeError(f"expected a DICOM SEG in {path}, got an object of modality {header.get('Modality')}")
    items = _items_of(header)
    numbers = [int(item.SegmentNumber) for item in items]
    if len(set(numbers)) != len(numbers):
        raise VolumeError(f"two segments of {path} have one number, got {numbers}; export it again")
    names = segment_names(header)
    return tuple(Segment(names[number], number, _color_of(item)) for number, item in zip(numbers, items, strict=True))


def _items_of(header: Dataset) -> list[Dataset]:
    return [item for item in header.SegmentSequence if int(item.SegmentNumber) > 0]  # 0: background of a label map


def _number_of(frame: Frame) -> int:
    """The segment that a frame shows; 0 in a label map, whose pixels are the numbers."""
    return int(frame.tags.get("ReferencedSegmentNumber") or 0)


def _is_inside(values: np.ndarray, header: Dataset) -> np.ndarray:
    highest = int(header.get("MaximumFractionalValue") or 1)
    return 2 * values.astype(np.int32) >= max(1, highest)


def _color_of(item: Dataset) -> tuple[float, float, float] | None:
    """Red, green and blue of a CIELab colour (PS3.3 C.10.7.1.1), under D65 as dcmqi and 3D Slicer write it."""
    from skimage.color import lab2rgb  # a second that only labels with colours pay

    scaled = item.get("RecommendedDisplayCIELabValue")
    if scaled is None or len(scaled) != 3:
        return None
    lightness, a, b = (float(number) / 65535 for number in scaled)
    red, green, blue = np.clip(lab2rgb([lightness * 100, a * 255 - 128, b * 255 - 128]), 0, 1).tolist()
    return red, green, blue


def _grid(frames: Sequence[Frame], path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The slice of each frame, (N,), and the affine from voxel index to LPS mm of slices that lie evenly."""
    first = frames[0]
    if any(np.abs(frame.orientation - first.orientation).max() > 1e-3 for frame in frames):
        raise VolumeError(f"the frames of {path} have several orientations; export one segmentation for each")
    numbers, index = np.unique(positions_along_normal(frames), return_index=True)
    places = np.array([frames[i].position for i in index])
    hint = abs(float(first.tags.get("SpacingBetweenSlices") or 0)) or first.thickness
    affine = np.eye(4)
    affine[:3, :2], affine[:3, 3] = first.orientation.T * first.spacing, places[0]
    affine[:3, 2] = first.normal * hint
    if len(numbers) == 1:
        return np.zeros(len(frames), dtype=int), affine
    heights = (places - places[0]) @ first.normal
    slices = _even_slices(heights, hint, path)
    step = (places[-1] - places[0]) / slices[-1]
    if np.linalg.norm(places - places[0] - np.outer(slices, step), axis=1).max() > _UNEVEN * np.linalg.norm(step):
        raise VolumeError(f"the frames of {path} do not lie on one line; segment a series of even slices")
    affine[:3, 2] = step
    return slices[positions_along_normal(frames)], affine


def _even_slices(heights: np.ndarray, hint: float, path: Path) -> np.ndarray:
    """(N,) index of the slice at each height, by the distance that the file names or else one that fits them all."""
    narrowest = np.diff(heights).min()
    for step in (hint, *(narrowest / count for count in range(1, 17))):
        slices = heights / step
        if np.abs(slices - np.round(slices)).max() <= _UNEVEN and slices[-1] < _MOST_SLICES and step <= 1.1 * narrowest:
            return np.round(slices).astype(int)
    raise VolumeError(f"the slices of {path} are not evenly spaced, at heights {np.round(heights, 2).tolist()[:8]} mm")
