"""Simulated prompts of many masks at once are those of one mask, drawn where the masks are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from bundle.prompts.simulation import _move_sides, shift_box, tight_box
from bundle.prompts.simulation_batched import (
    DEEPEST,
    deepest_points,
    depths,
    error_clicks,
    lasso_areas,
    move_sides,
    random_points,
    scribbles,
    tight_boxes,
)

MASKS = arrays(bool, st.tuples(st.just(3), st.integers(1, 9), st.integers(1, 9)))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def block(*bounds: int, size: int = 12) -> torch.Tensor:
    """(1, size, size) with a rectangle of rows and columns."""
    top, bottom, left, right = bounds
    mask = torch.zeros(1, size, size, dtype=torch.bool)
    mask[0, top:bottom, left:right] = True
    return mask


def holds(masks: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    x, y = points.long().unbind(dim=1)
    return masks[torch.arange(len(masks)), y, x]


@given(masks=MASKS)
def test_boxes_are_those_of_single_masks_to_the_bit(masks):
    boxes = tight_boxes(torch.from_numpy(masks)).numpy()
    for mask, box in zip(masks, boxes, strict=True):
        if mask.any():
            assert np.array_equal(box, tight_box(mask))
        else:
            assert np.isnan(box).all()


@settings(max_examples=30)
@given(pixels=st.floats(-8, 8), bounds=st.tuples(*[st.integers(0, 11)] * 4))
def test_sides_move_as_those_of_single_boxes(pixels, bounds):
    x, y = sorted(bounds[:2]), sorted(bounds[2:])
    box = np.array([x[0], y[0], x[1], y[1]], np.float32)
    moved = move_sides(torch.from_numpy(box)[None], torch.full((1, 4), pixels), 12)
    assert np.allclose(moved[0].numpy(), shift_box(box, pixels, (12, 12)), atol=1e-5)


@settings(max_examples=30)
@given(bounds=st.tuples(*[st.integers(0, 11)] * 4), outward=st.tuples(*[st.floats(-30, 30)] * 4))
def test_no_side_passes_the_middle_or_leaves_the_square(bounds, outward):
    x, y = sorted(bounds[:2]), sorted(bounds[2:])
    box = torch.tensor([[x[0], y[0], x[1], y[1]]], dtype=torch.float32)
    moved = move_sides(box, torch.tensor([outward]), 12)
    low, high = moved.split(2, dim=1)
    middle = (box[:, :2] + box[:, 2:]) / 2
    assert (low >= 0).all() and (low <= middle).all() and (middle <= high).all() and (high <= 11).all()
    assert np.allclose(moved[0], _move_sides(box[0].numpy(), np.float32(outward), (12, 12)), atol=1e-5)


def eroded(mask: np.ndarray) -> np.ndarray:
    """How many erosions by 3 x 3 pixels each pixel survives, the outside of the picture being outside."""
    square, depth = np.ones((3, 3), bool), np.zeros(mask.shape, int)
    while mask.any():
        depth += mask
        mask = ndimage.binary_erosion(mask, square)
    return depth


@given(masks=MASKS)
def test_depth_is_the_number_of_erosions_of_scipy(masks):
    found = depths(torch.from_numpy(masks)).numpy()
    assert all(np.array_equal(depth, eroded(mask)) for depth, mask in zip(found, masks, strict=True))


def test_what_lies_deeper_than_the_deepest_counts_as_deep():
    assert depths(torch.ones(1, 70, 70, dtype=torch.bool)).max() == DEEPEST


@given(masks=MASKS, seed=st.integers(0, 100), slack=st.sampled_from([0.0, 0.4]))
def test_a_deepest_point_is_as_deep_as_any_but_for_the_slack(masks, seed, slack):
    masks = torch.from_numpy(masks)
    depth = depths(masks)
    x, y = deepest_points(masks, generator(seed), slack=slack).long().unbind(dim=1)
    assert (depth[torch.arange(len(masks)), y, x] >= (1 - slack) * depth.flatten(1).amax(dim=1)).all()


def test_depth_counts_erosions_and_the_edge_of_the_picture_is_an_edge():
    depth = depths(block(2, 7, 2, 7))[0]
    assert depth[4, 4] == 3 and depth[2, 2] == 1 and depth[0, 0] == 0
    assert depths(block(0, 5, 0, 5))[0, 0, 0] == 1


def test_the_deepest_point_of_a_square_is_its_middle():
    assert deepest_points(block(2, 7, 3, 8), generator()).tolist() == [[5.0, 4.0]]


@given(masks=MASKS, seed=st.integers(0, 100))
def test_random_points_lie_on_the_object(masks, seed):
    masks = torch.from_numpy(masks)
    points = random_points(masks, generator(seed))
    assert torch.equal(holds(masks, points), masks.flatten(1).any(dim=1))


@given(truth=MASKS, seed=st.integers(0, 100), share=st.sampled_from([0.0, 0.5, 1.0]))
def test_a_correcting_click_lies_on_an_error_and_says_what_is_true_there(truth, seed, share):
    truth = torch.from_numpy(truth)
    prediction = truth.roll(1, dims=0)
    points, labels = error_clicks(truth, prediction, generator(seed), random_share=share)
    wrong = truth ^ prediction
    anything = wrong.flatten(1).any(dim=1)
    assert holds(wrong, points)[anything].all()
    assert torch.equal(labels, holds(truth, points).long())


def test_without_an_error_the_click_falls_on_the_object():
    mask = block(2, 7, 2, 7)
    points, labels = error_clicks(mask, mask, generator())
    assert holds(mask, points).all() and labels.tolist() == [1]


def test_a_click_that_is_not_drawn_anywhere_goes_to_the_deepest_error():
    points, _ = error_clicks(block(2, 7, 3, 8), block(0, 0, 0, 0), generator(), random_share=0.0)
    assert points.tolist() == [[5.0, 4.0]]


@pytest.mark.parametrize("reach", [1, 3, 6])
def test_a_lasso_encloses_the_object_and_what_lies_as_near_as_it_was_drawn(reach):
    mask = block(12, 22, 14, 20, size=40)
    area = lasso_areas(mask, torch.full(mask.shape, float(reach)))
    near = ndimage.binary_dilation(mask[0].numpy(), np.ones((3, 3), bool), iterations=reach)
    assert (area | ~mask).all() and not area[0].numpy()[~near].any()
    assert area.sum() > 0.7 * near.sum()  # its corners are round


def test_a_lasso_follows_the_edge_of_the_picture_only_where_the_object_lies_there():
    area = lasso_areas(block(10, 14, 10, 14, size=24), torch.full((1, 24, 24), 2.0))
    assert not area[0, 0].any() and not area[0, :, -1].any()


def some_error_clicks(masks: torch.Tensor, drawn: torch.Generator) -> torch.Tensor:
    return error_clicks(masks, ~masks, drawn)[0]


@pytest.mark.parametrize("draw", [random_points, deepest_points, some_error_clicks])
def test_the_same_generator_draws_the_same_points(draw):
    masks = torch.ones(4, 9, 9, dtype=torch.bool)
    assert torch.equal(draw(masks, generator(3)), draw(masks, generator(3)))


def test_a_stroke_has_its_points_on_the_object_and_padding_in_its_gaps():
    masks = torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[0, 4:8, 2:30] = True
    masks[1, 4:28, 4:8] = masks[1, 4:28, 22:27] = True
    for seed in range(5):
        points, labels = scribbles(masks, torch.Generator().manual_seed(seed), count=6)
        x, y = points.round().long().unbind(dim=2)
        on = masks[torch.arange(2)[:, None], y, x]
        assert points.shape == (2, 6, 2) and torch.equal(labels == 1, on) and (labels[0] == 1).all()
        assert set(labels.unique().tolist()) <= {1, -1}
