"""Prompts are drawn into the cells that they lie in, whatever plane they were drawn on."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.prompts.cube_maps import BOX, FLAT_BOX, OFF, ON, SLICE_MASK, draw_on_cube, flat_axis
from bundle.prompts.interactions import Box, Lasso, Mask, Point, Scribble
from bundle.transforms.cube import Cube

SHAPE = (32, 32, 32)
CUBE = Cube((15.5,) * 3, 32.0, (1.0,) * 3, (2, 0, 1), 32)  # a cell is a voxel, in the order k, i, j


def drawn(*interactions, cube: Cube = CUBE) -> np.ndarray:
    return draw_on_cube([one.validated(SHAPE) for one in interactions], cube)


def where(one: np.ndarray) -> list[tuple[int, int]]:
    """First and last cell along each axis of the cube."""
    found = np.argwhere(one)
    return list(zip(found.min(axis=0).tolist(), found.max(axis=0).tolist(), strict=True))


@pytest.mark.parametrize(("positive", "number"), [(True, ON), (False, OFF)])
def test_a_click_is_a_ball(positive, number):
    maps = drawn(Point([10, 20, 5], positive=positive))
    assert where(maps[number]) == [(3, 7), (8, 12), (18, 22)]
    assert maps[number].sum() == np.abs(maps).sum() == 81  # cells nearer than 2.5 cells


@pytest.mark.parametrize(("axis", "place"), [(2, 0), (0, 1), (1, 2)])
def test_a_box_on_a_slice_is_one_cell_thick_on_any_plane(axis, place):
    corners = np.array([[4, 4, 4], [9, 9, 9]])
    corners[:, axis] = 7
    cells = [(4, 9)] * 3
    cells[place] = (7, 7)
    maps = drawn(Box(corners))
    assert where(maps[FLAT_BOX]) == cells and not maps[BOX].any()


def test_a_box_through_slices_fills_its_cells():
    maps = drawn(Box([[4, 5, 6], [9, 10, 11]]))
    assert where(maps[BOX]) == [(6, 11), (4, 9), (5, 10)] and maps[BOX].sum() == 216 and not maps[FLAT_BOX].any()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_mask_of_a_slice_says_what_is_inside_and_what_is_not(axis):
    voxels = np.zeros(SHAPE, bool)
    chosen = [slice(4, 8), slice(10, 16), slice(20, 22)]
    chosen[axis] = slice(12, 13)
    voxels[tuple(chosen)] = True
    layer = drawn(Mask(voxels))[SLICE_MASK].transpose(1, 2, 0)  # i, j, k
    assert np.array_equal(layer == 1, voxels)
    on_slice = np.zeros(SHAPE, bool)
    on_slice[tuple(slice(12, 13) if a == axis else slice(None) for a in range(3))] = True
    assert np.array_equal(layer != 0, on_slice)


def test_a_lasso_is_its_area():
    square = [[4, 4, 9], [12, 4, 9], [12, 12, 9], [4, 12, 9]]
    maps = drawn(Lasso(square))
    assert where(maps[SLICE_MASK] == 1) == [(9, 9), (4, 12), (4, 12)]


def test_a_scribble_becomes_balls_along_it():
    maps = drawn(Scribble([[4, 4, 4], [26, 4, 4]]))
    assert where(maps[ON])[1][1] - where(maps[ON])[1][0] > 15 and not maps[FLAT_BOX].any()


@pytest.mark.parametrize(
    "off",
    [
        Box([[4, 4, 9], [12, 12, 9]], positive=False),
        Lasso([[4, 4, 9], [12, 4, 9], [12, 12, 9], [4, 12, 9]], positive=False),
        Mask(np.pad(np.ones((9, 9, 1), bool), ((4, 19), (4, 19), (9, 22))), positive=False),
    ],
    ids=["box", "lasso", "mask"],
)
def test_what_is_enclosed_as_not_the_object_is_a_click_off_it(off):
    maps = drawn(off)
    assert where(maps[OFF]) == [(7, 11), (6, 10), (6, 10)] and not maps[[ON, FLAT_BOX, BOX, SLICE_MASK]].any()


def test_what_lies_beside_the_cube_is_not_drawn():
    beside = Cube((100.0, 100.0, 100.0), 32.0, (1.0,) * 3, (2, 0, 1), 32)
    voxels = np.zeros(SHAPE, bool)
    voxels[4:8, 4:8, 3] = True
    assert not drawn(Point([1, 1, 1]), Box([[1, 1, 1], [4, 4, 1]]), Mask(voxels), cube=beside).any()


def test_a_box_is_flat_along_the_axis_that_it_is_a_voxel_thick_along():
    assert [flat_axis(np.array([[0, 0, 0], c])) for c in ([5, 5, 0], [0, 5, 5], [5, 5, 5])] == [2, 0, None]
