"""Cleaning of a mask in millimetres: small islands, small holes, a rough surface."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
import scipy  # its modules are imported when they are used

_log = logging.getLogger(__name__)


def remove_islands(
    mask: np.ndarray, spacing: Sequence[float], diameter: float, *, kept: np.ndarray | None = None
) -> np.ndarray:
    """Remove pieces that are smaller than a ball; the largest piece stays.

    Args:
        mask: (A, B, C) bool; along an axis of one voxel it has no extent, so a slice is measured in mm2 against a disc.
        spacing: (3,) mm.
        diameter: of the ball or disc in mm; 0 removes nothing.
        kept: (A, B, C) bool; pieces with one of these voxels stay.

    Returns:
        (A, B, C) bool. Voxels that touch at a corner are one piece.
    """
    if diameter <= 0 or not mask.any():
        return mask
    pieces, _ = scipy.ndimage.label(mask, scipy.ndimage.generate_binary_structure(3, 3))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    stays = sizes * _voxel_size(mask.shape, spacing) >= _ball(mask.shape, diameter)
    stays[sizes.argmax()] = True
    if kept is not None:
        stays[pieces[kept]] = True
    stays[0] = False
    return stays[pieces]


def fill_holes(mask: np.ndarray, spacing: Sequence[float], diameter: float) -> np.ndarray:
    """Fill holes that are not larger than a ball of a diameter in mm; arguments as ``remove_islands``.

    A hole is background without a way out along the faces of voxels; on one slice within the slice.
    """
    if diameter <= 0 or not mask.any():
        return mask
    flat = [size == 1 for size in mask.shape]
    padded = np.pad(mask, [(0, 0) if thin else (1, 1) for thin in flat])
    holes, _ = scipy.ndimage.label(~padded)
    sizes = np.bincount(holes.ravel())
    small = sizes * _voxel_size(mask.shape, spacing) <= _ball(mask.shape, diameter)
    small[0] = False
    small[holes.flat[0]] = False  # what lies around the object
    filled = padded | small[holes]
    return filled[tuple(slice(None) if thin else slice(1, -1) for thin in flat)]


def smooth(mask: np.ndarray, spacing: Sequence[float], deviation: float) -> np.ndarray:
    """Smooth the surface: the mask through a Gaussian, cut at one half, as 3D Slicer's Gaussian smoothing.

    Args:
        mask: (A, B, C) bool, with room around the object where the volume has any; what reaches the edge goes on there.
        spacing: (3,) mm.
        deviation: standard deviation of the Gaussian in mm; 0 changes nothing.

    Returns:
        (A, B, C) bool. An object that would vanish stays as it is, which is logged.
    """
    if deviation <= 0 or not mask.any():
        return mask
    sigma = [0.0 if size == 1 else deviation / step for size, step in zip(mask.shape, spacing, strict=True)]
    smoothed = scipy.ndimage.gaussian_filter(mask.astype(np.float32), sigma, mode="nearest") >= 0.5
    if not smoothed.any():
        _log.warning("smoothing by %g mm would leave nothing of the object, which is therefore not smoothed", deviation)
        return mask
    return smoothed


def _voxel_size(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """mm3 of a voxel, mm2 on one slice."""
    return math.prod(step for size, step in zip(shape, spacing, strict=True) if size > 1)


def _ball(shape: Sequence[int], diameter: float) -> float:
    """mm3 of a ball, mm2 of a disc where there is one slice, mm where there is one row."""
    dimensions = sum(size > 1 for size in shape)
    return {3: math.pi / 6 * diameter**3, 2: math.pi / 4 * diameter**2}.get(dimensions, diameter)
