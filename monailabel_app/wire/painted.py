"""What Slicer's scribbles panel sends: a label map in which strokes on and off a segment were painted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from bundle.prompts.interactions import Point
from monailabel_app.errors import RequestError
from monailabel_app.wire.numbers import check_count, short

LABEL_INFO = "label_info"  # [{"name", "id"}] of the label map's values
SELECTED = "selected_label_name"  # the segment that is drawn
ON, OFF = "foreground_scribbles", "background_scribbles"  # Slicer's names of the two layers
_POINTS = 3  # of each stroke on each slice: both ends and the middle, about


def read_painted(params: Mapping[str, Any], painted: np.ndarray, *, axis: int) -> list[Point]:
    """The strokes of a request as points of the voxels under them, those on the object first.

    There need not be any on it: an object that was found already can be corrected by strokes off it alone.

    Args:
        params: the request's JSON.
        painted: (I, J, K) integers on the grid of the image.
        axis: stored axis of the slices.

    Raises:
        RequestError: the layers are not named, nothing was painted in them, or too much.
    """
    values = _values(params)
    points = []
    for name, positive in ((ON, True), (OFF, False)):
        for voxel in stroke_points(painted == values[name], axis=axis) if name in values else ():
            points.append(Point(voxel, positive=positive))
    if not points:
        raise RequestError(f"nothing was painted in the layers {ON} and {OFF}; paint on the object first")
    check_count(len(points), "points")
    return points


def stroke_points(mask: np.ndarray, *, axis: int) -> np.ndarray:
    """(N, 3) voxel indices, up to three under each piece that was painted on a slice, along its longest direction.

    Args:
        mask: (I, J, K) bool.
        axis: stored axis of the slices.
    """
    found = []
    for index in np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis))):
        pieces, count = ndimage.label(np.take(mask, index, axis), np.ones((3, 3)))
        for number in range(1, count + 1):
            for pixel in _along(np.argwhere(pieces == number)):
                found.append(np.insert(pixel, axis, index))
    return np.array(found).reshape(-1, 3)


def _along(pixels: np.ndarray) -> np.ndarray:
    """(n, 2): of the pixels of a piece, those nearest to the middles of its parts along its longest direction."""
    centred = pixels - pixels.mean(axis=0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    order = np.argsort(centred @ direction, kind="stable")
    parts = np.array_split(pixels[order], min(_POINTS, len(pixels)))
    return np.array([part[np.linalg.norm(part - part.mean(axis=0), axis=1).argmin()] for part in parts])


def _values(params: Mapping[str, Any]) -> dict[str, int]:
    """Name of each layer -> its value in the label map."""
    entries = params.get(LABEL_INFO)
    try:
        return {str(entry["name"]): int(entry["id"]) for entry in entries}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RequestError(f'{LABEL_INFO} must be a list of {{"name": ..., "id": 1}}, got {short(entries)}') from error
