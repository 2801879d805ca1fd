"""Whatever is done to a session can be undone, done again and restored, bit for bit."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_room import LEFT, RIGHT, SHAPE, open_session, point, state, volume

from bundle.errors import MonaiSamError, PromptError, SessionError
from bundle.interactive.answer_options import AnswerOptions
from bundle.interactive.journal import Journal
from bundle.interactive.session import InteractiveSession
from bundle.interactive.steps import UNDO
from bundle.interactive.update import Update
from bundle.prompts.interactions import Box

IMAGE = volume()
NAMES = st.sampled_from(["a", "b"])
VOXELS = st.sampled_from([LEFT, RIGHT, (6, 6, 5), (5, 9, 7)])
CONFIRMED = st.sampled_from([(2, 5), (1, 9), (1, 6), (0, 5)])
CORNERS = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 5))


def block(low) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[low[0] : low[0] + 9, low[1] : low[1] + 5, low[2] : low[2] + 4] = True
    return mask


def together(parts):
    def do(session):
        with session.one_step():
            for part in parts:
                part(session)
        return Update(labels_box=np.array([(0, 0, 0), SHAPE]))  # it does not say where

    return do


PARTS = [
    st.tuples(st.just("add"), NAMES, VOXELS, st.booleans(), st.booleans()).map(
        lambda v: lambda s: s.add(point(v[2], v[3]), v[1], dimension=2, predict=v[4])
    ),
    st.tuples(NAMES, CORNERS).map(lambda v: lambda s: s.set_mask(block(v[1]), v[0])),
    NAMES.map(lambda name: lambda s: s.lock(name)),
    NAMES.map(lambda name: lambda s: s.remove(0, name, dimension=2)),
    NAMES.map(lambda name: lambda s: s.remove_object(name)),
    NAMES.map(lambda name: lambda s: s.reset(name)),
    st.tuples(NAMES, CONFIRMED).map(lambda v: lambda s: s.confirm(v[1][1], v[0], axis=v[1][0])),
    st.tuples(NAMES, st.sampled_from([2, 3])).map(
        lambda v: lambda s: s.add(Box([(2, 4, 5), (8, 7, 5)]), v[0], dimension=v[1])
    ),
    NAMES.map(lambda name: lambda s: s.fill_between(name, axis=1)),
    NAMES.map(lambda name: lambda s: s.set_options(AnswerOptions(limits=(4, 6), smoothing_mm=3.0), name)),
    st.tuples(NAMES, NAMES).map(lambda v: lambda s: s.rename(*v)),
    st.just(lambda s: s.undo()),
    st.just(lambda s: s.redo()),
]
STEPS = st.one_of(
    *PARTS,
    NAMES.map(lambda name: lambda s: s.unlock(name)),
    st.lists(st.one_of(*PARTS), min_size=2, max_size=3).map(together),  # with undo in it: refused
)


def confirmed(session) -> dict:
    """(id, locked or not, axis, index) of each confirmed slice -> what is on it."""
    return {
        (one.id, one.locked, *at): session.mask(one.name).take(at[1], at[0])
        for one in session.objects
        for at in one.confirmed
    }


def content(session) -> dict:
    return {key: value for key, value in state(session).items() if key != "depths"}


@settings(max_examples=30)
@given(st.lists(STEPS, min_size=2, max_size=10), st.sampled_from([None, 1500]))
def test_undo_redo_and_restoring_give_every_state_again(tmp_path_factory, steps, max_bytes):
    """Also where the session's file is full."""
    folder = tmp_path_factory.mktemp("sessions")
    journal = Journal.of(folder, IMAGE)
    journal.max_bytes = max_bytes or journal.max_bytes
    session = open_session(IMAGE, journal)
    for step in steps:
        before, labels, right = state(session), session.labels, confirmed(session)
        locked = {one.name: session.labels == one.label for one in session.objects if one.locked}
        try:
            update = step(session)
        except MonaiSamError:
            assert state(session) == before
            continue
        outside = np.ones(SHAPE, bool)
        if update is not None and update.labels_box is not None:
            outside[tuple(slice(*sides) for sides in update.labels_box.T)] = False
        assert np.array_equal(session.labels[outside], labels[outside])
        masks = [session.mask(one.name) for one in session.objects]
        assert np.array_equal(session.labels > 0, np.any([np.zeros(SHAPE, bool), *masks], axis=0))
        is_step = session.undo_depth > before["depths"][0] and not session.redo_depth  # undo may take a mask back
        if is_step and not any(event.kind == "confirm" for event in session._history.last(UNDO).events):
            for slice_, mask in confirmed(session).items():
                assert slice_ not in right or np.array_equal(mask, right[slice_])
        for one in session.objects:  # undo and redo may take a lock with them
            if one.locked and one.name in locked and session.undo_depth > before["depths"][0]:
                assert np.array_equal(session.labels == one.label, locked[one.name])
    seen = [content(session)]
    while session.undo() is not None:
        seen.append(content(session))
    assert session.objects == () and not session.labels.any()
    for expected in reversed(seen[:-1]):
        assert session.redo() is not None and content(session) == expected
        with contextlib.suppress(SessionError):
            session.new_object(" ")  # a step that fails forgets nothing that was undone
    again = open_session(IMAGE, Journal.of(folder, IMAGE))
    assert content(again) == content(session) and again.undo_depth == session.undo_depth
    assert again.predictor.network.masks_seen == []


