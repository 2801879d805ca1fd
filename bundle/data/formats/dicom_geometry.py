"""Where the frames of DICOM files lie in the patient: the tags of each frame, and the affine that fits a stack of them.

A frame is a classic single-frame file, or one frame of a multi-frame file, whose tags lie in functional groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from bundle.data.headers.claims import DEFLATE_RATIO, damaged, too_large
from bundle.data.limits import LIMITS
from bundle.errors import VolumeError

# Frames closer along the normal than this part of a pixel lie at one position.
_SAME_POSITION = 0.01
# How far a slice may lie off its place in an even stack, in steps: more than rounding in the tags makes.
_UNEVEN = 0.1
# Bytes that a frame of a multi-frame file takes at least: the head of a compressed one, 8 x 8 pixels of one bit.
_SMALLEST_FRAME = 8
_SHARED = tag_for_keyword("SharedFunctionalGroupsSequence")
_PER_FRAME = tag_for_keyword("PerFrameFunctionalGroupsSequence")
# Where the distance between pixels stands, best first: at the patient, at the detector, of a scanned film.
_PIXEL_SPACING = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a DICOM file.

    Attributes:
        file: where it is stored.
        index: which frame of the file, from 0.
        name: of the file, and from 1 the number of the frame where there are several.
        tags: of the frame: those of the file, overruled by its functional groups.
        size: (columns, rows).
        position: (3,) centre of its first pixel in LPS mm, None where the file does not say.
        orientation: (2, 3) unit vectors in LPS along a row and down a column, None where the file does not say.
        spacing: (2,) mm between columns and between rows.
        thickness: mm; 1 where the file does not say.
    """

    file: Path
    index: int
    name: str
    tags: Dataset
    size: tuple[int, int]
    position: np.ndarray | None
    orientation: np.ndarray | None
    spacing: np.ndarray
    thickness: float

    @property
    def normal(self) -> np.ndarray:
        """(3,) unit vector in LPS, along which slices are stacked."""
        return np.cross(*self.orientation)

    @property
    def is_color(self) -> bool:
        """Whether it holds red, green and blue, as samples or through a palette."""
        return int(self.tags.get("SamplesPerPixel", 1)) > 1 or self.tags.get("PhotometricInterpretation") == (
            "PALETTE COLOR"
        )


def frames_of(dataset: Dataset, file: Path) -> list[Frame]:
    """The frames of a file in stored order.

    Raises:
        VolumeError: the geometry of a frame cannot be used.
    """
    count = _count_frames(dataset, file)
    shared = _flat(dataset[_SHARED].value[:1]) if _SHARED in dataset else {}
    groups = dataset[_PER_FRAME].value if _PER_FRAME in dataset else []
    if groups and len(groups) != count:
        raise VolumeError(f"{file} has {count} frames and describes {len(groups)} of them; export it again")
    common = {tag: dataset.get_item(tag) for tag in dataset.keys() - {_SHARED, _PER_FRAME}}
    positions = _positions_of_nuclear_medicine(dataset, count)
    frames = []
    for index in range(count):
        tags = Dataset({**common, **shared, **(_flat([groups[index]]) if groups else {})})
        tags.is_little_endian = getattr(dataset, "is_little_endian", True)
        name = f"{file.name} frame {index + 1}" if count > 1 else file.name
        frames.append(_frame(tags, file, index, name, positions))
    return frames


def _count_frames(dataset: Dataset, file: Path) -> int:
    count = int(dataset.get("NumberOfFrames") or 1)
    if count > LIMITS.pages:
        raise too_large(file, f"{count} frames", "pages", LIMITS)
    is_deflated = dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    room = file.stat().st_size * (DEFLATE_RATIO if is_deflated else 1)
    if count < 1 or (count > 1 and count * _SMALLEST_FRAME > room):
        raise damaged(file, f"it announces {count} frames, which a file of {file.stat().st_size} bytes cannot hold")
    return count


