"""The slices between those that a user has confirmed, from their shape alone."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import scipy  # its modules are imported when they are used


def fill_between(
    masks: Mapping[int, np.ndarray], *, pixel_spacing: tuple[float, float] = (1.0, 1.0)
) -> dict[int, np.ndarray]:
    """Interpolate the shape of an object between confirmed slices.

    Shape-based interpolation (Raya and Udupa, IEEE Trans. Med. Imaging 9(1), 1990): the signed distances to the
    outlines of the two nearest confirmed slices, each weighted by how near its slice is; the object is where the sum is
    negative.

    Args:
        masks: slice index -> (H, W) bool, the confirmed slices. On one without the object it has ended: nothing is
            filled between there and the next.
        pixel_spacing: (dy, dx) in mm.

    Returns:
        Slice index -> (H, W) bool of the slices between confirmed ones; the confirmed slices are not among them. It is
        empty on some where the object on the one lies beside that on the other.
    """
    filled: dict[int, np.ndarray] = {}
    for low, high in pairwise(sorted(masks)):
        if high - low < 2 or not (masks[low].any() and masks[high].any()):
            continue
        below, above = (_signed_distance(masks[index], pixel_spacing) for index in (low, high))
        between = {index: (high - index) * below + (index - low) * above < 0 for index in range(low + 1, high)}
        filled.update(between)
    return filled


def _signed_distance(mask: np.ndarray, pixel_spacing: tuple[float, float]) -> np.ndarray:
    """(H, W) float mm from the outline, which lies half a pixel beside the outermost pixels; negative inside.

    What lies beyond the slice is not the object.
    """
    padded = np.pad(mask != 0, 1)
    inside = scipy.ndimage.distance_transform_edt(padded, sampling=pixel_spacing)
    outside = scipy.ndimage.distance_transform_edt(~padded, sampling=pixel_spacing)
    half = min(pixel_spacing) / 2
    return np.where(padded, half - inside, outside - half)[1:-1, 1:-1]
