"""What readers return and writers take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# ITK and DICOM count x towards the patient's left and y towards posterior.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class Stored(NamedTuple):
    """What a file holds, in the index order of the file.

    Attributes:
        array: (I, J, K), or (I, J, K, 3) colour.
        affine: (4, 4) float64, voxel index to RAS+ mm.
        modality: "CT", "windowed" or "other"; None where the file does not say.
    """

    array: np.ndarray
    affine: np.ndarray
    modality: str | None = None


def picture_modality(array: np.ndarray) -> str | None:
    """8-bit grey values and colours have been through a window."""
    return "windowed" if array.dtype == np.uint8 else None
