"""How simulated prompts are drawn from a mask: the one place that training, evaluation and tests call.

Masks are arrays in which nonzero means object: a slice `(H, W)` or a volume `(I, J, K)`. Coordinates follow the
house's conventions: in a slice a point is `(x, y)` = (column, row) and a box `(x0, y0, x1, y1)`; in a volume a point
is `(i, j, k)` and a box `(i0, j0, k0, i1, j1, k1)`. Both corners of a box are inclusive pixel centres, and an integer
coordinate is the centre of a pixel. Labels of points are SAM's: 1 object, 0 not object, -1 padding that means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import scipy  # its modules are imported when they are used

from bundle.errors import EmptyMaskError


class ErrorPoint(NamedTuple):
    """A correcting click in a slice; `label` is 1 where object was missed and 0 where it was invented."""

    x: float
    y: float
    label: int


class LabelledPoints(NamedTuple):
    """`points` is (n, ndim) float32 and `labels` (n,) int64 of 1, 0, or -1 (padding)."""

    points: np.ndarray
    labels: np.ndarray


# ---- boxes ----------------------------------------------------------------------------------------------------------


def tight_box(mask: np.ndarray) -> np.ndarray:
    """The smallest box around the object: (4,) float32 `(x0, y0, x1, y1)`, or (6,) of a volume; corners inclusive.

    Raises:
        EmptyMaskError: the mask has no object.
    """
    region = _bounds(mask)
    lower = [part.start for part in region]
    upper = [part.stop - 1 for part in region]
    return np.concatenate([_coordinates(lower), _coordinates(upper)])


def shift_box(box: np.ndarray, pixels: float, shape: Sequence[int]) -> np.ndarray:
    """Moves every side of `box` outward by `pixels` (inward where negative) and clamps it to an image of `shape`."""
    return _move_sides(box, np.full(len(box), pixels, dtype=np.float32), shape)


def jitter_box(
    box: np.ndarray,
    rng: np.random.Generator,
    *,
    max_pixels: float | Sequence[float],
    shape: Sequence[int],
    inward: bool = False,
) -> np.ndarray:
    """Moves each side of `box` by its own uniform draw, outward from 0 to `max_pixels`, and clamps it to the image.

    Args:
        box: as `tight_box` gives it.
        rng: decides the draws.
        max_pixels: the largest move, one number or one per coordinate `(x, y)` (micro-sam's is a share of the side).
        shape: of the array that the box lies in, `(H, W)` or `(I, J, K)`.
        inward: draw from `-max_pixels` to `max_pixels` instead, as SAM-Med2D does; no side passes the box's middle.
    """
    largest = np.tile(np.broadcast_to(np.asarray(max_pixels, dtype=np.float32), (len(box) // 2,)), 2)
    lowest = -largest if inward else np.zeros_like(largest)
    return _move_sides(box, rng.uniform(lowest, largest).astype(np.float32), shape)


def _move_sides(box: np.ndarray, outward: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    lower, upper = np.split(np.asarray(box, dtype=np.float32), 2)
    middle = (lower + upper) / 2
    last = _coordinates([size - 1 for size in shape])
    lower_moved = np.minimum(lower - outward[: len(lower)], middle)
    upper_moved = np.maximum(upper + outward[len(lower) :], middle)
    return np.concatenate([np.clip(lower_moved, 0, last), np.clip(upper_moved, 0, last)])


# ---- points inside an object ----------------------------------------------------------------------------------------


def interior_point(mask: np.ndarray, rng: np.random.Generator | None = None, *, fraction: float = 0.1) -> np.ndarray:
    """A point well inside the object: (2,) float32 `(x, y)`, or (3,) of a volume.

    Without `rng` it is the pixel farthest from the object's edge (the first in array order where several are). With
    `rng` it is drawn from the `fraction` of the object's pixels that lie deepest, as finetune-SAM does with a tenth
    (Gu et al., MELBA 2025:006). The edge of the image counts as an edge of the object.

    Raises:
        EmptyMaskError: the mask has no object.
    """
    region = _bounds(mask)
    depth = object_depth(mask[region])
    if rng is None:
        flat = int(depth.argmax())
    else:
        inside = np.flatnonzero(depth)
        count = max(1, round(fraction * inside.size))
        deepest = inside[np.argpartition(depth.ravel()[inside], inside.size - count)[-count:]]
        flat = int(rng.choice(deepest))
    return _coordinates(_place(flat, region))


def random_point(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A pixel of the object, each as likely as the others: (2,) float32 `(x, y)`, or (3,) of a volume.

    Raises:
        EmptyMaskError: the mask has no object.
    """
    return _random_points(mask, 1, rng)[0]


# ---- points that correct a prediction -------------------------------------------------------------------------------


def error_point(truth: np.ndarray, prediction: np.ndarray, rng: np.random.Generator | None = None) -> ErrorPoint | None:
    """The click in a slice that a user would make next, or None where prediction and truth agree.

    Without `rng` it is the centre (largest distance from the edge) of the largest 8-connected region where the two
    differ, the rule of the CVPR 2025 interactive challenge; with `rng` any wrong pixel, the rule of SAM-Med2D.
    """
    located = _locate_error(truth, prediction, rng)
    if located is None:
        return None
    row, column = located
    return ErrorPoint(float(column), float(row), int(truth[located] != 0))


def error_voxel(
    truth: np.ndarray, prediction: np.ndarray, rng: np.random.Generator | None = None
) -> tuple[float, float, float, int] | None:
    """As `error_point` in a volume, with 26-connected regions: `(i, j, k, label)`, or None where the two agree."""
    located = _locate_error(truth, prediction, rng)
    if located is None:
        return None
    return (*(float(index) for index in located), int(truth[located] != 0))


def error_points(truth: np.ndarray, prediction: np.ndarray, n: int, rng: np.random.Generator) -> LabelledPoints:
    """`n` random wrong pixels with the labels that correct them (SAM-Med2D); all padding where nothing is wrong.

    Pixels repeat only where fewer than `n` are wrong.
    """
    wrong = (truth != 0) != (prediction != 0)
    if not wrong.any():
        return LabelledPoints(np.zeros((n, truth.ndim), np.float32), np.full(n, -1, np.int64))
    flat = _draw(np.flatnonzero(wrong), n, rng)
    index = np.unravel_index(flat, truth.shape)
    return LabelledPoints(_coordinates(index).T.copy(), (truth[index] != 0).astype(np.int64))


def paired_error_points(truth: np.ndarray, prediction: np.ndarray, rng: np.random.Generator) -> LabelledPoints:
    """One positive and one negative correction, as micro-sam's iterative training draws them; labels `(1, 0)`.

    The positive point lies where object was missed, else where both agree on object. The negative one lies where
    object was invented, else within 3 pixels of the object's box, else anywhere in the background. A point that
    cannot exist (no object, no background) becomes padding with label -1.
    """
    truth, prediction = truth != 0, prediction != 0
    positive = _first_of([truth & ~prediction, truth], 1, rng)
    negative = _first_of([prediction & ~truth, _box_surroundings(truth, 3), ~truth], 0, rng)
    points, labels = zip(positive, negative, strict=True)
    return LabelledPoints(np.stack(points), np.asarray(labels, dtype=np.int64))


def _first_of(choices: Sequence[np.ndarray], label: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    for region in choices:
        if region.any():
            return random_point(region, rng), label
    return np.zeros(choices[0].ndim, np.float32), -1


def _box_surroundings(truth: np.ndarray, margin: int) -> np.ndarray:
    """Background within the box of the object, widened by `margin` pixels; nothing where there is no object."""
    around = np.zeros_like(truth)
    if truth.any():
        around[_bounds(truth, margin)] = True
    return around & ~truth


def _locate_error(truth: np.ndarray, prediction: np.ndarray, rng: np.random.Generator | None) -> tuple[int, ...] | None:
    wrong = (truth != 0) != (prediction != 0)
    if not wrong.any():
        return None
    region = _bounds(wrong)
    wrong = wrong[region]
    flat = int(rng.choice(np.flatnonzero(wrong))) if rng else int(object_depth(largest_component(wrong)).argmax())
    return _place(flat, region)


# ---- shared pieces --------------------------------------------------------------------------------------------------


def _coordinates(index: Sequence[int] | Sequence[np.ndarray]) -> np.ndarray:
    """Array index -> coordinates: (row, column) becomes (x, y), an index of a volume stays (i, j, k)."""
    ordered = index[::-1] if len(index) == 2 else index
    return np.asarray(ordered, dtype=np.float32)


def _bounds(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...]:
    """The object's bounding slices, widened by `margin` within the array."""
    if not mask.any():
        raise EmptyMaskError("expected a mask with an object, got an empty one; leave empty masks out first")
    bounds = []
    for axis, size in enumerate(mask.shape):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        bounds.append(slice(max(0, int(filled[0]) - margin), min(size, int(filled[-1]) + 1 + margin)))
    return tuple(bounds)


def _place(flat: int, region: tuple[slice, ...]) -> tuple[int, ...]:
    """A flat index within a cropped region -> the index in the whole array."""
    inside = np.unravel_index(flat, [part.stop - part.start for part in region])
    return tuple(int(index) + part.start for index, part in zip(inside, region, strict=True))


def object_depth(mask: np.ndarray) -> np.ndarray:
    """Euclidean distance of each object pixel from the nearest pixel outside; outside the array is outside."""
    padded = np.pad(mask != 0, 1)
    if mask.ndim == 2:  # OpenCV is some ten times as fast as SciPy, but has no 3D
        depth = cv2.distanceTransform(padded.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    else:
        depth = scipy.ndimage.distance_transform_edt(padded)
    return depth[(slice(1, -1),) * mask.ndim]


def _components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Fully connected components (8 or 26 neighbours): their numbers from 1, and how many there are."""
    if mask.ndim == 2:
        count, components = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        return components, count - 1
    return scipy.ndimage.label(mask, structure=np.ones((3,) * mask.ndim))


def largest_component(mask: np.ndarray) -> np.ndarray:
    """(H, W) or (I, J, K) bool: the largest fully connected component of a mask that is not empty."""
    components, _ = _components(mask)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return components == sizes.argmax()


def _random_points(mask: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    inside = np.flatnonzero(mask)
    if inside.size == 0:
        raise EmptyMaskError("expected a mask with an object, got an empty one; leave empty masks out first")
    return _coordinates(np.unravel_index(_draw(inside, n, rng), mask.shape)).T


def _draw(flat: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(flat, size=n, replace=n > flat.size)
