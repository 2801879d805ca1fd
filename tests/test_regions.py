"""Masks as a box and the voxels in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bundle.errors import SessionError
from bundle.interactive.regions import Region, union

SHAPE = (5, 4, 3)
MASKS = hnp.arrays(bool, SHAPE) | st.just(np.zeros(SHAPE, bool))


@given(MASKS)
def test_a_region_gives_its_mask_back_also_from_bytes(mask):
    region = Region.of(mask)
    assert np.array_equal(region.mask(SHAPE), mask)
    again = Region.from_bytes(region.to_bytes(), SHAPE)
    assert np.array_equal(again.mask(SHAPE), mask) and again.to_bytes() == region.to_bytes()


@given(MASKS, MASKS)
def test_the_change_between_two_masks_leads_from_each_to_the_other(one, other):
    change = Region.of(one).xor(Region.of(other))
    assert np.array_equal(change.mask(SHAPE), one ^ other)
    assert Region.of(other).xor(change).to_bytes() == Region.of(one).to_bytes()


@given(MASKS, st.integers(0, 4), st.integers(0, 3))
def test_a_part_of_the_volume_shows_what_lies_in_it(mask, i, j):
    box = np.array([[i, j, 1], [5, 4, 3]])
    assert np.array_equal(Region.of(mask).within(box), mask[i:, j:, 1:])


def test_the_box_is_tight_and_that_of_nothing_is_none():
    mask = np.zeros(SHAPE, bool)
    assert Region.of(mask).box is None and Region.empty().to_bytes() == b""
    mask[1, 2, 0] = mask[3, 2, 1] = True
    assert Region.of(mask).box.tolist() == [[1, 2, 0], [4, 3, 2]]
    assert union([None, Region.of(mask).box, np.array([[0, 0, 0], [1, 1, 1]])]).tolist() == [[0, 0, 0], [4, 3, 2]]


def test_a_region_is_a_copy():
    mask = np.ones(SHAPE, bool)
    region = Region.of(mask)
    mask[:] = False
    assert region.voxels.all()


@pytest.mark.parametrize("damage", [lambda d: d[:10], lambda d: d[:-4], lambda d: d[:24] + b"\0" + d[25:]])
def test_damaged_bytes_are_refused(damage):
    with pytest.raises(SessionError, match="damaged"):
        Region.from_bytes(damage(Region.of(np.ones((50, 40, 30), bool)).to_bytes()), (50, 40, 30))


def test_a_region_outside_of_the_volume_is_refused():
    with pytest.raises(SessionError, match="must lie in"):
        Region.from_bytes(Region.of(np.ones((9, 1, 1), bool)).to_bytes(), SHAPE)
