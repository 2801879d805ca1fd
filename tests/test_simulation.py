"""Simulated prompts: where they lie, and that a seed decides them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bundle.prompts.simulation import (
    EmptyMaskError,
    error_point,
    error_points,
    error_voxel,
    interior_point,
    jitter_box,
    paired_error_points,
    random_point,
    shift_box,
    tight_box,
)

SHAPES_2D = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)
SHAPES = hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=12)
SEEDS = st.integers(0, 2**32 - 1)


def masks(shapes=SHAPES):
    return shapes.flatmap(lambda shape: hnp.arrays(bool, shape))


def pairs(shapes=SHAPES):
    return shapes.flatmap(lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape)))


def at(array, point):
    """The value of an array at a point in the house's order: (x, y) of a slice, (i, j, k) of a volume."""
    index = np.asarray(point, dtype=int)
    return array[tuple(index[::-1] if array.ndim == 2 else index)]


def rectangle(shape=(40, 60), rows=(10, 20), columns=(30, 50)):
    mask = np.zeros(shape, dtype=bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def test_a_tight_box_is_x_before_y_and_inclusive():
    assert tight_box(rectangle()).tolist() == [30, 10, 49, 19]


def test_a_tight_box_of_a_volume_keeps_the_order_of_its_axes():
    volume = np.zeros((5, 6, 7), dtype=np.uint8)
    volume[1:3, 2:5, 3:7] = 4
    assert tight_box(volume).tolist() == [1, 2, 3, 2, 4, 6]


@pytest.mark.parametrize("draw", [tight_box, interior_point, lambda mask: random_point(mask, np.random.default_rng(0))])
def test_an_empty_mask_is_refused(draw):
    with pytest.raises(EmptyMaskError, match="empty"):
        draw(np.zeros((4, 4), dtype=bool))


def test_a_shifted_box_moves_each_side_outward_until_the_edge_of_the_image():
    assert shift_box(tight_box(rectangle()), 12, (40, 60)).tolist() == [18, 0, 59, 31]


def test_a_box_shifted_far_inward_shrinks_to_its_middle():
    assert shift_box(np.array([0, 0, 10, 4]), -50, (20, 20)).tolist() == [5, 2, 5, 2]


@given(masks(), SEEDS, st.floats(0, 30), st.booleans())
def test_a_jittered_box_stays_in_the_image_and_within_the_jitter(mask, seed, most, inward):
    if not mask.any():
        return
    box = tight_box(mask)
    moved = jitter_box(box, np.random.default_rng(seed), max_pixels=most, shape=mask.shape, inward=inward)
    lower, upper = np.split(moved, 2)
    last = np.array(mask.shape[::-1] if mask.ndim == 2 else mask.shape) - 1
    assert (lower >= 0).all() and (lower <= upper).all() and (upper <= last).all()
    assert np.abs(moved - box).max() <= most + 1e-4
    if not inward:
        half = len(box) // 2
        assert (lower <= box[:half]).all() and (upper >= box[half:]).all()


def test_jitter_can_be_a_share_of_each_side():
    box = jitter_box(np.array([20, 20, 40, 30]), np.random.default_rng(0), max_pixels=(8, 0), shape=(60, 60))
    assert box[1] == 20 and box[3] == 30 and box[0] < 20 and box[2] > 40


def test_the_interior_point_is_the_centre_of_a_disc():
    rows, columns = np.ogrid[:64, :64]
    assert interior_point((rows - 30) ** 2 + (columns - 40) ** 2 <= 100).tolist() == [40, 30]


def test_the_interior_point_of_an_object_at_the_border_is_not_on_the_border():
    assert interior_point(np.ones((9, 21), dtype=bool))[1] == 4


@given(masks(), SEEDS)
def test_points_of_an_object_lie_in_the_object_and_a_seed_decides_them(mask, seed):
    if not mask.any():
        return
    assert at(mask, interior_point(mask))
    for draw in (interior_point, random_point):
        point = draw(mask, np.random.default_rng(seed))
        assert at(mask, point)
        assert (point == draw(mask, np.random.default_rng(seed))).all()


def test_a_drawn_interior_point_lies_in_the_deepest_tenth():
    rows, columns = np.ogrid[:101, :101]
    radius = np.hypot(rows - 50, columns - 50)
    rng = np.random.default_rng(0)
    points = np.array([interior_point(radius <= 40, rng) for _ in range(50)])
    # A tenth of the disc's area lies within sqrt(0.1) of its radius.
    assert np.hypot(*(points - 50).T).max() <= 40 * np.sqrt(0.1) + 1.5
    assert len(np.unique(points, axis=0)) > 10


def test_the_first_correction_goes_to_the_middle_of_the_largest_error():
    truth, prediction = rectangle(), np.zeros((40, 60), dtype=bool)
    prediction[0:3, 0:3] = True
    x, y, label = error_point(truth, prediction)
    assert label == 1 and 34 <= x <= 45 and y in (14, 15)
    assert error_point(prediction, truth)[2] == 0


def test_nothing_is_corrected_where_nothing_is_wrong():
    mask = rectangle()
    assert error_point(mask, mask) is None
    assert error_voxel(mask[None], mask[None]) is None
    assert error_points(mask, mask, 3, np.random.default_rng(0)).labels.tolist() == [-1, -1, -1]


@given(pairs(SHAPES_2D), SEEDS)
def test_a_correction_lies_on_a_wrong_pixel_and_says_what_the_truth_is(pair, seed):
    truth, prediction = pair
    for rng in (None, np.random.default_rng(seed)):
        click = error_point(truth, prediction, rng)
        if click is None:
            assert (truth == prediction).all()
        else:
            assert at(truth, click[:2]) != at(prediction, click[:2])
            assert at(truth, click[:2]) == click.label


def test_a_correction_in_a_volume_joins_regions_that_touch_at_a_corner():
    truth = np.zeros((12, 12, 12), dtype=bool)
    truth[0:3, 0:3, 0:3] = truth[3:6, 3:6, 3:6] = True  # 54 voxels, joined over a corner
    truth[8:12, 8:11, 8:11] = True  # 36 voxels
    i, j, k, label = error_voxel(truth, np.zeros_like(truth))
    assert label == 1 and max(i, j, k) < 6


@given(pairs(), SEEDS, st.integers(1, 9))
def test_several_corrections_are_wrong_pixels_with_the_label_of_the_truth(pair, seed, count):
    truth, prediction = pair
    points, labels = error_points(truth, prediction, count, np.random.default_rng(seed))
    assert points.shape == (count, truth.ndim) and labels.shape == (count,)
    for point, label in zip(points, labels, strict=True):
        assert label == -1 or at(truth, point) == label != at(prediction, point)


def test_several_corrections_do_not_repeat_a_pixel_while_there_are_others():
    points, _ = error_points(rectangle(), np.zeros((40, 60), bool), 150, np.random.default_rng(0))
    assert len(np.unique(points, axis=0)) == 150


@given(pairs(), SEEDS)
def test_paired_corrections_prefer_the_error_and_never_contradict_the_truth(pair, seed):
    truth, prediction = pair
    points, labels = paired_error_points(truth, prediction, np.random.default_rng(seed))
    assert labels.tolist() == [1 if truth.any() else -1, 0 if not truth.all() else -1]
    for point, label in zip(points, labels, strict=True):
        assert label == -1 or at(truth, point) == label
    if (truth & ~prediction).any():
        assert not at(prediction, points[0])
    if (prediction & ~truth).any():
        assert at(prediction, points[1])


def test_a_negative_point_without_error_lies_next_to_the_box():
    truth = rectangle()
    points, labels = paired_error_points(truth, truth, np.random.default_rng(3))
    x, y = points[1]
    assert labels[1] == 0 and 27 <= x <= 52 and 7 <= y <= 22
