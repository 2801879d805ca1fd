"""What readers return and writers take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

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


class Stored(NamedTuple):
    """What a file holds, in the index order of the file.

    Attributes:
        array: (I, J, K), or (I, J, K, 3) colour.
        affine: (4, 4) float64, voxel index to RAS+ mm.
        modality: "CT", "windowed" or "other"; None where the file does not say.
        segments: of a segmentation file.
        series: which DICOM series and scan of the source it is, as ``read_volume`` was told.
    """

    array: np.ndarray
    affine: np.ndarray
    modality: str | None = None
    segments: tuple[Segment, ...] = ()
    series: str | None = None


def picture_modality(array: np.ndarray) -> str | None:
    """8-bit grey values and colours have been through a window."""
    return "windowed" if array.dtype == np.uint8 else None
