"""Islands, holes and rough surfaces of masks, in millimetres."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bundle.interactive.postprocessing import fill_holes, remove_islands, smooth

SPACING = (1.0, 1.0, 5.0)


def block(*corners: tuple[slice, ...], shape=(20, 20, 10)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for corner in corners:
        mask[corner] = True
    return mask


ORGAN = np.s_[2:12, 2:12, 2:8]
ISLAND = np.s_[15:17, 15:17, 3:5]  # 8 voxels of 5 mm3: as a ball of 4.24 mm
ISLAND_MM = (6 * 40 / math.pi) ** (1 / 3)


def test_an_island_goes_where_it_is_smaller_than_a_ball_of_so_many_millimetres():
    mask = block(ORGAN, ISLAND)
    assert np.array_equal(remove_islands(mask, SPACING, ISLAND_MM - 0.01), mask)
    assert np.array_equal(remove_islands(mask, SPACING, ISLAND_MM + 0.01), block(ORGAN))
    assert np.array_equal(remove_islands(mask, (1.0, 1.0, 1.0), ISLAND_MM - 0.01), block(ORGAN))


def test_the_largest_piece_and_what_was_prompted_stay_however_small():
    mask = block(ORGAN, ISLAND)
    assert np.array_equal(remove_islands(mask, SPACING, 500), block(ORGAN))
    assert np.array_equal(remove_islands(mask, SPACING, 500, kept=block(np.s_[15:16, 15:16, 3:4])), mask)


def test_pieces_that_touch_at_a_corner_are_one():
    mask = block(ORGAN, np.s_[12:13, 12:13, 8:9])
    assert np.array_equal(remove_islands(mask, SPACING, 10), mask)


def test_a_hole_is_filled_up_to_a_ball_of_so_many_millimetres():
    whole, hole = block(ORGAN), block(np.s_[5:7, 5:7, 3:5])
    assert np.array_equal(fill_holes(whole & ~hole, SPACING, ISLAND_MM - 0.01), whole & ~hole)
    assert np.array_equal(fill_holes(whole & ~hole, SPACING, ISLAND_MM + 0.01), whole)


def test_a_hole_with_a_way_out_is_none():
    mask = block(ORGAN) & ~block(np.s_[5:7, 5:7, 3:10])
    assert np.array_equal(fill_holes(mask, SPACING, 50), mask)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_on_one_slice_a_disc_is_the_measure_and_the_slice_itself_is_no_way_out(axis):
    picture = np.zeros((20, 20), bool)
    picture[2:12, 2:12], picture[5:7, 5:7], picture[15:17, 15:17] = True, False, True
    mask, spacing = np.expand_dims(picture, axis), np.insert([2.0, 3.0], axis, 7.0)
    disc = math.sqrt(4 / math.pi * 4 * 6)
    for diameter, size in ((disc - 0.01, 96 + 4), (disc + 0.01, 100)):
        cleaned = fill_holes(remove_islands(mask, spacing, diameter), spacing, diameter)
        assert cleaned.sum() == size


def test_smoothing_is_the_same_in_millimetres_whatever_the_spacing():
    i, j, k = np.mgrid[:40, :40, :40] - 19.5
    ball = (i**2 + j**2 + k**2 < 12**2) | ((np.abs(j) < 1) & (np.abs(k) < 1))  # with a spike of 2 mm
    fine = smooth(ball, (1.0, 1.0, 1.0), 2.0)
    coarse = smooth(ball[:, :, 1::4], (1.0, 1.0, 4.0), 2.0)
    assert not fine[:5].any() and not coarse[:5].any()
    shrunk = 12 - 2.0**2 / 12  # a Gaussian cut at one half moves a ball's surface by its variance over the radius
    assert [fine.sum(), coarse.sum() * 4] == pytest.approx([4 / 3 * np.pi * shrunk**3] * 2, rel=0.05)


def test_smoothing_goes_on_behind_the_edge_and_stays_on_its_slice():
    mask = block(np.s_[0:10, :, :])
    assert np.array_equal(smooth(mask, SPACING, 3.0), mask)
    picture = block(ORGAN)[:, :, 4:5]
    assert smooth(picture, (1.0, 1.0, 0.1), 1.0).sum() > 90


def test_an_object_that_smoothing_would_take_away_stays(caplog):
    mask = block(np.s_[5:6, 5:6, 5:6])
    assert np.array_equal(smooth(mask, SPACING, 4.0), mask) and "would leave nothing" in caplog.text


def test_nothing_is_cleaned_where_nothing_is_asked_or_there():
    mask = block(ORGAN, ISLAND)
    for clean in (remove_islands, fill_holes, smooth):
        assert clean(mask, SPACING, 0) is mask and not clean(np.zeros_like(mask), SPACING, 5).any()
