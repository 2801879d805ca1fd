"""Types of voxels: the smallest that holds the values of an image, and those of a label map."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bundle.errors import VolumeError


def smallest_unsigned(highest: int) -> np.dtype:
    """The smallest of uint8, uint16 and uint32 that holds ``highest``.

    Raises:
        VolumeError: none does.
    """
    for dtype in (np.uint8, np.uint16, np.uint32):
        if highest <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    raise VolumeError(f"labels must be below 2**32, got {highest}")


def whole_numbers(array: np.ndarray, step: float, path: Path) -> np.ndarray:
    """Floats that are whole numbers, or were before they were stored in steps.

    A step below 1 moved each number by less than the step and by less than a half, and every voxel of a label alike:
    where two stored values would become one number, the file holds an image.

    Raises:
        VolumeError: they are not.
    """
    if np.isfinite(array).all():
        whole = np.round(array)
        off = np.abs(array - whole).max(initial=0)
        if off == 0:
            return whole
        reach = min(0.5, step + 1e-6 * whole.max())  # the scale factor itself is a float32
        if 0 < step < 1 and off < reach and len(np.unique(array)) == len(np.unique(whole)):
            return whole
    raise VolumeError(f"labels in {path} must be whole numbers from 0, got others; is this an image?")


def gaps_filled(array: np.ndarray, path: Path) -> np.ndarray:
    """An array of any shape with its smallest finite value where it was NaN or infinite.

    Raises:
        VolumeError: no value is finite.
    """
    if array.dtype.kind != "f":
        return array
    finite = np.isfinite(array)
    if array.size and not finite.any():
        raise VolumeError(f"{path} holds no finite value (all NaN or infinite)")
    return array if finite.all() else np.where(finite, array, array[finite].min())


def compact(array: np.ndarray) -> np.ndarray:
    """The same values as uint8, int16 or float32 if they are that, else in the smallest of int16, int32 and float32.

    Raises:
        VolumeError: they are complex.
    """
    if array.dtype.kind == "c":
        raise VolumeError("expected real values, got complex ones; take the magnitude first")
    if array.dtype in (np.uint8, np.int16, np.float32) or array.size == 0:
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    fitting = (kind for kind in (np.int16, np.int32) if _fits(array, kind))
    return array.astype(next(fitting, np.float32))


def _fits(array: np.ndarray, dtype: type) -> bool:
    return np.iinfo(dtype).min <= array.min() and array.max() <= np.iinfo(dtype).max
