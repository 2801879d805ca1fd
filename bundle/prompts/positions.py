"""Positions in a volume that somebody gave: numbers, inside, in order; what is wrong with those that are not."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from bundle.errors import PromptError
from bundle.transforms.frames import nearest_index

_log = logging.getLogger(__name__)


def as_rows(values: object, what: str, width: int) -> np.ndarray:
    """(N, ``width``) float64, finite.

    Raises:
        PromptError: naming ``what``.
    """
    try:
        array = np.asarray(values, dtype=np.float64).reshape(-1, width)
    except (TypeError, ValueError, OverflowError) as error:
        raise PromptError(f"{what} must be rows of {width} numbers, got {values!r}") from error
    if not np.isfinite(array).all():
        raise PromptError(f"{what} must be finite numbers, got {array.tolist()}")
    return array


def checked_line(values: object, what: str, fewest: int, shape: Sequence[int], affine: np.ndarray | None) -> np.ndarray:
    """(N, 3) float64, at least ``fewest`` positions inside of a volume.

    Args:
        values: of somebody.
        what: names them in messages.
        fewest: how many there must be.
        shape: (I, J, K) of the volume.
        affine: of the volume, see ``Interaction.validated``.

    Raises:
        PromptError: too few, not numbers, or outside.
    """
    line = as_rows(values, what, 3).copy()
    if len(line) < fewest:
        raise PromptError(f"a {what} needs at least {fewest} positions, got {len(line)}")
    check_inside(line, shape, affine)
    return line


def check_inside(points: np.ndarray, shape: Sequence[int], affine: np.ndarray | None) -> None:
    """Raise PromptError for the first of (N, 3) positions that lies outside of a volume of ``shape`` voxels."""
    indices = nearest_index(points, shape)
    outside = ((indices < 0) | (indices >= np.asarray(shape))).any(axis=1)
    if outside.any():
        point = points[outside][0].tolist()
        advice = _as_millimetres(points[outside], shape, affine) or "move it inside"
        raise PromptError(f"point {point} lies outside the volume of {tuple(shape)} voxels; {advice}")


def _as_millimetres(points: np.ndarray, shape: Sequence[int], affine: np.ndarray | None) -> str | None:
    """What to say of (N, 3) coordinates that would all lie in the volume, were they millimetres; None of others."""
    if affine is None:
        return None
    for system, signs in (("RAS", (1, 1, 1)), ("LPS", (-1, -1, 1))):  # 3D Slicer and NIfTI; DICOM and ITK
        inverse = np.linalg.inv(affine)
        voxels = (points * signs) @ inverse[:3, :3].T + inverse[:3, 3]
        if ((voxels > -0.5) & (voxels < np.asarray(shape) - 0.5)).all():
            first = [round(float(value), 1) for value in voxels[0]]
            return f"as millimetres ({system}) it would lie inside; give voxel indices, here {first}"
    return None


def ordered_box(box: object, shape: Sequence[int], affine: np.ndarray | None, name: str) -> np.ndarray:
    """(2, 3) float64 corners, lowest first, clipped to the volume, which is logged.

    Args:
        box: two opposite corners.
        shape: (I, J, K) of the volume.
        affine: of the volume, see ``Interaction.validated``.
        name: of the object, for messages.

    Raises:
        PromptError: not two corners, or without a voxel of the volume.
    """
    corners = as_rows(box, "box", 3)
    if corners.shape != (2, 3):
        raise PromptError(f"box must be two corners of three indices, got {corners.tolist()}")
    low, high = corners.min(axis=0), corners.max(axis=0)
    last = np.asarray(shape) - 1
    if (nearest_index(high, shape) < 0).any() or (nearest_index(low, shape) > last).any():
        advice = _as_millimetres(corners, shape, affine) or "move it inside"
        raise PromptError(f"box {corners.tolist()} does not meet the volume of {tuple(shape)} voxels; {advice}")
    clipped = np.stack([low.clip(0, last), high.clip(0, last)])
    if (clipped != (low, high)).any():
        _log.warning(
            "the box of %r leaves the volume of %s voxels: %s was clipped to %s; boxes are given in voxel indices%s",
            *(name, tuple(shape), [low.tolist(), high.tolist()], clipped.tolist()),
            f", and {advice}" if (advice := _as_millimetres(corners, shape, affine)) else "",
        )
    return clipped
