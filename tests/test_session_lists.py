"""Clients that send all their prompts each time, on one plane or several: their lists become events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_room import LEFT, RIGHT, open_session, organs, point, state, volume

from bundle.errors import PromptError, SessionError
from bundle.interactive.answer_options import AnswerOptions
from bundle.interactive.journal import Journal
from bundle.prompts.interactions import Box, Mask
from bundle.prompts.prompts import ObjectPrompts

VOXELS = st.sampled_from([LEFT, (6, 6, 5), (7, 12, 5), (5, 9, 7), (13, 9, 5), (3, 5, 7)])
LISTS = st.lists(st.tuples(VOXELS, st.booleans()), max_size=3)
REQUESTS = st.lists(
    st.tuples(st.sampled_from(["left", "right"]), st.sampled_from([2, 3]), LISTS, st.sampled_from("....ru")),
    min_size=1,
    max_size=6,
)


def prompts_of(name: str, clicks, slice_: int | None = None) -> ObjectPrompts:
    first = (5, 9, 5) if name == "left" else RIGHT
    chosen = [(first, True), *clicks]
    chosen = [click for click in chosen if slice_ is None or click[0][2] == slice_]
    return ObjectPrompts([point(voxel, positive) for voxel, positive in chosen], name=name)


@settings(max_examples=25)
@given(REQUESTS)
def test_requests_become_events_and_get_the_stateless_answers(tmp_path_factory, requests):
    """Also where the session is opened again from its journal between them."""
    folder = tmp_path_factory.mktemp("sessions")
    folder.chmod(0o700)
    image = volume()
    session, stateless = open_session(image, Journal.of(folder, image)), open_session(image)
    for name, dimension, clicks, then in requests:
        prompts = prompts_of(name, clicks, 5 if dimension == 2 else None)
        if then == "r":
            stateless.reset(name)
        session.set_prompts(prompts, dimension=dimension, reset=then == "r")
        expected = (stateless.segment_slice if dimension == 2 else stateless.segment_volume)(prompts)
        shown = session.segmentation(name, index=5 if dimension == 2 else None)
        assert np.array_equal(shown.mask, expected.mask) and shown.scores == expected.scores
        if then == "u":
            before = state(session)
            session = open_session(image, Journal.of(folder, image))
            assert state(session) == before


def test_a_client_in_2d_sends_one_slice_and_takes_nothing_from_the_others():
    session = open_session()
    session.set_prompts(ObjectPrompts([point(LEFT), point((6, 6, 5))], name="left"), dimension=2)
    session.set_prompts(ObjectPrompts([point((5, 9, 7))], name="left"), dimension=2)
    assert [one.voxel.tolist() for one in session.object("left").interactions] == [[5, 9, 5], [6, 6, 5], [5, 9, 7]]
    session.set_prompts(ObjectPrompts([point((6, 6, 5))], name="left"), dimension=2)
    assert [one.voxel.tolist() for one in session.object("left").interactions] == [[6, 6, 5], [5, 9, 7]]
    assert np.flatnonzero(session.mask("left").any(axis=(0, 1))).tolist() == [5, 7]


@pytest.mark.parametrize("client", [None, "ohif"])
def test_a_client_that_prompts_on_another_plane_takes_nothing_away_where_the_slices_cross(tmp_path, client):
    image = volume()

    def answered(session, axis, *clicks, dimension=2) -> list:
        prompts = ObjectPrompts([point(click) for click in clicks], name="left")
        session.set_prompts(prompts, dimension=dimension, axis=axis, client=client)
        return [one.voxel.tolist() for one in session.object("left").interactions]

    session, beside = open_session(image, Journal.of(tmp_path, image)), [6, 9, 7]
    assert answered(session, 2, LEFT) == [[*LEFT]]
    assert answered(session, 1, beside) == [[*LEFT], beside]  # the slice j = 9 crosses the other one in the first point
    assert answered(session, 1, LEFT, beside) == [[*LEFT], beside]  # of a client that shows it on both planes
    session = open_session(image, Journal.of(tmp_path, image))  # the server starts anew
    assert answered(session, 1, (6, 9, 8)) == [[*LEFT], [6, 9, 8]]
    assert answered(session, 2, (6, 6, 5)) == [[6, 6, 5], [6, 9, 8]]
    both = open_session(image)
    both.add([point((6, 6, 5)), point((6, 9, 8))], "left", dimension=2, axis=1)
    assert np.array_equal(session.mask("left")[:, 9], both.mask("left")[:, 9])
    assert answered(session, 1, beside, dimension=3) == [beside]  # through the volume the list is all that there is
    assert answered(session, 2, (6, 6, 7)) == [beside, [6, 6, 7]]  # that of the plane whose slices it was about
    assert answered(session, 1, (6, 9, 8)) == [[6, 9, 8], [6, 6, 7]]
    for first in (True, False):  # whatever came before that list
        session = open_session(image)
        if first:
            answered(session, 2, LEFT)
        assert answered(session, 2, LEFT, dimension=3) == [[*LEFT]]
        assert answered(session, 1, beside) == [[*LEFT], beside]
        assert answered(session, 2, (6, 6, 5)) == [[6, 6, 5], beside]


def test_what_python_adds_is_of_the_plane_that_it_says():
    session = open_session()
    session.add(point(LEFT), "left", dimension=2, axis=1)
    session.move(0, point((6, 9, 5)), "left", dimension=2, axis=1)
    session.set_prompts(ObjectPrompts([point((6, 6, 5))], name="left"), dimension=2)
    assert [one.voxel.tolist() for one in session.object("left").interactions] == [[6, 9, 5], [6, 6, 5]]
    session.set_prompts(ObjectPrompts([point((6, 9, 7))], name="left"), dimension=2, axis=1)
    assert [one.voxel.tolist() for one in session.object("left").interactions] == [[6, 9, 7], [6, 6, 5]]
    before = state(session)
    for wrong in ({"axis": 3}, {"axis": None}, {"dimension": 1}):
        with pytest.raises(PromptError, match="must be"):
            session.add(point(LEFT), "left", predict=False, **wrong)
        with pytest.raises(PromptError, match="must be"):
            session.remove(0, "left", predict=False, **wrong)
    assert state(session) == before


def test_a_confirmed_slice_stays_when_prompts_are_taken_back_through_the_volume_and_changes_on_itself():
    box = Box([(3, 6, 7), (5, 9, 7)])
    for dimension in (2, 3):
        session = open_session()
        session.set_prompts(ObjectPrompts([box, point((4, 8, 7))], name="left"), dimension=2)
        session.confirm(7, "left")
        right = session.mask("left")[..., 7]
        taken_back = [point((4, 8, 7))] if dimension == 2 else [point(LEFT)]
        session.set_prompts(ObjectPrompts(taken_back, name="left"), dimension=dimension)
        assert session.object("left").confirmed == (frozenset() if dimension == 2 else {(2, 7)})
        assert np.array_equal(session.mask("left")[..., 7], right) == (dimension == 3)
    session.remove(0, "left")  # the last one
    assert session.object("left").confirmed == {(2, 7)} and np.array_equal(session.mask("left")[..., 7], right)
    assert session.mask("left").sum() == right.sum()


PLACES = [LEFT, (4, 9, 7), (5, 6, 5), (5, 12, 7), (4, 6, 7), (13, 9, 5), (1, 9, 5)]
LISTED = st.lists(st.sampled_from(PLACES), max_size=2, unique=True)


def slice_list(axis: int, first, others, boxed: bool) -> ObjectPrompts:
    """A list of a slice: a point, perhaps in a box, and others that lie on it."""
    low, high = np.subtract(first, 2), np.add(first, 2)
    low[axis] = high[axis] = first[axis]
    given = [Box(np.array([low, high]))] if boxed else []
    on_it = [voxel for voxel in (first, *others) if voxel[axis] == first[axis]]
    return ObjectPrompts([*given, *(point(voxel, voxel[0] != 1) for voxel in on_it)], name="left")


CLICKS = st.tuples(st.sampled_from([0, 1, 2]), st.sampled_from(PLACES[:5]), LISTED, st.booleans())


@settings(max_examples=25)
@given(st.lists(CLICKS, min_size=2, max_size=4, unique_by=lambda click: (click[0], click[1][click[0]])))
def test_the_same_requests_on_several_planes_again_and_again_are_no_steps(clicks):
    """Where slices cross whose answers differ, as those within a box, what was said last shows."""
    session = open_session()

    def send() -> list[bytes]:
        shown = []
        for axis, first, others, boxed in clicks:
            session.set_prompts(slice_list(axis, first, others, boxed), dimension=2, axis=axis)
            shown.append(session.segmentation("left", axis=axis, index=first[axis]).mask.tobytes())
        return shown

    send()
    send()  # who crosses one that was asked later is asked with its points, too
    before, asked = state(session), len(session.predictor.network.masks_seen)
    shown = send()
    assert state(session) == before and len(session.predictor.network.masks_seen) == asked
    assert send() == shown
    while session.undo() is not None:
        pass
    while session.redo() is not None:
        pass
    assert state(session) == before and send() == shown and state(session) == before


def test_of_two_planes_that_disagree_where_they_cross_the_one_that_was_asked_last_shows():
    session, boxed = open_session(), Box([(4, 9, 4), (6, 9, 6)])
    axial, coronal = ObjectPrompts([point(LEFT)], name="left"), ObjectPrompts([boxed], name="left")

    def line() -> int:
        return int(session.mask("left")[:, 9, 5].sum())

    session.set_prompts(axial, dimension=2)
    assert line() == 7
    session.set_prompts(coronal, dimension=2, axis=1)
    assert line() == 3 and session.undo_depth == 2
    for _ in range(3):
        session.set_prompts(axial, dimension=2)
        session.set_prompts(coronal, dimension=2, axis=1)
        assert line() == 3 and session.undo_depth == 2
    session.set_prompts(ObjectPrompts([point(LEFT), point((6, 6, 5))], name="left"), dimension=2)  # something new
    assert line() == 7 and session.undo_depth == 3
    session.set_prompts(coronal, dimension=2, axis=1)
    assert line() == 7 and session.undo_depth == 3


def test_an_answer_through_the_volume_and_one_on_a_slice_that_agree_are_no_steps_again():
    session, one = open_session(), ObjectPrompts([point(LEFT)], name="left")
    about = [{"axis": 2}, {"axis": 1}, {"axis": 1, "dimension": 2}, {"axis": 2, "dimension": 2}]
    for of in about:
        session.set_prompts(one, **of)
    before = state(session)
    assert sorted(before["objects"][0]["iou"]) == [1, 2] and len(before["objects"][0]["iou"][2]) == 8
    for of in about * 2:
        session.set_prompts(one, **of)
    assert state(session) == before
    session.set_prompts(ObjectPrompts([Box([(4, 7, 4), (6, 11, 4)])], name="left"), dimension=2)
    session.set_prompts(one)  # another answer, which takes the place of the slice
    assert session.mask("left").sum() == organs()[:9].sum()


def test_a_slice_that_is_emptied_lets_those_that_cross_it_be_asked_again():
    session, axial = open_session(), ObjectPrompts([point(LEFT)], name="left")
    session.set_prompts(axial, dimension=2)
    whole = session.mask("left")
    session.add(point((4, 6, 7)), "left", dimension=2, axis=1)
    session.remove(1, "left", dimension=2, axis=1)
    assert not session.mask("left")[:, 6].any()
    session.set_prompts(axial, dimension=2)
    assert np.array_equal(session.mask("left"), whole)


def test_all_planes_that_an_object_shows_are_cleaned_otherwise():
    options, sessions = AnswerOptions(smoothing_mm=4.0), [open_session(), open_session()]
    sessions[1].set_options(options, "left")
    for session in sessions:
        for axis, one in ((2, point(LEFT)), (1, Box([(4, 9, 4), (6, 9, 7)])), (2, point((5, 9, 8)))):
            session.add(one, "left", dimension=2, axis=axis)
    before = sessions[0].mask("left")
    update = sessions[0].set_options(options, "left")
    assert update.predicted and not np.array_equal(sessions[0].mask("left"), before)
    assert np.array_equal(sessions[0].mask("left"), sessions[1].mask("left"))
    assert [one.scores for one in sessions[0].objects] == [one.scores for one in sessions[1].objects]


PLANES = st.sampled_from([0, 1, 2])
ON_PLANES = st.one_of(
    st.tuples(st.just("list"), st.sampled_from([2, 3]), PLANES, st.sampled_from(PLACES[:5]), LISTED, st.booleans()),
    st.tuples(st.just("confirm"), PLANES, st.sampled_from(PLACES)),
    st.tuples(st.just("fill"), PLANES),
    st.tuples(st.sampled_from(["undo", "redo", "open", "lock", "unlock"])),
)


@settings(max_examples=40)
@given(st.lists(ON_PLANES, min_size=3, max_size=9))
def test_what_was_confirmed_stays_whatever_is_asked_on_other_planes(tmp_path_factory, steps):
    """And undo, redo, locks and a restart are as ever."""
    folder, image = tmp_path_factory.mktemp("sessions"), volume()
    folder.chmod(0o700)
    session = open_session(image, Journal.of(folder, image))
    session.set_prompts(ObjectPrompts([point(LEFT)], name="left"))
    for kind, *values in steps:
        before, one, mask = state(session), session.object("left"), session.mask("left")
        try:
            if kind == "confirm":
                axis, voxel = values
                session.confirm(voxel[axis], "left", axis=axis)
            elif kind == "fill":
                session.fill_between("left", axis=values[0])
            elif kind == "list":
                dimension, axis, first, others, boxed = values
                prompts = slice_list(axis, first, others, boxed)
                session.set_prompts(prompts, dimension=dimension, axis=axis)
            elif kind == "open":
                session = open_session(image, Journal.of(folder, image))
                assert state(session) == before
            elif kind != "undo" or session.undo_depth > 1:
                getattr(session, kind)(*(["left"] if kind.endswith("lock") else []))
        except (PromptError, SessionError):
            assert state(session) == before
            continue
        if kind == "list":
            now = session.object("left")
            assert one.kept - now.kept <= {(axis, first[axis])} | {(axis, voxel[axis]) for voxel in others}
            for along, index in now.kept:
                assert np.array_equal(session.mask("left").take(index, along), mask.take(index, along))
            assert not one.locked or state(session) == before
    seen = []
    while session.undo_depth:
        seen.append(state(session)["objects"])
        session.undo()
    for expected in reversed(seen):
        session.redo()
        assert state(session)["objects"] == expected


def test_a_request_of_background_points_alone_corrects_a_mask_that_was_given_and_nothing_else():
    session = open_session()
    session.set_mask(organs(), "left")
    session.set_prompts(ObjectPrompts([point(LEFT, False)], name="left"), dimension=2)
    assert not session.mask("left")[LEFT] and session.mask("left")[RIGHT]
    before = state(session)
    for dimension, click, reset in ((2, (5, 9, 11), False), (3, LEFT, True)):  # beside the mask, without it
        with pytest.raises(PromptError, match="only background points for 'left'"):
            session.set_prompts(ObjectPrompts([point(click, False)], name="left"), dimension=dimension, reset=reset)
    assert state(session) == before


def test_what_is_said_of_a_slice_off_the_object_alone_is_refused_by_what_it_is():
    session = open_session()
    session.add(point(LEFT), "left")
    with pytest.raises(PromptError, match="only background points for 'left'"):
        session.add(point((5, 9, 7), False), "left", dimension=2)


def test_what_one_client_of_a_user_sends_takes_nothing_away_that_another_placed(tmp_path):
    image = volume()
    for dimension in (2, 3):
        session = open_session(image, Journal.of(tmp_path / f"{dimension}", image))
        of = {client: {"dimension": dimension, "client": client} for client in ("slicer", "ohif")}
        session.set_prompts(ObjectPrompts([point(LEFT)], name="lung"), **of["slicer"])
        session.set_prompts(ObjectPrompts([point(RIGHT)], name="lung"), **of["ohif"])
        assert session.mask("lung")[LEFT] and session.mask("lung")[RIGHT]
        session = open_session(image, Journal.of(tmp_path / f"{dimension}", image))  # the server starts anew
        session.set_prompts(ObjectPrompts([point((6, 6, 5))], name="lung"), **of["slicer"])
        assert [one.voxel.tolist() for one in session.object("lung").interactions] == [[6, 6, 5], [*RIGHT]]
        assert session.mask("lung")[RIGHT] and session.undo_depth == 3
        depth = session.undo_depth
        for client, voxel in (("slicer", (6, 6, 5)), ("ohif", RIGHT)):  # nothing new
            assert not session.set_prompts(ObjectPrompts([point(voxel)], name="lung"), **of[client]).predicted
        session.set_prompts(ObjectPrompts([point(LEFT)], name="lung"), dimension=dimension)  # the only one there is
        assert len(session.object("lung").interactions) == 1 and session.undo_depth == depth + 1


def test_the_same_request_again_is_no_step_and_asks_nothing():
    session = open_session()
    prompts = ObjectPrompts([point(LEFT), point((5, 9, 8), False)], name="left")
    session.set_prompts(prompts)
    asked, depth = len(session.predictor.network.masks_seen), session.undo_depth
    assert not session.set_prompts(prompts).predicted
    assert (len(session.predictor.network.masks_seen), session.undo_depth) == (asked, depth)
    session.lock("left")
    assert not session.segmentation("left").mask[RIGHT]


def test_a_request_is_one_step():
    session = open_session()
    session.set_prompts(ObjectPrompts([point(LEFT), point((5, 9, 8), False)], name="left"))
    session.set_prompts(
        ObjectPrompts([point((6, 6, 5)), point((5, 9, 3), False), point(LEFT)], name="left"), reset=True
    )
    assert session.undo_depth == 2
    session.undo()
    assert len(session.object("left").interactions) == 2


def test_a_mask_of_one_slice_in_2d_is_the_answer_of_that_slice_wherever_it_lies():
    session = open_session()
    session.add(Mask(np.ones((3, 10, 1), bool), corner=(2, 4, 7)), dimension=2)
    assert session.mask("object").sum() == 30 and session.mask("object")[2:5, 4:14, 7].all()
