"""What a simulated user draws in 3D is what the user of the app draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bundle.prompts.cube_maps import BOX, FLAT_BOX, OFF, ON, SLICE_MASK, SO_FAR, draw_on_cube
from bundle.prompts.interactions import Point
from bundle.training.batched.augmentation import BatchRandom
from bundle.training.batched.cube_user import (
    DEEPEST,
    balls,
    bounds,
    corrected,
    deepest_cells,
    depths,
    first_maps,
    has_hollow_middle,
)
from bundle.transforms.cube import Cube

SIZE = 16
MANY = 64


def masks(count: int = MANY) -> torch.Tensor:
    found = torch.zeros(count, SIZE, SIZE, SIZE, dtype=torch.bool)
    found[:, 3:10, 4:12, 5:13] = True
    return found


def drawn() -> torch.Tensor:
    return first_maps(masks(), BatchRandom.from_key("cpu", MANY, 0))


def test_a_click_is_drawn_as_in_use():
    cube = Cube((7.5,) * 3, float(SIZE), (1.0,) * 3, (0, 1, 2), SIZE)
    used = draw_on_cube([Point(np.array([3.0, 8.0, 12.0]))], cube)[ON]
    assert torch.equal(balls(torch.tensor([[3, 8, 12]]), SIZE)[0], torch.from_numpy(used))


def test_every_object_is_asked_for_in_one_way():
    maps = drawn()
    ways = torch.stack([maps[:, way].flatten(1).any(dim=1) for way in (ON, FLAT_BOX, BOX, SLICE_MASK)], dim=1)
    assert ways.any(dim=1).all() and ways.any(dim=0).all()
    assert (ways[:, 1:].sum(dim=1) <= 1).all()
    assert not maps[:, [OFF, SO_FAR]].any()


def test_a_flat_box_and_a_mask_are_one_cell_thick_and_hold_the_object():
    maps, truth = drawn(), masks()
    for number in range(MANY):
        for way in (FLAT_BOX, SLICE_MASK):
            if maps[number, way].any():
                on = maps[number, way] != 0 if way == SLICE_MASK else maps[number, way] > 0
                low, high = bounds(on[None])
                assert (high - low == 0).sum() == 1
                assert (maps[number, way] > 0)[truth[number] & on].all()


def test_half_of_the_hollow_objects_are_begun_with_a_3d_box_where_a_recipe_says_so():
    """Beside the fifth that is anyway; and of solid ones as many as before, with the same draws."""
    hollow = masks()
    hollow[:, 5:8, 6:10, 7:11] = False
    assert has_hollow_middle(hollow).all() and not has_hollow_middle(masks()).any()
    boxed = []
    for truth in (masks(), hollow):
        maps = first_maps(truth, BatchRandom.from_key("cpu", MANY, 0), hollow_box=0.5)
        ways = torch.stack([maps[:, way].flatten(1).any(dim=1) for way in (ON, FLAT_BOX, BOX, SLICE_MASK)], dim=1)
        assert ways.any(dim=1).all() and (ways[ways[:, 2]].sum(dim=1) == 1).all()
        boxed.append(int(ways[:, 2].sum()))
    assert boxed[0] == int(drawn()[:, BOX].flatten(1).any(dim=1).sum()) < MANY // 3 < boxed[1] < 0.8 * MANY


def test_a_box_holds_the_object():
    maps, truth = drawn(), masks()
    boxed = maps[:, BOX].flatten(1).any(dim=1)
    assert (maps[boxed, BOX][truth[boxed]] == 1).all()


def test_bounds_are_first_and_last_cells():
    low, high = bounds(masks(1))
    assert (low[0].tolist(), high[0].tolist()) == ([3, 4, 5], [9, 11, 12])


@pytest.mark.parametrize("missed", [True, False])
def test_a_correction_clicks_in_the_deepest_error_and_shows_the_answer(missed):
    truth = masks(1)
    answer = torch.full((1, 1, SIZE, SIZE, SIZE), -5.0)
    if missed:
        answer[:, :, :6] = torch.where(truth[:, None, :6], 5.0, -5.0)
    else:
        answer[:] = 5.0
    maps = corrected(torch.zeros(1, 6, SIZE, SIZE, SIZE), answer, truth, BatchRandom.from_key("cpu", 1, 0))
    clicked, other = (ON, OFF) if missed else (OFF, ON)
    wrong = (answer[:, 0] > 0) ^ truth
    assert wrong[maps[:, clicked] > 0].float().mean() > 0.4 and not maps[:, other].any()
    assert torch.allclose(maps[:, SO_FAR], torch.tanh(answer[:, 0] / 4))


def test_a_deep_cell_lies_in_its_mask():
    cells = deepest_cells(masks(), BatchRandom.from_key("cpu", MANY, 1))
    assert masks()[(torch.arange(MANY), *cells.unbind(dim=1))].all()


def test_a_cell_is_as_deep_as_a_pooling_erodes_it():
    found = torch.rand(3, SIZE, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) > 0.02
    depth, left = torch.zeros(3, 1, SIZE, SIZE, SIZE), found[:, None].float()
    for _ in range(DEEPEST):
        depth += left
        left = -F.max_pool3d(-left, 3, 1, 1)
    assert torch.equal(depths(found), depth[:, 0].byte()) and depth.max() < DEEPEST
