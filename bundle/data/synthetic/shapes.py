"""Drawn label maps that show nobody's anatomy: closed structures of every shape and size, with neighbours.

A network that has to outline them in random colours learns what an edge is, and not what an organ is (SynthSeg,
Billot et al. 2023; UniverSeg, Butoi et al. 2023, train on such material as well).
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage
from tqdm import tqdm

from bundle.data.labelled_slices import LabelledSlice
from bundle.transforms.contract import View

_MIN_PIXELS = 40
_MIN_DEPTH = 2.0  # pixels from the edge to the middle; thinner rims between cells are no structures
_MAX_SHARE = 0.4  # of the picture; larger pieces are background


def draw_shapes(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one map: cells of a smooth random partition, with blobs and tubes over them.

    Args:
        size: side in pixels.
        rng: decides everything.

    Returns:
        (size, size) int16, 0 between the structures, every connected structure with a number of its own.
    """
    labels = _cells(size, rng) if rng.random() < 0.8 else np.zeros((size, size), int)
    for _ in range(rng.integers(1, 12)):
        shape = draw_tube(size, rng) if rng.random() < 0.35 else draw_blob(size, rng)
        labels[shape] = labels.max() + 1 if rng.random() < 0.9 else 0
    return _numbered(labels)


def shape_pool(count: int, *, size: int = 256, seed: int = 0) -> list[LabelledSlice]:
    """So many drawn maps as slices without a picture: a training that draws colours of its own shows them."""
    pool = []
    for number in tqdm(range(count), desc="drawing shapes", leave=False):
        labels = draw_shapes(size, np.random.default_rng((seed, number)))
        ids = tuple(int(i) for i in np.unique(labels) if i)
        if ids:
            picture, views = np.zeros((size, size), np.uint8), (View(0.0, 255.0),) * 3
            name = f"shapes-{number}"
            pool.append(LabelledSlice(picture, labels, ids, views, "windowed", (1.0, 1.0), patient=name, key=name))
    return pool


def _cells(size: int, rng: np.random.Generator) -> np.ndarray:
    """A partition of the picture: the largest of several smooth fields, or one field cut at several heights."""
    scale = size / rng.uniform(3, 14)
    if rng.random() < 0.5:
        cells = np.argmax([smooth_field(size, scale, rng) for _ in range(rng.integers(2, 6))], axis=0)
    else:
        field = smooth_field(size, scale, rng)
        cells = np.digitize(field, np.sort(rng.normal(0, 1, rng.integers(1, 4))))
    return cells + int(rng.random() < 0.5)  # else the first kind is what lies between


def draw_blob(
    size: int, rng: np.random.Generator, *, centre: np.ndarray | None = None, longest: float = 0.3
) -> np.ndarray:
    """(size, size) bool: an ellipse whose radius varies smoothly with the angle.

    Args:
        size: side of the picture in pixels.
        rng: decides everything.
        centre: (x, y) in pixels; None for anywhere.
        longest: the longer half axis at most, as a share of the side.
    """
    rows, columns = np.mgrid[:size, :size]
    angle = rng.uniform(0, np.pi)
    centre = rng.uniform(0, size, 2) if centre is None else centre
    x, y = columns - centre[0], rows - centre[1]
    long = size * np.exp(rng.uniform(np.log(0.03), np.log(longest)))
    u = (np.cos(angle) * x + np.sin(angle) * y) / long
    v = (np.cos(angle) * y - np.sin(angle) * x) / (long * rng.uniform(0.35, 1))
    around = np.arctan2(v, u)
    order = np.arange(2, 7)
    waves = rng.normal(0, rng.uniform(0, 0.35), 5) / order
    return np.hypot(u, v) < 1 + np.tensordot(
        waves, np.cos(order[:, None, None] * around + rng.uniform(0, 6, (5, 1, 1))), 1
    )


def draw_tube(size: int, rng: np.random.Generator) -> np.ndarray:
    """(size, size) bool: a smooth path with a width that varies along it."""
    steps = np.cumsum(ndimage.gaussian_filter1d(rng.normal(0, 1, (120, 2)), 12, axis=0), axis=0)
    path = steps / max(1e-6, np.abs(steps).max()) * size * rng.uniform(0.1, 0.5) + rng.uniform(0, size, 2)
    width = size * np.exp(rng.uniform(np.log(0.01), np.log(0.06)))
    centre = np.zeros((size, size), bool)
    inside = ((path >= 0) & (path < size)).all(axis=1)
    centre[tuple(path[inside].astype(int).T)] = True
    if not centre.any():
        return centre
    return pixel_depth(~centre) < width * np.exp(0.3 * smooth_field(size, size / 8, rng))


def smooth_field(size: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of unit standard deviation; structures of about ``scale`` pixels."""
    cells = max(2, round(size / scale))
    side = size * (cells + 3) // cells
    field = cv2.resize(rng.standard_normal((cells + 3, cells + 3)), (side, side), interpolation=cv2.INTER_CUBIC)
    top, left = rng.integers(0, side - size + 1, 2)
    field = field[top : top + size, left : left + size]
    return (field - field.mean()) / field.std()


def _numbered(labels: np.ndarray) -> np.ndarray:
    """Every connected piece of a value with a number of its own; pieces too small, too thin or too large are 0."""
    numbered = np.zeros(labels.shape, np.int16)
    for value in np.unique(labels[labels > 0]):
        count, pieces = cv2.connectedComponents((labels == value).astype(np.uint8), connectivity=4)
        sizes = np.bincount(pieces.ravel(), minlength=count)
        depth = ndimage.maximum(pixel_depth(pieces > 0), pieces, np.arange(count))
        kept = (sizes >= _MIN_PIXELS) & (sizes <= _MAX_SHARE * labels.size) & (depth >= _MIN_DEPTH)
        kept[0] = False
        numbers = np.zeros(count, np.int16)
        numbers[kept] = numbered.max() + 1 + np.arange(kept.sum())
        numbered += numbers[pieces]
    return numbered


def pixel_depth(mask: np.ndarray) -> np.ndarray:
    """Distance in pixels to the nearest pixel outside of the mask."""
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
