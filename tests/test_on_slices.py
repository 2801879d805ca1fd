"""What the slices along any axis see of interactions on any plane."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.prompts.interactions import Box, Lasso, Mask, Point, Scribble
from bundle.prompts.on_slices import prompt_on_slice, prompts_of_slices, prompts_on_slices, slice_range
from bundle.prompts.prompts import ObjectPrompts
from bundle.transforms.frames import SliceFrame

SHAPE = (9, 11, 8)
AFFINES = (np.diag([2.0, 2, 3, 1]), np.diag([-2.0, -2, 3, 1]), np.eye(4)[[2, 0, 1, 3]])
POSITION = st.tuples(*(st.integers(0, size - 1) for size in SHAPE)).map(list)
FRAMES = st.builds(
    lambda affine, axis: SliceFrame.along(SHAPE, affine, axis), st.sampled_from(AFFINES), st.integers(0, 2)
)


def lasso(axis: int, low=2, high=6, at=3) -> Lasso:
    corners = [[low, low], [high, low], [high, high], [low, high]]
    return Lasso(np.insert(np.array(corners, float), axis, at, axis=1)).validated(SHAPE)


def seen_voxels(interaction, frame: SliceFrame) -> np.ndarray:
    """(I, J, K) bool: what the slices see of an interaction, put back into the volume."""
    volume = np.zeros(SHAPE, bool)
    for index, prompt in prompts_on_slices(ObjectPrompts([interaction]), frame).items():
        for one in prompt.interactions:
            frame.extract(volume, index)[one.pixels(frame.height, frame.width)] = True
    return volume


@settings(max_examples=30)
@given(FRAMES, st.lists(POSITION, min_size=1, max_size=4))
def test_a_line_is_seen_by_every_slice_that_it_passes(frame, path):
    scribble = Scribble(path).validated(SHAPE)
    seen, named = np.argwhere(seen_voxels(scribble, frame)), scribble.named_voxels(SHAPE)
    assert set(seen[:, frame.slice_axis]) == set(named[:, frame.slice_axis])
    # A half index is rounded up, along a flipped axis down: there the line passes the neighbour.
    apart = np.abs(seen[:, None] - named[None]).max(axis=2)
    assert apart.min(axis=0).max() <= 1 and apart.min(axis=1).max() <= 1


@settings(max_examples=20)
@given(FRAMES, POSITION, POSITION)
def test_a_box_is_seen_as_its_section_by_every_slice_that_it_covers(frame, one, other):
    box = Box([one, other]).validated(SHAPE)
    low, high = box.corners.astype(int)
    wanted = np.zeros(SHAPE, bool)
    wanted[tuple(slice(first, last + 1) for first, last in zip(low, high, strict=True))] = True
    assert np.array_equal(seen_voxels(box, frame), wanted)


@settings(max_examples=20)
@given(FRAMES, st.integers(0, 2**32 - 1))
def test_a_mask_is_seen_as_it_is(frame, seed):
    voxels = np.random.default_rng(seed).random(SHAPE) < 0.1
    voxels[2:4, 3:5, 1:3] = True
    assert np.array_equal(seen_voxels(Mask(voxels).validated(SHAPE), frame), voxels)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("drawn", [0, 1, 2])
def test_a_lasso_off_the_object_takes_its_area_on_every_slice_that_crosses_it(axis, drawn):
    line = lasso(drawn)
    off = Lasso(line.outline, positive=False)
    seen = seen_voxels(off, SliceFrame.along(SHAPE, AFFINES[1], axis))
    assert seen.sum() == 25 and np.array_equal(np.argwhere(seen), np.unique(off.named_voxels(SHAPE), axis=0))


def test_of_a_lasso_on_another_plane_the_middle_of_each_crossing_lies_on_the_object():
    seen = prompts_on_slices(ObjectPrompts([lasso(0)]), SliceFrame.along(SHAPE, np.eye(4), 2))
    assert sorted(seen) == [2, 3, 4, 5, 6]
    (line,) = seen[3].interactions
    assert line.kind == "scribble" and line.positive and np.ptp(line.xy, axis=0).max() == 2


def test_a_mask_of_one_slice_of_another_plane_is_seen_as_lines():
    voxels = np.zeros(SHAPE, bool)
    voxels[4, 2:6, 1:4] = True
    seen = prompts_on_slices(ObjectPrompts([Mask(voxels).validated(SHAPE)]), SliceFrame.along(SHAPE, np.eye(4), 2))
    assert [(index, *(one.kind for one in prompt.interactions)) for index, prompt in seen.items()] == [
        (index, "scribble") for index in (1, 2, 3)
    ]


def test_a_slice_sees_its_interactions_in_their_order_and_others_nothing():
    frame = SliceFrame.along(SHAPE, np.eye(4), 2)
    prompts = ObjectPrompts([Scribble([[1, 1, 3], [4, 1, 3]]), Box([[0, 0, 3], [5, 5, 3]], positive=False)])
    prompts = prompts.with_points([[2, 2, 3], [2, 2, 5]], [1, 0]).validated(SHAPE)
    here = prompt_on_slice(prompts, frame, 3)
    assert [one.kind for one in here.interactions] == ["scribble", "box", "point"]
    assert not prompt_on_slice(prompts, frame, 4).interactions
    assert sorted(prompts_of_slices(prompts, frame)) == [3]  # on slice 5 there is nothing to segment
    assert slice_range(prompts, frame) == (3, 5)


def test_a_thick_box_goes_along_to_those_of_its_slices_that_something_lies_on():
    frame = SliceFrame.along(SHAPE, np.eye(4), 2)
    prompts = ObjectPrompts([Scribble([[1, 1, 3], [4, 1, 3]])], box=[[0, 0, 2], [5, 5, 4]]).validated(SHAPE)
    asked = prompts_of_slices(prompts.with_points([[1, 1, 4], [1, 1, 6]], [0, 0]), frame)
    assert sorted(asked) == [3, 4] and asked[3].box is not None
    assert not prompts_of_slices(ObjectPrompts(box=[[0, 0, 2], [5, 5, 4]]).validated(SHAPE), frame)


def test_a_valid_mask_keeps_only_the_part_that_holds_it():
    voxels = np.zeros(SHAPE, bool)
    voxels[3:5, 7, 2] = True
    mask = Mask(voxels).validated(SHAPE)
    assert (mask.voxels.shape, mask.corner) == ((2, 1, 1), (3, 7, 2))
    assert mask.validated(SHAPE).same(mask) and np.array_equal(mask.named_voxels(SHAPE), np.argwhere(voxels))


def test_points_are_seen_on_their_slice():
    frame = SliceFrame.along(SHAPE, np.eye(4), 1)
    assert list(Point([1, 4.4, 2]).validated(SHAPE).on_slices(frame)) == [4]


def test_the_ends_of_a_lasso_on_another_plane_say_nothing_of_their_slices():
    diamond = Lasso([[3.0, 5, 1], [3, 8, 4], [3, 5, 7], [3, 2, 4]])  # along j and k
    seen = prompts_on_slices(ObjectPrompts([diamond]).validated(SHAPE), SliceFrame.along(SHAPE, np.eye(4), 2))
    assert sorted(seen) == [3, 4, 5]
    off = ObjectPrompts([Lasso(diamond.outline, positive=False), Point([0, 0, 0])]).validated(SHAPE)
    assert sorted(prompts_on_slices(off, SliceFrame.along(SHAPE, np.eye(4), 2))) == [0, 1, 2, 3, 4, 5, 6, 7]