def _flat(groups: Sequence[Dataset]) -> dict:
    """The elements of all functional groups of a frame; each group is a sequence of one item."""
    return {
        element.tag: element
        for group in groups
        for sequence in group
        if sequence.VR == "SQ" and sequence.value
        for element in sequence.value[0]
    }


def _frame(tags: Dataset, file: Path, index: int, name: str, positions: np.ndarray | None) -> Frame:
    detector = next(iter(tags.get("DetectorInformationSequence", [])), Dataset())
    position = _numbers(tags, "ImagePositionPatient", 3, name) if positions is None else positions[index]
    orientation = _numbers(tags, "ImageOrientationPatient", 6, name)
    if orientation is None:
        orientation = _numbers(detector, "ImageOrientationPatient", 6, name)
    if position is None or orientation is None:
        position = orientation = None
    spacing = next((found for key in _PIXEL_SPACING if (found := _numbers(tags, key, 2, name)) is not None), None)
    if spacing is not None and not (spacing > 0).all():
        raise VolumeError(f"the pixel spacing of {name} must be positive, got {spacing.tolist()} mm")
    return Frame(
        file=file,
        index=index,
        name=name,
        tags=tags,
        size=(int(tags.Columns), int(tags.Rows)),
        position=position,
        orientation=None if orientation is None else _unit(orientation.reshape(2, 3), name),
        spacing=_aspect(tags, name) if spacing is None else spacing[::-1],  # DICOM: between rows first
        thickness=_thickness(tags),
    )


def _aspect(tags: Dataset, name: str) -> np.ndarray:
    """(2,) distance between columns and between rows where no tag gives it in mm: the shape of a pixel, as 1 wide."""
    ratio = _numbers(tags, "PixelAspectRatio", 2, name)  # vertical, horizontal (PS3.3 C.7.6.3.1.7)
    if ratio is None:
        return np.ones(2)
    if (ratio <= 0).any():
        raise VolumeError(f"the pixel aspect ratio of {name} must be positive, got {ratio.tolist()}")
    return np.array([1.0, ratio[0] / ratio[1]])


def _numbers(tags: Dataset, keyword: str, count: int, name: str) -> np.ndarray | None:
    value = tags.get(keyword)
    if value is None or value == "" or not hasattr(value, "__len__") or len(value) == 0:
        return None
    numbers = np.array([float(number) for number in value])
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise VolumeError(f"{keyword} of {name} must be {count} numbers, got {list(value)}; export it again")
    return numbers


def _unit(orientation: np.ndarray, name: str) -> np.ndarray:
    lengths = np.linalg.norm(orientation, axis=1)
    if np.abs(lengths - 1).max() > 1e-2 or abs(orientation[0] @ orientation[1]) > 1e-2:
        raise VolumeError(f"the rows and columns of {name} must be at right angles, got {orientation.ravel().tolist()}")
    return orientation / lengths[:, None]


def _thickness(tags: Dataset) -> float:
    """What one slice extends along the normal; SpacingBetweenSlices says nothing about one slice and may be 0."""
    for keyword in ("SliceThickness", "SpacingBetweenSlices"):
        if value := abs(float(tags.get(keyword) or 0)):
            return value
    return 1.0


def _positions_of_nuclear_medicine(dataset: Dataset, count: int) -> np.ndarray | None:
    """(N, 3) LPS mm. A reconstructed NM file says the first slice's place and counts from there (PS3.3 C.8.4.15)."""
    detector = next(iter(dataset.get("DetectorInformationSequence", [])), None)
    step, slices = dataset.get("SpacingBetweenSlices"), dataset.get("SliceVector")
    if detector is None or not step or slices is None or "ImagePositionPatient" not in detector:
        return None
    slices = np.atleast_1d(np.asarray(slices, dtype=float))
    orientation = _numbers(detector, "ImageOrientationPatient", 6, "the detector")
    if orientation is None or len(slices) != count:
        return None
    first = _numbers(detector, "ImagePositionPatient", 3, "the detector")
    return first + np.outer(slices - 1, np.cross(*orientation.reshape(2, 3)) * float(step))


