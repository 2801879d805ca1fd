"""A cube of cells lies where it says, and what it sees comes back to the same voxels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.transforms.cube import Cube

SHAPE = (20, 16, 12)
SPACING = (1.0, 1.5, 3.0)


def cube(**changes) -> Cube:
    return Cube(
        **{"centre": (9.5, 7.5, 5.5), "side": 24.0, "spacing": SPACING, "axes": (2, 0, 1), "cells": 24, **changes}
    )


def ramp() -> np.ndarray:
    """1 more for every mm along each axis, with weights that tell the axes apart."""
    i, j, k = np.indices(SHAPE)
    return (i * SPACING[0] + 10 * j * SPACING[1] + 100 * k * SPACING[2]).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.floats(-5, 25)] * 3),
    st.floats(5, 90),
    st.permutations([0, 1, 2]),
    st.tuples(*[st.floats(0, 19)] * 3),
)
def test_a_voxel_goes_to_its_cell_and_back(centre, side, axes, voxel):
    made = cube(centre=centre, side=side, axes=tuple(axes))
    assert made.to_voxels(made.to_cells(np.array([voxel])))[0] == pytest.approx(voxel, abs=1e-6)


def test_the_cells_see_the_voxels_that_lie_there():
    made = cube(side=6.0)  # inside of the volume
    seen = made.sample(ramp(), smooth=False).numpy()
    expected = [made.places(axis) * SPACING[axis] * 10**axis for axis in (2, 0, 1)]
    expected = expected[0][:, None, None] + expected[1][:, None] + expected[2]
    assert seen == pytest.approx(expected, rel=1e-5)


def test_outside_of_the_volume_the_nearest_voxel_is_seen():
    seen = cube(side=400.0).sample(ramp(), smooth=False)
    assert seen[0, 0, 0] == pytest.approx(0, abs=1e-3)
    assert float(seen.max()) == pytest.approx(float(ramp().max()))


def test_voxels_smaller_than_a_cell_are_averaged():
    noise = np.random.default_rng(0).normal(size=(64, 64, 64)).astype(np.float32)
    made = Cube((31.5,) * 3, 64.0, (1.0,) * 3, (2, 0, 1), 8)
    assert made.sample(noise).std() < 0.1 < made.sample(noise, smooth=False).std()


def test_a_smooth_mean_moves_nothing():
    made = Cube((31.5,) * 3, 48.0, (1.0,) * 3, (0, 1, 2), 8)
    i = np.broadcast_to(np.arange(64.0)[:, None, None], (64, 64, 64))
    assert made.sample(i)[:, 4, 4].numpy() == pytest.approx(made.places(0), abs=1e-3)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_what_the_cells_hold_comes_back_to_the_voxels_it_was_seen_on(axes):
    made = cube(side=14.0, axes=axes)
    values, part = made.spread(made.sample(ramp(), smooth=False), SHAPE)
    inner = tuple(slice(1, -1) for _ in range(3))  # at a face a cell's middle is the last that is known
    assert values[inner] == pytest.approx(ramp()[part][inner], rel=0.02, abs=5)


def test_only_voxels_in_the_cube_are_answered():
    values, part = cube(side=6.0).spread(torch.ones(24, 24, 24), SHAPE)
    assert [(p.start, p.stop) for p in part] == [(7, 13), (6, 10), (5, 7)]
    assert values.shape == (6, 4, 2)


def test_a_cube_beside_the_volume_answers_nothing():
    values, _ = cube(centre=(100.0, 7.5, 5.5)).spread(torch.ones(24, 24, 24), SHAPE)
    assert values.size == 0


def test_the_cube_around_a_box_is_as_long_as_its_longest_side_in_mm_asks_for():
    made = Cube.around(np.array([[2, 2, 2], [5, 5, 5]]), spacing=SPACING, axis=2, cells=8, margin=2.0, smallest=10.0)
    assert (made.centre, made.side, made.axes) == ((3.5, 3.5, 3.5), 24.0, (2, 0, 1))
