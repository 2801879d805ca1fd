"""Drawn label maps: every value is one closed structure."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bundle.data.synthetic.shapes import draw_shapes, shape_pool

SIZE = 96


@pytest.fixture(params=range(6))
def labels(request) -> np.ndarray:
    return draw_shapes(SIZE, np.random.default_rng(request.param))


def test_every_value_is_one_connected_piece_of_a_useful_size(labels):
    for value in np.unique(labels[labels > 0]):
        _, pieces = ndimage.label(labels == value)
        assert pieces == 1
        assert 40 <= np.count_nonzero(labels == value) <= 0.4 * SIZE**2


def test_the_same_generator_draws_the_same_map():
    first, second = (draw_shapes(SIZE, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, second) and first.max() > 0


def test_a_pool_has_labels_without_pictures():
    pool = shape_pool(3, size=SIZE)
    assert pool and len({part.patient for part in pool}) == len(pool)
    for part in pool:
        assert not part.picture.any()
        assert part.ids == tuple(int(i) for i in np.unique(part.labels) if i)
