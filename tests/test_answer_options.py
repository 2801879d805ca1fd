"""What a user wants of answers beside the prompts: limits, and cleaning in millimetres."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_room import LEFT, SHAPE, open_session, organs, point, state, volume

from bundle.errors import PromptError, SessionError
from bundle.interactive.answer_options import AnswerOptions
from bundle.interactive.journal import Journal
from bundle.prompts.interactions import Box
from bundle.prompts.prompts import ObjectPrompts


def dirty() -> np.ndarray:
    """(20, 18, 12) bool: the left organ with a hole in it, an island beside it, and the right organ."""
    mask = organs()
    mask[5, 7, 4:6] = False
    mask[2, 16, 4] = True
    return mask


def slices(session, name="object") -> list[int]:
    return np.flatnonzero(session.mask(name).any(axis=(0, 1))).tolist()


def test_an_object_is_followed_up_to_its_limits():
    session = open_session()
    session.set_options(AnswerOptions(limits=(4, 7)))
    session.add(point(LEFT))
    assert slices(session) == [4, 5, 6, 7]


def test_limits_that_change_are_answered_anew_and_undo_brings_back_what_was():
    session = open_session()
    session.add(point(LEFT))
    before = state(session)
    update = session.set_options(AnswerOptions(limits=(4, 7)))
    assert update.predicted and slices(session) == [4, 5, 6, 7]
    session.set_options(AnswerOptions())
    assert np.array_equal(session.mask("object"), organs() & (np.arange(20) < 9)[:, None, None])
    session.undo(), session.undo()
    assert state(session)["objects"] == before["objects"]


def test_limits_along_another_axis_than_the_walk_hold_too():
    session = open_session()
    session.set_options(AnswerOptions(limits=(6, 10), limits_axis=1))
    session.add(point(LEFT))
    assert np.flatnonzero(session.mask("object").any(axis=(0, 2))).tolist() == [6, 7, 8, 9, 10]
    assert slices(session) == list(range(2, 10))


def test_prompts_outside_of_the_limits_are_refused_and_nothing_has_changed():
    session = open_session()
    session.add(point(LEFT))
    before = state(session)
    with pytest.raises(PromptError, match="widen the limits"):
        session.set_options(AnswerOptions(limits=(7, 8)))
    assert state(session) == before


@pytest.mark.parametrize("dimension", [2, 3])
def test_an_object_whose_prompts_were_all_taken_back_may_have_other_options(dimension):
    session = open_session()
    session.add(point(LEFT), dimension=dimension)
    session.remove(0, dimension=dimension)
    session.set_options(AnswerOptions(holes_mm=2.0))
    assert session.object("object").options == AnswerOptions(holes_mm=2.0) and not session.mask("object").any()


def test_a_stateless_client_says_its_limits_each_time():
    session, prompts = open_session(), ObjectPrompts([point(LEFT)])
    session.set_prompts(prompts, options=AnswerOptions(limits=(4, 7)))
    assert not session.set_prompts(prompts, options=AnswerOptions(limits=(4, 7))).predicted
    assert slices(session) == [4, 5, 6, 7]
    session.set_prompts(prompts, options=AnswerOptions())
    assert slices(session) == list(range(2, 10))


@pytest.mark.parametrize("kind", ["point", "box"])
@pytest.mark.parametrize("dimension", [2, 3])
def test_answers_are_cleaned_and_what_was_drawn_stays(dimension, kind):
    session = open_session(volume(dirty()))
    whole = Box([[1, 3, 5], [8, 17, 5]] if dimension == 2 else [[1, 3, 2], [8, 17, 9]])
    session.add(whole, dimension=dimension)
    hole, island = (5, 7, 5), (2, 16, 4)
    assert not session.mask("object")[hole] and session.mask("object")[island] == (dimension == 3)
    session.set_options(AnswerOptions(islands_mm=9.0, holes_mm=9.0))
    assert session.mask("object")[hole] and not session.mask("object")[island]
    off = point(hole, False) if kind == "point" else Box([hole, hole], positive=False)
    session.add(off, dimension=dimension)
    assert not session.mask("object")[hole]


@pytest.mark.parametrize("dimension", [2, 3])
def test_what_a_box_takes_off_stays_off_where_holes_are_filled_and_the_surface_is_smoothed(dimension):
    session, (first, last) = open_session(), (5, 5) if dimension == 2 else (4, 6)
    session.add(point((4, 5, 5)), dimension=dimension)
    session.add(Box([(4, 8, first), (6, 10, last)], positive=False), dimension=dimension)
    for options in (AnswerOptions(holes_mm=30.0), AnswerOptions(smoothing_mm=3.0)):
        session.set_options(options)
        assert not session.mask("object")[4:7, 8:11, first : last + 1].any() and session.mask("object")[4, 5, 5]


def test_a_confirmed_slice_and_a_locked_object_are_not_cleaned():
    session = open_session(volume(dirty()))
    session.add(Box([[1, 3, 2], [8, 17, 9]]))
    session.confirm(4)
    right = session.mask("object")[:, :, 4]
    session.set_options(AnswerOptions(islands_mm=9.0, holes_mm=9.0, smoothing_mm=1.0))
    assert np.array_equal(session.mask("object")[:, :, 4], right) and session.mask("object")[5, 7, 5]
    session.lock("object")
    with pytest.raises(SessionError, match="locked"):
        session.set_options(AnswerOptions())


def test_smoothing_leaves_slices_that_were_not_answered_empty():
    session = open_session()
    session.set_options(AnswerOptions(smoothing_mm=4.0))
    session.add(point(LEFT))
    assert set(slices(session)) <= set(session.object("object").predicted_iou[2])
    assert np.array_equal(session.labels > 0, session.mask("object"))


def test_options_are_restored_with_the_session_and_outlive_a_reset_but_for_limits(tmp_path):
    session = open_session(journal=Journal.of(tmp_path / "s", volume()))
    session.set_options(AnswerOptions(limits=(4, 7), holes_mm=2.0))
    session.add(point(LEFT))
    assert state(open_session(journal=Journal.of(tmp_path / "s", volume()))) == state(session)
    session.reset("object")
    assert session.object("object").options == AnswerOptions(holes_mm=2.0)


def test_an_answer_without_an_event_takes_options_too():
    session = open_session()
    found = session.segment_volume(ObjectPrompts([point(LEFT)]), options=AnswerOptions(limits=(4, 7)))
    assert set(found.scores) == {4, 5, 6, 7}


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (AnswerOptions(limits=(5, 4)), "first and the last of slices 0 to 11"),
        (AnswerOptions(limits=(0, 12)), "first and the last of slices 0 to 11"),
        (AnswerOptions(limits=(0.5, 4)), "first and the last of slices 0 to 11"),
        (AnswerOptions(limits=3), "the first and the last slice"),
        (AnswerOptions(limits=(0, 1), limits_axis=3), "axis"),
        (AnswerOptions(holes_mm=-1), "holes_mm"),
        (AnswerOptions(smoothing_mm=float("nan")), "smoothing_mm"),
        (AnswerOptions(islands_mm="3"), "islands_mm"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, wrong):
    with pytest.raises(PromptError, match=wrong):
        options.validated(SHAPE)


@given(
    limits=st.none() | st.tuples(st.integers(0, 5), st.integers(5, 11)),
    lengths=st.tuples(*[st.floats(0, 50, allow_nan=False)] * 3),
)
def test_options_are_written_and_read_as_they_were(limits, lengths):
    options = AnswerOptions(limits, 2, *lengths).validated(SHAPE)
    assert AnswerOptions.from_json(options.to_json()) == options