# ---- stacks ---------------------------------------------------------------------------------------------------------


def positions_along_normal(frames: Sequence[Frame]) -> np.ndarray:
    """(N,) whole numbers: frames with one number lie at one position; they rise along the normal of the first frame."""
    heights = np.array([frame.position @ frames[0].normal for frame in frames])
    order = np.argsort(heights, kind="stable")
    is_next = np.diff(heights[order], prepend=heights[order[0]]) > _SAME_POSITION * frames[0].spacing.min()
    numbers = np.empty(len(frames), dtype=int)
    numbers[order] = np.cumsum(is_next)
    return numbers


def arrange(frames: Sequence[Frame]) -> tuple[list[Frame], np.ndarray]:
    """Sort the frames of one size, orientation and pixel spacing along their normal, and fit them with one affine.

    The third column of the affine is the step from slice to slice, (last - first) / (N - 1). It need not be along the
    normal: a CT with gantry tilt is sheared. Frames without a position keep their order, and lie at the origin.

    Returns:
        The frames along k, and the (4, 4) affine from voxel index (i, j, k) to LPS mm.

    Raises:
        VolumeError: the step is zero or not the same everywhere; names the frames.
    """
    if frames[0].position is None:
        return list(frames), np.diag([*frames[0].spacing, frames[0].thickness, 1.0])
    numbers = positions_along_normal(frames)
    frames = [frames[index] for index in np.argsort(numbers, kind="stable")]
    positions = np.array([frame.position for frame in frames])
    if len(frames) == 1:
        step = frames[0].normal * frames[0].thickness
    else:
        step = (positions[-1] - positions[0]) / (len(frames) - 1)
        _check_even(frames, np.sort(numbers), positions, step)
    affine = np.eye(4)
    affine[:3, :2] = frames[0].orientation.T * frames[0].spacing
    affine[:3, 2], affine[:3, 3] = step, positions[0]
    return frames, affine


def _check_even(frames: Sequence[Frame], numbers: np.ndarray, positions: np.ndarray, step: np.ndarray) -> None:
    repeated = np.flatnonzero(np.diff(numbers) == 0)
    if len(repeated):
        one, other = frames[repeated[0]], frames[repeated[0] + 1]
        raise VolumeError(
            f"expected one slice at each position, got {one.name} and {other.name} both at "
            f"{_text(one.position)} mm; several scans share the series"
        )
    off = np.linalg.norm(positions - positions[0] - np.outer(np.arange(len(frames)), step), axis=1)
    if off.max() <= _UNEVEN * np.linalg.norm(step):
        return
    steps = np.diff(positions, axis=0)
    heights = steps @ frames[0].normal
    usual = steps[np.argsort(heights)[(len(steps) - 1) // 2]]  # of two, the shorter: what is missing makes steps longer
    odd = int(np.linalg.norm(steps - usual, axis=1).argmax())
    before, after = frames[odd], frames[odd + 1]
    missing = round(heights[odd] / (usual @ frames[0].normal)) - 1
    if missing >= 1:
        what = f"{missing} slice{'s are' if missing > 1 else ' is'} missing between {before.name} and {after.name}"
    else:
        what = f"the one from {before.name} to {after.name} is another"
    raise VolumeError(
        f"expected evenly spaced slices, got {what}: the step there is {_text(steps[odd])} mm, "
        f"that of the others {_text(usual)} mm; add what is missing, or move the odd file elsewhere"
    )


def _text(vector: np.ndarray) -> str:
    return "(" + ", ".join(f"{number:.4g}" for number in np.round(vector, 3) + 0.0) + ")"
