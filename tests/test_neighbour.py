"""Where an object may have been on a neighbouring slice."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bundle.transforms.neighbour import neighbour_logits


def ellipse(x: float, y: float, rx: float, ry: float, size: int = 256) -> np.ndarray:
    yy, xx = np.mgrid[:size, :size]
    return ((xx - x) / rx) ** 2 + ((yy - y) / ry) ** 2 <= 1


def at_full_size(logits: np.ndarray) -> np.ndarray:
    return np.kron(logits > 0, np.ones((2, 2), bool))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


@given(
    centre=st.tuples(st.floats(0, 255), st.floats(0, 255)),
    radii=st.tuples(st.floats(1, 120), st.floats(1, 120)),
    seed=st.integers(0, 1000),
)
def test_there_is_always_a_mask_of_finite_logits(centre, radii, seed):
    mask = ellipse(*np.round(centre), *radii)
    logits = neighbour_logits(mask, np.random.default_rng(seed), 128)
    assert logits.shape == (128, 128) and logits.dtype == np.float32
    assert np.isfinite(logits).all() and (logits > 0).any() and np.abs(logits).max() <= 8.001


def test_it_is_about_the_same_object_but_not_the_same():
    mask = ellipse(120, 130, 50, 30)
    overlaps = [iou(mask, at_full_size(neighbour_logits(mask, np.random.default_rng(i), 128))) for i in range(60)]
    assert 0.5 < np.mean(overlaps) < 0.85
    sizes = [at_full_size(neighbour_logits(mask, np.random.default_rng(i), 128)).sum() for i in range(60)]
    assert min(sizes) < 0.7 * mask.sum() and max(sizes) > 1.4 * mask.sum()  # it grows as well as it shrinks


def test_the_seed_decides():
    mask = ellipse(100, 90, 40, 40)
    first, again, other = (neighbour_logits(mask, np.random.default_rng(i), 128) for i in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
