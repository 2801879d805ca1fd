"""How simulated scribbles and lassos are drawn from the mask of an object on a slice.

Masks are (H, W) arrays in which nonzero means object, lines (N, 2) float (x, y) with integers at the centres of pixels.
Without `rng` a line is the one of a calm hand; with it the hand trembles. In a volume a user draws on one slice:
``on_slice_of_volume`` gives a line its third index.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import scipy  # its modules are imported when they are used
from skimage.graph import MCP_Geometric
from skimage.morphology import skeletonize

from bundle.errors import EmptyMaskError
from bundle.prompts.drawing import along, densely_along
from bundle.prompts.interactions import Lasso, Scribble
from bundle.prompts.prompts import ObjectPrompts
from bundle.prompts.simulation import interior_point, largest_component, object_depth
from bundle.prompts.slice_prompts import SliceInteraction, SlicePrompt

_SHARE = 0.8  # of the centre line that a stroke follows: nobody draws up to the very edge
_CORNERS = 24  # positions of a line
_WOBBLE = 0.3  # of the way to the edge by which a trembling stroke leaves the centre line at most


class ErrorScribble(NamedTuple):
    """A correcting stroke: `path` is (N, 2), `label` 1 where object was missed and 0 where it was invented."""

    path: np.ndarray
    label: int


def scribble_along(mask: np.ndarray, rng: np.random.Generator | None = None, *, share: float = _SHARE) -> np.ndarray:
    """A stroke along the object: the middle share of the longest line through the skeleton of its largest piece.

    Args:
        mask: (H, W).
        rng: of the trembling; the stroke stays inside.
        share: of the line's length.

    Returns:
        (N, 2) pixels (x, y); one position where the object has no length.

    Raises:
        EmptyMaskError: the mask has no object.
    """
    piece = _piece(mask)
    line = _longest_line(skeletonize(piece))
    if len(line) < 2:
        return interior_point(piece)[None]
    line = along(line, np.linspace((1 - share) / 2, (1 + share) / 2, _CORNERS))
    return line if rng is None else _trembling(line, piece, rng)


def scribble_across(mask: np.ndarray, rng: np.random.Generator | None = None, *, share: float = _SHARE) -> np.ndarray:
    """A straight stroke through the innermost pixel of the object, where it is narrowest, or in any direction.

    Arguments, result and errors as ``scribble_along``; with ``rng`` the direction is drawn, too.
    """
    piece = _piece(mask)
    middle = interior_point(piece).astype(float)
    angles = np.linspace(0, np.pi, 12, endpoint=False) if rng is None else [rng.uniform(0, np.pi)]
    reach = float(np.hypot(*piece.shape))
    chords = []
    for angle in angles:
        ray = np.outer(np.arange(-reach, reach + 0.5, 0.5), (np.cos(angle), np.sin(angle))) + middle
        x, y = np.rint(ray).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < piece.shape[1]) & (y < piece.shape[0])
        inside[inside] = piece[y[inside], x[inside]]
        run, _ = scipy.ndimage.label(inside)
        chords.append(ray[run == run[len(ray) // 2]])
    chord = min(chords, key=len)
    line = along(chord[[0, -1]], np.linspace((1 - share) / 2, (1 + share) / 2, _CORNERS))
    return line if rng is None else _trembling(line, piece, rng)


def error_scribble(
    truth: np.ndarray, prediction: np.ndarray, rng: np.random.Generator | None = None
) -> ErrorScribble | None:
    """The stroke that a user would draw next: along the largest region that was missed or invented.

    None where prediction and truth agree. Truth and prediction are (H, W).
    """
    truth, prediction = truth != 0, prediction != 0
    regions = [(wrong, label) for wrong, label in ((truth & ~prediction, 1), (prediction & ~truth, 0)) if wrong.any()]
    if not regions:
        return None
    pieces = [(largest_component(wrong), label) for wrong, label in regions]
    piece, label = max(pieces, key=lambda entry: np.count_nonzero(entry[0]))
    return ErrorScribble(scribble_along(piece, rng), label)


def lasso_around(
    mask: np.ndarray, rng: np.random.Generator | None = None, *, margin: float = 0.1, jitter: float = 0.05
) -> np.ndarray:
    """A line around the largest piece of the object: the outline of the piece dilated and smoothed.

    Args:
        mask: (H, W).
        rng: of the trembling.
        margin: by how much it is dilated, as a share of the square root of its area; at least a pixel.
        jitter: standard deviation of the trembling, as another such share.

    Returns:
        (N, 2) pixels (x, y) inside of the slice, at least 3; its first corner is not repeated.

    Raises:
        EmptyMaskError: the mask has no object.
    """
    piece = _piece(mask)
    height, width = piece.shape
    scale = float(np.sqrt(np.count_nonzero(piece)))
    grow = max(1.0, margin * scale)
    room = int(np.ceil(3 * grow)) + 1
    padded = np.pad(piece, room)
    outside = cv2.distanceTransform((~padded).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    soft = scipy.ndimage.gaussian_filter((outside <= grow).astype(np.float32), grow / 2)
    contours, _ = cv2.findContours((soft > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=cv2.contourArea)[:, 0, :].astype(float) - room
    corners = along(np.concatenate([outline, outline[:1]]), np.linspace(0, 1, _CORNERS, endpoint=False))
    if rng is not None:
        corners += rng.normal(0, jitter * scale, corners.shape)
    return np.clip(corners, 0, (width - 1, height - 1))


def scribble_prompt(
    truth: np.ndarray, rng: np.random.Generator | None = None, axis: int = 2
) -> SlicePrompt | ObjectPrompts:
    """An object started with a scribble along it: on its slice, or on the largest slice of a volume.

    Args:
        truth: (H, W) or (I, J, K), not empty.
        rng: of the trembling.
        axis: that a volume's slices are stacked along.

    Raises:
        EmptyMaskError: the mask has no object.
    """
    if truth.ndim == 2:
        return SlicePrompt(interactions=[SliceInteraction("scribble", scribble_along(truth, rng))])
    index = _largest_slice(truth, axis)
    return ObjectPrompts([Scribble(on_slice_of_volume(scribble_along(truth.take(index, axis), rng), index, axis))])


def lasso_prompt(
    truth: np.ndarray, rng: np.random.Generator | None = None, axis: int = 2
) -> SlicePrompt | ObjectPrompts:
    """An object started with a lasso around it; arguments and errors as ``scribble_prompt``."""
    if truth.ndim == 2:
        return SlicePrompt(interactions=[SliceInteraction("lasso", lasso_around(truth, rng))])
    index = _largest_slice(truth, axis)
    return ObjectPrompts([Lasso(on_slice_of_volume(lasso_around(truth.take(index, axis), rng), index, axis))])


def on_slice_of_volume(line: np.ndarray, index: int, axis: int) -> np.ndarray:
    """A line that was drawn on ``volume.take(index, axis)`` as (N, 3) voxel indices."""
    return np.insert(np.asarray(line, dtype=float)[:, ::-1], axis, index, axis=1)


# ---- shared pieces --------------------------------------------------------------------------------------------------


def _largest_slice(truth: np.ndarray, axis: int) -> int:
    others = tuple(other for other in range(3) if other != axis)
    return int(np.count_nonzero(truth, axis=others).argmax())


def _piece(mask: np.ndarray) -> np.ndarray:
    mask = np.asarray(mask) != 0
    if not mask.any():
        raise EmptyMaskError("expected a mask with an object, got an empty one; leave empty masks out first")
    return largest_component(mask)


def _longest_line(skeleton: np.ndarray) -> np.ndarray:
    """(N, 2) pixels (x, y) of the longest of the shortest ways between two pixels of a skeleton (its diameter)."""
    end = np.argwhere(skeleton)[0]
    for _ in range(2):  # exact in a tree; the second search starts from one end of the diameter
        search = MCP_Geometric(np.where(skeleton, 1.0, np.inf))
        costs, _ = search.find_costs([end])
        costs[~np.isfinite(costs)] = -1
        end = np.unravel_index(int(costs.argmax()), costs.shape)
    return np.array(search.traceback(end), dtype=float)[:, ::-1]


def _trembling(line: np.ndarray, piece: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The line with smooth noise, nowhere so much that it leaves the piece."""
    noise = scipy.ndimage.gaussian_filter1d(rng.normal(size=line.shape), 3.0, axis=0, mode="nearest")
    noise /= max(1e-6, float(np.abs(noise).max()))
    x, y = np.rint(line).astype(int).T
    depth = object_depth(piece)[y.clip(0, piece.shape[0] - 1), x.clip(0, piece.shape[1] - 1)]
    moved = line + noise * (_WOBBLE * depth)[:, None]
    x, y = np.rint(densely_along(moved)).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < piece.shape[1]) & (y < piece.shape[0])
    return moved if inside.all() and piece[y, x].all() else line
