"""Prompts of an object drawn into the cells of a cube, as a network of volumes sees them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bundle.prompts.drawing import evenly_along
from bundle.prompts.interactions import Box, Interaction, Lasso, Mask, Point, Scribble
from bundle.prompts.translation import SCRIBBLE_POINTS
from bundle.transforms.cube import Cube

CUBE_MAPS = 6  # points on, points off, box of a slice, 3D box, mask of a slice, and the answer so far
ON, OFF, FLAT_BOX, BOX, SLICE_MASK, SO_FAR = range(CUBE_MAPS)
BALL = 2.5  # cells, radius of the ball that a click is drawn as


def draw_on_cube(interactions: Iterable[Interaction], cube: Cube) -> np.ndarray:
    """The maps of some interactions.

    A click is a ball; a scribble becomes clicks along it, and what is enclosed as not the object a click in its middle.
    What lies on one slice, of any of the three axes, is one cell thick there. A segmentation of several slices cannot
    be drawn: it is the answer so far.

    Args:
        interactions: valid for the volume, in voxel indices.
        cube: of that volume.

    Returns:
        (6, S, S, S) float32: clicks on the object (1), clicks off it (1), a box on one slice (1 inside), a 3D box (1
        inside), the object on one slice (1 inside, -1 outside, 0 on other slices); the answer so far is left 0.
    """
    maps = np.zeros((CUBE_MAPS, *(cube.cells,) * 3), dtype=np.float32)
    for one in interactions:
        if isinstance(one, Point):
            _draw_balls(maps, cube, [one.voxel], one.positive)
        elif isinstance(one, Scribble):
            path = np.asarray(one.path, dtype=float)
            _draw_balls(maps, cube, evenly_along(path, SCRIBBLE_POINTS, spacing=2.0), one.positive)
        elif not one.positive:
            _draw_balls(maps, cube, [_middle(one, cube)], False)
        elif isinstance(one, Box):
            flat = flat_axis(one.corners)
            inside = _in_box(one.corners, cube, flat)
            maps[BOX if flat is None else FLAT_BOX][inside] = 1
        elif isinstance(one, Lasso | Mask):
            _draw_slice_mask(maps[SLICE_MASK], one, cube)
    return maps


def flat_axis(corners: np.ndarray) -> int | None:
    """The stored axis that (2, 3) corners lie on one slice of, the last one of several; None of a 3D box."""
    low, high = np.asarray(corners, dtype=float)
    flat = np.flatnonzero(np.abs(high - low) < 1)
    return int(flat[-1]) if len(flat) else None


def _draw_balls(maps: np.ndarray, cube: Cube, voxels: Iterable[np.ndarray], positive: bool) -> None:
    places = np.arange(cube.cells)
    for middle in cube.to_cells(np.asarray(list(voxels), dtype=float)):
        squares = [(places - where) ** 2 for where in middle]
        ball = squares[0][:, None, None] + squares[1][:, None] + squares[2] < BALL**2
        maps[ON if positive else OFF][ball] = 1


def _in_box(corners: np.ndarray, cube: Cube, flat: int | None) -> tuple[np.ndarray, ...]:
    """An index of the cells whose middles lie in a box; along the axis that it is flat along, of the nearest cell."""
    low, high = np.sort(np.asarray(corners, dtype=float), axis=0)
    chosen = []
    for axis in cube.axes:
        places = cube.places(axis)
        if axis == flat:
            chosen.append(_nearest(places, (low[axis] + high[axis]) / 2))
        else:
            chosen.append((places >= low[axis] - 0.5) & (places <= high[axis] + 0.5))
    return np.ix_(*chosen)


def _nearest(places: np.ndarray, index: float) -> np.ndarray:
    """(S,) bool, the one cell whose middle is nearest to a slice; none where that lies beside the cube."""
    away = np.abs(places - index)
    nearest = away == away.min()
    step = places[1] - places[0]
    return nearest & (away <= step) & (np.cumsum(nearest) == 1)


def _draw_slice_mask(drawn: np.ndarray, one: Lasso | Mask, cube: Cube) -> None:
    """1 inside and -1 outside of an area, on the cells of its slice."""
    axis = area_axis(one)
    if axis is None:
        return
    corner, area = _area(one, axis)
    others = [other for other in range(3) if other != axis]
    layer = _nearest(cube.places(axis), corner[axis])
    if not layer.any():
        return
    inside = np.ones((cube.cells, cube.cells), dtype=bool)
    indices = []
    for place, other in enumerate(others):
        index = np.floor(cube.places(other) + 0.5).astype(int) - corner[other]
        known = (index >= 0) & (index < area.shape[place])
        indices.append(np.clip(index, 0, area.shape[place] - 1))
        inside &= known[:, None] if place == 0 else known[None, :]
    section = area[np.ix_(*indices)] & inside  # cells along the two other axes, in their stored order
    order = [others.index(other) for other in cube.axes if other != axis]
    place = cube.axes.index(axis)
    view = np.moveaxis(drawn, place, 0)
    view[int(layer.argmax())] = np.where(section.transpose(order), 1.0, -1.0)


def area_axis(one: Lasso | Mask) -> int | None:
    """The axis that a lasso or mask lies on one slice of; None of a segmentation of several slices."""
    if isinstance(one, Lasso):
        return one.axis
    flat = np.flatnonzero(np.array(one.voxels.shape) == 1)
    return int(flat[-1]) if len(flat) else None


def _area(one: Lasso | Mask, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The lowest voxel (3,) of an area on one slice, and the area from there on, without that axis."""
    if isinstance(one, Mask):
        return np.asarray(one.corner or (0, 0, 0)), np.asarray(one.voxels, dtype=bool).take(0, axis=axis)
    outline = np.asarray(one.outline, dtype=float)
    voxels = one.named_voxels(np.ceil(outline.max(axis=0)).astype(int) + 2)
    low = voxels.min(axis=0)
    area = np.zeros(voxels.max(axis=0) - low + 1, dtype=bool)
    area[tuple((voxels - low).T)] = True
    return low, area.take(0, axis=axis)


def _middle(one: Interaction, cube: Cube) -> np.ndarray:
    """(3,) voxel index in the middle of what is enclosed."""
    if isinstance(one, Box):
        return np.asarray(one.corners, dtype=float).mean(axis=0)
    voxels = one.named_voxels(np.full(3, 2**31)) if isinstance(one, Mask) else None
    if voxels is None:
        corner, area = _area(one, area_axis(one))
        found = np.insert(np.argwhere(area), area_axis(one), 0, axis=1) + corner
        voxels = found
    return voxels[np.square(voxels - voxels.mean(axis=0)).sum(axis=1).argmin()].astype(float)
