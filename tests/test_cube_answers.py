"""An object as a network of volumes sees it, and as it is told of what others say."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bundle.interactive.cube_answers import CubesAnswer
from bundle.interactive.parts import bounds_of
from bundle.transforms.cube import Cube

SHAPE = (7, 6, 5)
WHOLE = tuple(slice(0, size) for size in SHAPE)
CUBE = Cube((3.0, 2.5, 2.0), 8.0, (1.0, 1.0, 1.0), (2, 0, 1), 8)
SEEDS = st.integers(0, 100_000)


def drawn(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random(SHAPE) < rng.choice([0.0, 0.02, 0.4])


def given_as(voxels: np.ndarray, corner=(0, 0, 0)) -> CubesAnswer:
    return CubesAnswer.as_given(voxels, corner, CUBE)


@given(SEEDS, st.tuples(*(st.integers(0, 3) for _ in range(3))))
def test_what_is_given_is_its_own_mask_and_knows_its_extent(seed, corner):
    voxels, shape = drawn(seed), tuple(size + 3 for size in SHAPE)
    answer = given_as(voxels, corner)
    whole = answer.mask(shape)
    assert np.array_equal(whole[tuple(slice(c, c + n) for c, n in zip(corner, SHAPE, strict=True))], voxels)
    assert whole.sum() == voxels.sum()
    found = answer.extent()
    assert (found is None) == (not voxels.any())
    if found is not None:
        places = np.argwhere(whole)
        assert np.array_equal(found[0], [places.min(axis=0), places.max(axis=0)]) and found[1] == voxels.sum()


@given(SEEDS, SEEDS, SEEDS)
def test_what_is_overwritten_is_as_was_said_and_the_rest_as_it_was(before, where, said):
    before, where, said = drawn(before), drawn(where), drawn(said)
    answer = given_as(before).overwritten(where, said, WHOLE)
    assert np.array_equal(answer.mask(SHAPE), np.where(where, said, before))


@given(SEEDS, SEEDS, st.tuples(*(st.integers(0, 2) for _ in range(3))))
def test_two_answers_differ_in_the_smallest_part_that_holds_what_one_of_them_shows_alone(one, other, corner):
    shape = tuple(size + 2 for size in SHAPE)
    first, second = given_as(drawn(one)), given_as(drawn(other), corner)
    assert first.differing(second) == bounds_of(first.mask(shape) ^ second.mask(shape))
