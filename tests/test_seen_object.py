"""What of the network of volumes' answer to a correction is taken: the pieces that it lies in, and nothing beside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bundle.interactive.cube_answers import CubesAnswer
from bundle.interactive.following import Follower
from bundle.interactive.propagation import PropagationRule
from bundle.interactive.seen_object import SeenObject, changed_near, changed_there, outlined
from bundle.interactive.slice_model import SliceMask
from bundle.interactive.sliced import SlicedInteraction
from bundle.interactive.thin_slices import Distances
from bundle.interactive.walk import Followed, Walk
from bundle.prompts.interactions import Box, Point
from bundle.transforms.cube import Cube
from bundle.transforms.frames import SliceFrame

SHAPE = (10, 9, 8)
FRAME = SliceFrame.along(SHAPE, np.diag([-1.0, -1.0, 1.0, 1.0]), 2)
WHOLE = tuple(slice(0, size) for size in SHAPE)
FRAMES = [SliceFrame.along(SHAPE, np.diag([x, y, 1.0, 1.0]), axis) for x, y in ((-1, -1), (1, 1)) for axis in range(3)]
SPACING = (1.0, 1.0, 1.0)
FLAT_BOX, BOX = Box([[2, 2, 3], [6, 6, 3]]), Box([[2, 2, 1], [6, 6, 6]])


DISTANCES = Distances(SPACING[2], SPACING[:2], 0.0)


def answer(voxels: np.ndarray, *, cell: float = 0.5, iou: float = 0.7) -> CubesAnswer:
    cube = Cube.around(np.array([[0, 0, 0], np.array(SHAPE) - 1]), spacing=SPACING, axis=2, cells=32)
    return CubesAnswer.as_given(voxels, (0, 0, 0), cube.grown(32 * cell / cube.side), iou=iou)


def sliced(one, frame: SliceFrame = FRAME) -> SlicedInteraction:
    return SlicedInteraction.of(one.validated(SHAPE), frame)


def found(voxels: np.ndarray, *interactions, frame: SliceFrame = FRAME) -> SeenObject:
    """An object of (I, J, K) voxels as the model of slices found it."""
    stack = frame.stack(voxels)
    answers = {index: SliceMask(stack[index], iou=0.8) for index in range(frame.depth) if stack[index].any()}
    return SeenObject(answers, 3, tuple(sliced(one, frame) for one in interactions), answer(voxels))


def voxels_of(now: Followed, frame: SliceFrame = FRAME) -> np.ndarray:
    """(I, J, K) bool of an object."""
    voxels = np.zeros(SHAPE, bool)
    for index, one in now.answers.items():
        frame.insert(voxels, index, one.mask)
    return voxels


def walk(start, frame: SliceFrame = FRAME) -> Walk:
    return Walk(None, sliced(start, frame), depth=frame.depth, rule=None, picture=None)


def drawn(seed: int, share: float) -> np.ndarray:
    return np.random.default_rng(seed).random(SHAPE) < share


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 0.6), st.tuples(*(st.integers(0, n - 1) for n in SHAPE)), st.booleans())
def test_nothing_outside_of_the_pieces_that_a_click_lies_in_moves(seed, share, voxel, positive):
    before, after = drawn(seed, 0.4), drawn(seed, 0.4) ^ drawn(seed + 1, share)
    click = sliced(Point(voxel, positive=positive))
    now = changed_near(found(before, FLAT_BOX), answer(after), click, FRAME, walk(FLAT_BOX))
    if now is None:
        assert (
            before[voxel] == positive or after[voxel] != positive or (voxel[2] != 3 and before[voxel] == after[voxel])
        )
        return
    moved = voxels_of(now[0]) ^ before
    differs = before ^ after if positive else before & ~after  # what is taken off adds nothing
    differs[..., 3] &= voxel[2] == 3  # the slice that the box was drawn on
    pieces, _ = ndimage.label(differs, np.ones((3, 3, 3)))
    assert np.array_equal(moved, pieces == pieces[voxel])
    assert now[0].seen.mask(SHAPE)[voxel] == positive


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(FRAMES),
    st.sampled_from([FLAT_BOX, BOX, Box([[3, 1, 1], [3, 7, 6]])]),
    st.sampled_from([0.02, 0.1, 0.5]),
    st.lists(st.tuples(*(st.integers(0, n - 1) for n in SHAPE)), min_size=4, max_size=4),
    st.tuples(st.booleans(), st.booleans()),
)
def test_a_click_on_the_part_that_it_changes_answers_as_on_the_whole_volume(seed, frame, start, share, voxels, signs):
    """Bit for bit: masks, expectations, and the logits that the next click goes on from."""
    ends, (earlier, click) = voxels[:2], voxels[2:]
    off = Box([np.min(ends, axis=0), np.max(ends, axis=0)], positive=False)
    before = drawn(seed, 0.4)
    said = found(before, start, off, Point(earlier, positive=signs[0]), frame=frame)
    moved = drawn(seed + 1, share)
    now = answer(before ^ moved)
    now = replace(now, logits=now.logits * np.random.default_rng(seed).random(SHAPE).astype(np.float16))
    one = sliced(Point(click, positive=signs[1]), frame)
    near = changed_near(said, now, one, frame, walk(start, frame))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CubesAnswer, "differing", lambda self, other: WHOLE)
        whole = changed_near(said, now, one, frame, walk(start, frame))
    assert (near is None) == (whole is None)
    if near is None:
        return
    assert near[0].answers.keys() == whole[0].answers.keys()
    for index, mask in near[0].answers.items():
        assert np.array_equal(mask.mask, whole[0].answers[index].mask) and mask.iou == whole[0].answers[index].iou
    assert near[0].seen.logits_on(WHOLE).tobytes() == whole[0].seen.logits_on(WHOLE).tobytes()
    assert near[0].seen.part == whole[0].seen.part
    pieces = np.zeros((frame.depth, frame.height, frame.width), bool)
    rows, columns = near[2].pixels
    pieces[near[2].indices.start : near[2].indices.stop, rows, columns] = near[1]
    assert np.array_equal(pieces, whole[1])


def test_the_network_is_told_of_every_change_that_it_did_not_make():
    before, after = drawn(1, 0.3), drawn(2, 0.3)
    now = found(before, FLAT_BOX).with_answers(found(after).answers, (sliced(FLAT_BOX),), FRAME)
    assert np.array_equal(now.seen.mask(SHAPE), after) and np.array_equal(voxels_of(now), after)


def test_a_correction_does_not_leave_the_3d_box():
    before, everywhere = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    before[3:5, 3:5, 2:5] = True
    click = sliced(Point([5, 5, 3]))
    now, *_ = changed_near(found(before, BOX), answer(everywhere), click, FRAME, walk(BOX))
    shown = np.argwhere(voxels_of(now))
    assert shown.min(axis=0).tolist() == [2, 2, 1] and shown.max(axis=0).tolist() == [6, 6, 6]


def test_a_slice_that_a_3d_box_was_followed_from_may_be_corrected_from_its_neighbours():
    before = np.zeros(SHAPE, bool)
    before[3:6, 3:6, 2:5] = True
    larger = np.zeros(SHAPE, bool)
    larger[3:7, 3:6, 2:5] = True
    now, *_ = changed_near(found(before, BOX), answer(larger), sliced(Point([6, 4, 4])), FRAME, walk(BOX))
    assert np.array_equal(voxels_of(now), larger)


@pytest.mark.parametrize("cell", [0.5, 2.0])
def test_the_outlines_of_a_piece_are_the_slices_own_where_the_cells_are_coarse(cell):
    before, after, outline = (np.zeros(SHAPE, bool) for _ in range(3))
    before[3:5, 3:5, 2:5] = after[3:5, 3:5, 2:5] = True
    after[5:8, 3:5, 2:5] = True
    outline[2:6, 2:6, 2:5] = True  # of the model of slices, partly beside the piece
    start, click = Box([[3, 3, 2], [4, 4, 2]]), sliced(Point([5, 4, 3]))
    near = changed_near(found(before, start), answer(after, cell=cell), click, FRAME, walk(start))
    now = outlined(*near, lambda index, prompt: SliceMask(FRAME.extract(outline, index)), DISTANCES, ("box",))
    wanted = (after if cell < 1 else after & (outline | before)) & (np.arange(SHAPE[2]) > 2) | before
    assert np.array_equal(voxels_of(now), wanted)


def test_a_click_that_is_ignored_changes_its_own_slice_alone():
    before, after = drawn(3, 0.5), drawn(4, 0.5)
    click = sliced(Point([4, 4, 5]))
    followed = Followed(found(after).answers, 3, (sliced(FLAT_BOX), click))
    now = changed_there(found(before, FLAT_BOX), followed, click, FRAME)
    mask = voxels_of(now)
    assert np.array_equal(mask[..., 5], after[..., 5])
    others = [k for k in range(FRAME.depth) if k != 5]
    assert np.array_equal(mask[..., others], before[..., others]) and np.array_equal(now.seen.mask(SHAPE), mask)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.lists(st.tuples(*(st.integers(0, n - 1) for n in SHAPE)), min_size=2, max_size=4),
    st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_what_was_said_before_holds_whatever_the_network_of_volumes_says_now(seed, voxels, signs):
    *earlier, click = [Point(voxel, positive=sign) for voxel, sign in zip(voxels, signs, strict=False)]
    off = Box([[0, 0, 5], [3, 8, 6]], positive=False)
    before = drawn(seed, 0.5)
    before[0:4, :, 5:7] = False
    for point in earlier:
        before[tuple(int(i) for i in point.voxel)] = point.positive
    near = changed_near(
        found(before, FLAT_BOX, off, *earlier), answer(drawn(seed + 1, 0.5)), sliced(click), FRAME, walk(FLAT_BOX)
    )
    if near is None:
        return
    now, last = voxels_of(near[0]), tuple(int(i) for i in click.voxel)
    assert now[last] == click.positive
    said = {tuple(int(i) for i in point.voxel): point.positive for point in earlier}
    assert all(now[voxel] == sign for voxel, sign in said.items() if voxel != last)
    kept = np.zeros(SHAPE, bool)
    kept[0:4, :, 5:7] = True
    for voxel in (*said, last):
        kept[voxel] = False
    assert not now[kept].any()
    if not click.positive:
        assert not (now & ~before).any()


def test_what_is_remembered_of_a_click_is_as_large_as_the_object_and_not_as_the_cube():
    before = np.zeros(SHAPE, bool)
    before[3:6, 3:6, 3:5] = True
    whole = before.copy()
    whole[6, 4, 3] = True
    seen = CubesAnswer.as_given(before[3:6, 3:6, 3:5], (3, 3, 3), answer(before).cubes[0])
    changed = whole ^ before
    now = answer(whole).changed_only(seen, changed, WHOLE)
    assert now.logits.size == 4 * 3 * 2 and np.array_equal(now.mask(SHAPE), whole)


def follower() -> Follower:
    return Follower(None, sliced(FLAT_BOX), depth=SHAPE[2], rule=PropagationRule(), picture=None)


@pytest.mark.parametrize("at", [2, 5])
def test_what_is_said_to_lie_off_the_object_adds_nothing_to_it(at):
    before, after = drawn(3, 0.5), drawn(4, 0.5)
    before[..., 1] = after[..., 6] = False
    after[..., 7] = ~before[..., 7]
    click = sliced(Point([4, 4, at], positive=False))
    followed = Followed(found(after).answers, 3, (sliced(FLAT_BOX), click))
    now = follower()._lessened(found(before, FLAT_BOX), followed)
    left = before & after
    left[..., 7] = before[..., 7]  # it would lose all of the object, so what lies beyond would hang in the air
    assert np.array_equal(voxels_of(now), left)
    assert all(now.shows(index) or index in click.slices for index in now.answers)