@pytest.mark.parametrize("box", [[[0, 0, 0], [21, 1, 1]], [[-1, 0, 0], [1, 1, 1]], [[2, 0, 0], [1, 1, 1]], [1, 2]])
def test_a_box_outside_of_the_volume_is_refused(box):
    session = open_session(IMAGE)
    session.set_mask(block((0, 0, 0)), "a")
    with pytest.raises(SessionError, match="a box must be"):
        session.mask("a", box)
    with pytest.raises(SessionError, match="a box must be"):
        session.labels_in(box)


def test_a_part_of_a_mask_is_cut_out_of_the_whole():
    session = open_session(IMAGE)
    session.set_mask(block((3, 2, 1)), "a")
    box = [[2, 3, 0], [6, 9, 4]]
    assert np.array_equal(session.mask("a", box), block((3, 2, 1))[2:6, 3:9, 0:4])
    assert np.array_equal(session.labels_in(box), session.labels[2:6, 3:9, 0:4])


def test_a_mask_of_another_shape_and_a_slice_that_is_not_there_are_refused():
    session = open_session(IMAGE)
    with pytest.raises(SessionError, match=r"must have \(20, 18, 12\) voxels"):
        session.set_mask(np.ones((3, 3, 3)), "a")
    assert session.objects == ()
    session.set_mask(block((0, 0, 0)), "a")
    for index, axis in ((12, 2), (-1, 0), (0, 3)):
        with pytest.raises(SessionError, match="there is no slice"):
            session.confirm(index, "a", axis=axis)


def test_what_is_done_in_one_step_is_undone_at_once_and_a_failure_leaves_nothing_of_it(tmp_path):
    journal = Journal.of(tmp_path / "sessions", IMAGE)
    session = open_session(IMAGE, journal)
    with session.one_step():
        session.add(point(LEFT), "a", dimension=2)
        session.set_mask(block((10, 4, 2)), "b")
        session.new_object("c")
        session.remove_object("c")
    assert session.undo_depth == 1 and [one.name for one in session.objects] == ["a", "b"]
    both = content(session)
    with pytest.raises(SessionError, match="'b' is locked"), session.one_step():
        session.add(point(RIGHT), "c", dimension=2)
        session.lock("b")
        session.set_mask(block((0, 0, 0)), "b")
    with pytest.raises(SessionError, match="undo, redo and compact are no part of a step"), session.one_step():
        session.undo()
    assert content(session) == both == content(open_session(IMAGE, Journal.of(tmp_path / "sessions", IMAGE)))
    session.undo()
    assert session.objects == () and session.redo_depth == 1


def test_of_a_call_that_was_refused_in_a_step_nothing_stays_where_the_caller_goes_on():
    session = open_session(IMAGE)
    with session.one_step():
        session.add(point(LEFT), "a", dimension=2)
        with pytest.raises(PromptError, match="only background points"):
            session.add(point(RIGHT, positive=False), "b", dimension=2)
    assert [one.name for one in session.objects] == ["a"] and session.undo_depth == 1


def test_a_slice_that_was_confirmed_and_is_no_more_is_the_surer_ones_again():
    """Confirmed along another axis than the object was answered along, so that it has no predicted IoU of its own."""

    def played(*, confirmed: bool) -> InteractiveSession:
        session = open_session(IMAGE)
        for name in ("b", "left"):
            session.add(point(LEFT), name)
        if confirmed:
            session.confirm(9, "left", axis=1)
        session.add(point((5, 6, 5)), "left", dimension=2)
        if confirmed:
            session.confirm(9, "left", axis=1, confirmed=False)
        return session

    one, other = played(confirmed=False), played(confirmed=True)
    assert all(np.array_equal(one.mask(name), other.mask(name)) for name in ("b", "left"))
    assert np.array_equal(one.labels, other.labels)


def test_where_a_surer_mask_takes_voxels_over_the_label_map_changes_and_no_mask_does():
    session = open_session(IMAGE)
    session.add(point(LEFT), "a", dimension=2)
    mask = session.mask("a")
    session.set_mask(mask, "b")
    assert (session.labels[mask] == 1).sum() == 1 == session.labels[LEFT]  # the voxel that was clicked
    session.remove_object("b")
    session.set_mask(mask, "a")
    update = session.undo()
    assert update.box is None and update.labels_box.tolist() == [[2, 4, 5], [9, 14, 6]]
