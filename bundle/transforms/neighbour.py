"""What a mask may look like one or a few slices further on, made from the mask of one slice.

Most training slices come alone. So the answer that propagation hands to the next slice is simulated by moving, scaling
and bending the truth, and softened to logits as a network gives them.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

from bundle.transforms.simulation import tight_box

# How much the outline of an object changes over one slice or a few. Sides scale by up to a third because the end of a
# convex object changes fastest, and a stale mask that is too large is what the network has to let go of.
_SCALE = 0.22
_SHIFT = 0.07
_ROTATION = 0.15
_BEND = 0.06
# A trained decoder's logits go from -9 to 9 or so, over a few pixels at the edge.
_HIGHEST_LOGIT = 8.0


def neighbour_logits(mask: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """Logits of a mask that lies where the object was on a neighbouring slice.

    Args:
        mask: (S, S) bool, the object on this slice; not empty.
        rng: decides how it has changed.
        size: side of the logits, 4g of the network.

    Returns:
        (size, size) float32, above 0 on the object.
    """
    small = cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    moved = _moved(small, rng)
    soft = ndimage.gaussian_filter(moved if moved.max() > 0.5 else small, rng.uniform(0.5, 1.5))
    soft /= soft.max()  # the softened mask of a thin object would be nowhere above 0
    return (_HIGHEST_LOGIT * rng.uniform(0.5, 1.0) * (2 * soft - 1)).astype(np.float32)


def _moved(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mask, scaled, turned, shifted and bent about the middle of its box."""
    x0, y0, x1, y1 = tight_box(mask)
    middle, sides = np.array([x0 + x1, y0 + y1]) / 2, np.array([x1 - x0, y1 - y0]) + 1
    common, own = rng.normal(0.0, _SCALE), rng.normal(0.0, _SCALE / 2, 2)
    scale = np.exp(np.clip(common + own, -0.6, 0.6))
    angle = rng.normal(0.0, _ROTATION)
    shift = rng.normal(0.0, _SHIFT, 2) * sides
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    grid = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in mask.shape[::-1])), axis=-1)
    source = (grid - middle - shift) @ turn / scale + middle + _bend(mask.shape, sides, rng)
    return cv2.remap(mask, *np.moveaxis(source.astype(np.float32), -1, 0), cv2.INTER_LINEAR)


def _bend(shape: tuple[int, ...], sides: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 2) smooth displacement in pixels, of about a fifth of the object's size in wave length."""
    cells = np.clip(np.ceil(5 * np.array(shape) / sides[::-1]), 3, 32).astype(int)
    field = rng.normal(0.0, _BEND, (*cells, 2)) * sides
    return cv2.resize(field.astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
