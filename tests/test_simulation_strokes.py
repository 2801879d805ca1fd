"""Scribbles and lassos as hands draw them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.errors import EmptyMaskError
from bundle.prompts.drawing import draw_area, draw_line
from bundle.prompts.simulation_strokes import (
    error_scribble,
    lasso_around,
    lasso_prompt,
    scribble_across,
    scribble_along,
    scribble_prompt,
)

SIDE = 48


def ellipse(a: float, b: float, turn: float = 0.0, centre=(24, 24)) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] - np.array(centre[::-1])[:, None, None]
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    return (u / a) ** 2 + (v / b) ** 2 <= 1


def ring() -> np.ndarray:
    return ellipse(18, 18) & ~ellipse(12, 12)


SHAPES = st.builds(ellipse, st.floats(3, 20), st.floats(1.5, 10), st.floats(0, 3.1)).filter(np.any)


@settings(max_examples=20, deadline=None)
@given(SHAPES, st.one_of(st.none(), st.integers(0, 99)), st.sampled_from([scribble_along, scribble_across]))
def test_a_scribble_stays_inside_the_object(mask, seed, stroke):
    line = stroke(mask, None if seed is None else np.random.default_rng(seed))
    assert mask[draw_line(line, SIDE, SIDE)].all()


def test_a_scribble_goes_along_or_across_the_object():
    mask = ellipse(20, 5)
    along, across = scribble_along(mask), scribble_across(mask)
    assert np.ptp(along[:, 0]) > 15 and np.ptp(along[:, 1]) < 4
    assert np.ptp(across[:, 1]) > 5 and np.ptp(across[:, 0]) < 4


def test_a_scribble_follows_a_bent_object_and_may_be_a_dot():
    line = scribble_along(ring())
    assert ring()[draw_line(line, SIDE, SIDE)].all() and np.ptp(line, axis=0).min() > 10
    dot = np.zeros((SIDE, SIDE), bool)
    dot[5, 7] = True
    assert scribble_along(dot).tolist() == [[7, 5]]


@pytest.mark.parametrize("seed", [None, 3])
def test_the_next_scribble_lies_in_the_largest_error_and_says_what_it_is(seed):
    rng = None if seed is None else np.random.default_rng(seed)
    truth = ellipse(6, 6, centre=(12, 24))
    missed = error_scribble(truth, np.zeros_like(truth), rng)
    invented = error_scribble(truth, truth | ellipse(8, 4, centre=(36, 24)), rng)
    assert missed.label == 1 and truth[draw_line(missed.path, SIDE, SIDE)].all()
    assert invented.label == 0 and invented.path[:, 0].min() > 20
    assert error_scribble(truth, truth) is None


@settings(max_examples=15, deadline=None)
@given(SHAPES, st.integers(0, 99))
def test_a_lasso_lies_around_the_object(mask, seed):
    calm = draw_area(lasso_around(mask), SIDE, SIDE)
    assert (calm & mask).sum() >= 0.95 * mask.sum()
    trembling = lasso_around(mask, np.random.default_rng(seed))
    assert (trembling >= 0).all() and (trembling <= SIDE - 1).all()
    inside = draw_area(trembling, SIDE, SIDE)
    assert 2 * (inside & mask).sum() / (inside.sum() + mask.sum()) > 0.4


def test_equal_draws_give_equal_lines():
    one, other = (lasso_around(ring(), np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_in_a_volume_they_are_drawn_on_the_largest_slice(axis):
    truth = np.moveaxis(np.stack([ellipse(3, 3), ellipse(9, 5), ellipse(5, 5)]), 0, axis)
    for prompt in (scribble_prompt(truth, axis=axis), lasso_prompt(truth, axis=axis)):
        (one,) = prompt.validated(truth.shape).interactions
        voxels = one.named_voxels(truth.shape)
        assert np.unique(voxels[:, axis]).tolist() == [1]
        assert truth[tuple(voxels.T)].mean() > (0.99 if one.kind == "scribble" else 0.5)


def test_on_a_slice_they_are_prompts_of_the_slice():
    (line,), (lasso,) = (draw(ellipse(9, 5)).interactions for draw in (scribble_prompt, lasso_prompt))
    assert (line.kind, lasso.kind) == ("scribble", "lasso")


def test_an_empty_mask_has_neither():
    for draw in (scribble_along, scribble_across, lasso_around):
        with pytest.raises(EmptyMaskError):
            draw(np.zeros((8, 8), bool))
