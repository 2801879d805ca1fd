"""What readers return and writers take."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bundle.errors import VolumeError

logger = logging.getLogger(__name__)

# ITK and DICOM count x towards the patient's left and y towards posterior.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Segment:
    """One segment of a segmentation file.

    Attributes:
        name: as its user gave it.
        value: in the label map that the file is read as.
        color: red, green and blue from 0 to 1; None where the file has none.
    """

    name: str
    value: int
    color: tuple[float, float, float] | None = None


def told_apart(names: Mapping[int, str]) -> dict[int, str]:
    """The names of segments by their values; those that several have with the value behind: "cyst (1)", "cyst (2)"."""
    told = dict(names)
    while len(set(told.values())) < len(told):  # "cyst (2)" may be a third one's own name
        counts = Counter(told.values())
        told = {value: f"{name} ({value})" if counts[name] > 1 else name for value, name in told.items()}
    return told


class Stored(NamedTuple):
    """What a file holds, in the index order of the file.

    Attributes:
        array: (I, J, K), or (I, J, K, 3) colour.
        affine: (4, 4) float64, voxel index to RAS+ mm.
        modality: "CT", "windowed" or "other"; None where the file does not say.
        step: distance between neighbouring values where whole numbers lie behind a scale factor, else 0.
        placed: whether the file says where its voxels lie; a picture does not.
        other_affine: the second reading of a header that can be read in two ways.
        segments: of a segmentation file.
        series: which DICOM series and scan of the source it is, as ``read_volume`` was told.
    """

    array: np.ndarray
    affine: np.ndarray
    modality: str | None = None
    step: float = 0.0
    placed: bool = True
    other_affine: np.ndarray | None = None
    segments: tuple[Segment, ...] = ()
    series: str | None = None


def in_mm(stored: Stored, mm: float, path: Path) -> Stored:
    """What was placed in other lengths than mm, in mm.

    ITK and 3D Slicer take the lengths of NRRD and MetaImage for mm whatever the header says: what they draw on the file
    lies where they show it, which is its other reading.

    Args:
        stored: with the lengths of the file.
        mm: how many mm one of them is.
        path: of the file.
    """
    if mm == 1:
        return stored
    logger.warning("lengths of %s are in units of %g mm and become mm; ITK and 3D Slicer take them for mm", path, mm)
    return stored._replace(affine=np.diag([mm, mm, mm, 1.0]) @ stored.affine, other_affine=stored.affine)


def picture_modality(array: np.ndarray) -> str | None:
    """8-bit grey values and colours have been through a window."""
    return "windowed" if array.dtype == np.uint8 else None


def checked_spacing(spacing: object, path: Path) -> np.ndarray:
    """(3,) float, the (x, y, z) spacing that a file states.

    Raises:
        VolumeError: it is not three numbers above 0.
    """
    try:
        values = np.asarray(spacing, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        values = np.zeros(0)
    if values.shape != (3,) or not (values > 0).all():
        raise VolumeError(f"expected a spacing (x, y, z) of three numbers above 0 in {path}, got {repr(spacing)[:200]}")
    return values


def voxel_sizes(affine: np.ndarray) -> np.ndarray:
    """(3,) the distance in mm between voxels along (i, j, k): the lengths of the first three columns of (4, 4)."""
    return np.sqrt(np.sum(affine[:3, :3] ** 2, axis=0))


def distance_apart(one: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    """The largest distance in mm between the corners of a volume placed by two affines."""
    corners = np.array([[*corner, 1.0] for corner in np.ndindex(2, 2, 2)])
    corners[:, :3] *= np.asarray(shape[:3]) - 1
    return float(np.linalg.norm((corners @ (one - other).T)[:, :3], axis=1).max())
