"""The slices between confirmed ones, from their shape alone."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.interactive.fill import fill_between


def disc(radius: float, centre=(20, 20), side=40) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return np.hypot(x - centre[0], y - centre[1]) <= radius


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_a_cone_is_filled_in_between():
    filled = fill_between({2: disc(4), 10: disc(12)})
    assert sorted(filled) == list(range(3, 10))
    assert all(dice(filled[index], disc(index + 2)) > 0.95 for index in filled)


def test_a_column_that_leans_is_filled_in_between():
    filled = fill_between({0: disc(8, (16, 20)), 4: disc(8, (24, 20))})
    assert dice(filled[2], disc(8, (20, 20))) > 0.9


def test_every_pair_of_neighbours_is_filled_and_what_is_confirmed_left_out():
    filled = fill_between({0: disc(5), 3: disc(7), 4: disc(7), 6: disc(3)})
    assert sorted(filled) == [1, 2, 5]


@pytest.mark.parametrize("masks", [{3: disc(4)}, {}, {1: disc(4), 6: np.zeros((40, 40), bool)}])
def test_nothing_is_filled_where_nothing_lies_between(masks):
    assert fill_between(masks) == {}


def test_the_slices_between_equal_ones_are_equal_at_any_spacing():
    filled = fill_between({0: disc(9), 5: disc(9)}, pixel_spacing=(3.0, 0.5))
    assert all(np.array_equal(mask, disc(9)) for mask in filled.values())


def test_nothing_is_filled_between_slices_on_which_the_object_lies_beside_itself():
    filled = fill_between({0: disc(4, (8, 20)), 6: disc(4, (32, 20))})
    assert not filled[3].any() and sorted(filled) == [1, 2, 3, 4, 5]
