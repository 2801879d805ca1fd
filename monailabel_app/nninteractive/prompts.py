"""The prompts of nnInteractive's clients as interactions: points, half-open boxes, drawn strokes and lassos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from scipy import ndimage
from skimage.morphology import skeletonize

from bundle.data.limits import LIMITS
from bundle.interactive.regions import Region
from bundle.prompts.interactions import Box, Interaction, Lasso, Point, Scribble
from monailabel_app.errors import RequestError


def read_point(body: Mapping[str, Any], *, positive: bool) -> Point:
    """``coordinates`` are a voxel index (x, y, z) of the array."""
    return Point(numbers(body.get("coordinates"), "coordinates", (3,)), positive=positive)


def read_box(body: Mapping[str, Any], *, positive: bool) -> Box:
    """``bbox_coords`` are [[x0, x1], [y0, y1], [z0, z1]], half-open."""
    low, high = numbers(body.get("bbox_coords"), "bbox_coords", (3, 2)).T
    low, high = np.minimum(low, high), np.maximum(low, high)
    if (high - low < 1).any():
        raise RequestError(f"bbox_coords must span at least one voxel on each axis, got {body['bbox_coords']!r:.80}")
    return Box(np.stack([low, high - 1]), positive=positive)


def whole_mask(mask: np.ndarray, box: Any, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """A drawn mask cut to what is set in it, and where its first voxel lies in the image.

    Args:
        mask: of the image's shape, or of the box.
        box: ``interaction_bbox``, [[lo, hi] x 3] half-open, or None.
        shape: of the image.

    Raises:
        RequestError: the mask fits neither, leaves the image, or is empty.
    """
    mask = np.asarray(mask) != 0
    if box is None:
        low, expected = np.zeros(3, dtype=int), tuple(shape)
    else:
        low, high = numbers(box, "interaction_bbox", (3, 2)).astype(int).T
        expected = tuple((high - low).tolist())
        if (low < 0).any() or (high > shape).any():
            raise RequestError(f"interaction_bbox {box!r:.80} leaves the image of {tuple(shape)} voxels")
    if mask.shape != expected:
        raise RequestError(f"the drawn mask must have the shape {expected}, got {mask.shape}")
    drawn = Region.of(mask, low)
    if drawn.is_empty:
        raise RequestError("the drawn mask is empty; draw something")
    return drawn.voxels, drawn.low


def read_scribble(mask: np.ndarray, first: np.ndarray, *, positive: bool) -> list[Interaction]:
    """The strokes of a drawn mask: for each slice of its thinnest axis the middle line of what was drawn."""
    axis, pictures = _slices(mask)
    strokes = []
    for index, picture in pictures:
        line = _in_volume(_middle_line(picture), index, axis) + first
        step = -(-len(line) // LIMITS.points)
        strokes.append(Scribble(line[::step], positive=positive))
    return strokes


def read_lasso(mask: np.ndarray, first: np.ndarray, *, positive: bool) -> list[Interaction]:
    """The lassos of a drawn mask, filled or as its line: the outlines on each slice of its thinnest axis."""
    axis, pictures = _slices(mask)
    lassos = []
    for index, picture in pictures:
        filled = ndimage.binary_fill_holes(picture).astype(np.uint8)
        outlines, _ = cv2.findContours(filled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        for outline in outlines:  # (n, 1, 2) of (column, row)
            corners = outline[:, 0, ::-1].astype(float)
            if len(corners) >= 3:
                lassos.append(Lasso(_in_volume(corners, index, axis) + first, positive=positive))
    if not lassos:
        raise RequestError("the lasso encloses nothing; draw it around something")
    return lassos


def _slices(mask: np.ndarray) -> tuple[int, list[tuple[int, np.ndarray]]]:
    axis = int(np.argmin(mask.shape))
    pictures = np.moveaxis(mask, axis, 0)
    return axis, [(index, picture) for index, picture in enumerate(pictures) if picture.any()]


def _middle_line(picture: np.ndarray) -> np.ndarray:
    """(N, 2) row and column of the skeleton, from one end to the other as far as it is one line."""
    places = np.argwhere(skeletonize(picture))
    if not len(places):
        places = np.argwhere(picture)[:1]
    along = np.ptp(places, axis=0).argmax()
    return places[np.argsort(places[:, along], kind="stable")].astype(float)


def _in_volume(places: np.ndarray, index: int, axis: int) -> np.ndarray:
    """(N, 2) places on a slice -> (N, 3) voxel indices."""
    return np.insert(places, axis, index, axis=1)


def numbers(values: Any, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Finite numbers of a shape.

    Raises:
        RequestError: naming ``name``.
    """
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestError(f"{name} must be numbers of the shape {shape}, got {values!r:.80}") from error
    if array.shape != shape or not np.isfinite(array).all() or (np.abs(array) > 2**31).any():
        raise RequestError(f"{name} must be finite numbers of the shape {shape}, got {values!r:.80}")
    return array
