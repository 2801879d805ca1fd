"""Parts of a volume, and what its slices show of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bundle.interactive.parts import PartSlices, around, bounds_of, common, shifted, within_part
from bundle.transforms.frames import SliceFrame

SHAPE = (7, 6, 5)
SEEDS = st.integers(0, 100_000)
FRAMES = st.builds(
    lambda signs, axis: SliceFrame.along(SHAPE, np.diag([*signs, 1.0]), axis),
    st.tuples(*(st.sampled_from([-1.0, 1.0]) for _ in range(3))),
    st.integers(0, 2),
)
PARTS = st.tuples(*(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)) for n in SHAPE)).map(
    lambda ends: tuple(slice(min(pair), max(pair) + 1) for pair in ends)
)


def drawn(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random(SHAPE) < rng.choice([0.0, 0.02, 0.4])


def on(*parts) -> np.ndarray:
    """(I, J, K) bool: the voxels of some parts."""
    voxels = np.zeros(SHAPE, bool)
    for part in parts:
        voxels[part] = True
    return voxels


@given(SEEDS)
def test_the_bounds_hold_every_voxel_and_no_empty_face(seed):
    voxels, part = drawn(seed), bounds_of(drawn(seed))
    assert (part is None) == (not voxels.any())
    if part is not None:
        inside = voxels[part]
        assert inside.sum() == voxels.sum()
        assert all(inside.take(end, axis=axis).any() for axis in range(3) for end in (0, -1))


@given(PARTS, PARTS)
def test_around_and_in_common_are_the_smallest_and_the_largest(one, other):
    assert around([one, other]) == bounds_of(on(one, other))
    assert common(one, other) == bounds_of(on(one) & on(other))


@given(PARTS, PARTS, SEEDS)
def test_a_part_of_a_part_is_the_same_voxels(one, other, seed):
    both = around([one, other])
    inner, values = within_part(one, both), np.random.default_rng(seed).random(SHAPE)
    assert np.array_equal(values[both][inner], values[one]) and shifted(inner, both) == one


@given(FRAMES, PARTS, SEEDS)
def test_the_slices_of_a_part_are_the_part_of_the_slices(frame, part, seed):
    here, voxels = PartSlices(frame, part), np.random.default_rng(seed).random(SHAPE) < 0.4
    rows, columns = here.pixels
    whole = frame.stack(voxels)[here.indices.start : here.indices.stop, rows, columns]
    stack = here.stack(voxels[part])
    assert np.array_equal(stack, whole) and np.array_equal(here.voxels(stack), voxels[part])
    masks = {index: frame.extract(voxels, index) for index in range(0, frame.depth, 2)}
    known = np.isin(np.array(here.indices), list(masks))[:, None, None]
    assert np.array_equal(here.cut(masks), whole & known)


@given(FRAMES, SEEDS)
def test_what_holds_the_masks_of_some_slices_shows_them_whole(frame, seed):
    voxels = drawn(seed)
    masks = {index: frame.extract(voxels, index) for index in range(frame.depth)}
    here = PartSlices.holding(frame, masks)
    assert (here is None) == (not voxels.any())
    if here is None:
        return
    assert here.part == bounds_of(voxels)
    shown = here.pictures(here.cut(masks))
    assert shown.keys() == {index for index, mask in masks.items() if mask.any()}
    assert all(np.array_equal(mask, masks[index]) for index, mask in shown.items())
