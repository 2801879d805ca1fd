"""A session of events: what is on the screen is a function of image, model and events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_room import LEFT, RIGHT, SHAPE, open_session, organs, point, state, volume

from bundle.errors import PromptError, SessionError
from bundle.interactive.answer_options import AnswerOptions
from bundle.interactive.journal import Journal
from bundle.prompts.interactions import Box, Mask
from bundle.prompts.prompts import ObjectPrompts


def test_a_point_begins_an_object_that_is_followed_through_the_volume():
    session = open_session()
    update = session.add(point(LEFT), "left")
    assert update.objects == ("left",) and update.predicted and update.encoded
    assert session.mask("left").sum() == organs()[:9].sum()
    assert update.box.tolist() == [[2, 4, 2], [9, 14, 10]]
    assert set(update.predicted_iou["left"]) == set(range(2, 10))
    assert session.object("left").label == 1 and (session.labels == session.mask("left")).all()


def test_in_2d_a_point_changes_its_slice_alone():
    session = open_session()
    session.add(point(LEFT), "left", dimension=2)
    session.add(point((5, 9, 7)), "left", dimension=2)
    assert np.flatnonzero(session.mask("left").any(axis=(0, 1))).tolist() == [5, 7]
    session.add(point((5, 9, 3)), "left", dimension=2, axis=1)
    assert session.mask("left")[:, 9].sum() == 7 * 8 and session.mask("left")[:, 8, 7].sum() == 7


def test_interactions_may_wait_for_the_model():
    session = open_session()
    update = session.add([point(LEFT), point((13, 9, 5), False)], "left", predict=False)
    assert not update.predicted and update.box is None and not session.mask("left").any()
    assert session.predict("left").predicted and session.mask("left").any()
    assert not session.predict("left").predicted  # nothing new


def test_undo_goes_back_to_the_first_click_and_redo_to_the_last_without_the_model():
    session = open_session()
    seen = [state(session)]
    for voxel, positive in ((LEFT, True), ((5, 9, 8), False), ((13, 9, 5), True)):
        session.add(point(voxel, positive), "left")
        seen.append(state(session))
    asked = len(session.predictor.network.masks_seen)
    for expected in reversed(seen[:-1]):
        assert session.undo() is not None
        assert state(session)["objects"] == expected["objects"] and state(session)["labels"] == expected["labels"]
    assert session.undo() is None
    for expected in seen[1:]:
        session.redo()
        assert state(session)["objects"] == expected["objects"]
    assert session.redo() is None and len(session.predictor.network.masks_seen) == asked


def test_an_update_says_where_something_changed_also_when_it_is_undone():
    session = open_session()
    session.add(point(LEFT), "left")
    before, labels = session.mask("left"), session.labels
    done = session.add(point((5, 9, 8), False), "left")
    inside = tuple(slice(*sides) for sides in done.box.T)
    changed = session.mask("left") ^ before
    assert changed.any() and not np.delete(changed, np.arange(done.box[0, 2], done.box[1, 2]), axis=2).any()
    undone = session.undo()
    assert undone.box.tolist() == done.box.tolist()
    assert np.array_equal(session.labels_in(undone.box), labels[inside])


def test_a_new_step_forgets_what_was_undone():
    session = open_session()
    session.add(point(LEFT), "left")
    session.undo()
    session.add(point(RIGHT), "right")
    assert session.redo() is None and [one.name for one in session.objects] == ["right"]


# ---- several objects ------------------------------------------------------------------------------------------------


def test_no_voxel_of_a_locked_organ_changes_when_its_neighbour_is_prompted_and_undo_restores_both():
    session = open_session(volume(organs(apart=False)))
    session.add(Box([[2, 4, 2], [9, 13, 9]]), "left")  # one layer too far
    session.lock("left")
    left, before = session.mask("left"), state(session)
    session.add(Box([[7, 4, 2], [16, 13, 9]]), "right")
    assert (session.mask("right") & left).any()
    assert np.array_equal(session.labels == 1, left) and np.array_equal(session.mask("left"), left)
    assert (session.labels == 2).sum() == (session.mask("right") & ~left).sum()
    assert not (session.segmentation("right").mask & left).any()
    session.undo()
    assert state(session)["objects"] == before["objects"] and state(session)["labels"] == before["labels"]


def test_without_a_lock_a_click_takes_its_voxel_and_undo_gives_it_back():
    session = open_session(volume(organs(apart=False)))
    session.add(Box([[2, 4, 2], [9, 13, 9]]), "left")
    before = session.labels
    session.add([Box([[9, 4, 2], [16, 13, 9]]), point((9, 9, 5))], "right")
    assert before[9, 9, 5] == 1 and session.labels[9, 9, 5] == 2
    session.undo()
    assert np.array_equal(session.labels, before)


def test_a_locked_object_keeps_what_the_label_map_showed_of_it():
    session = open_session(volume(organs(apart=False)))
    session.add(Box([[2, 4, 2], [9, 13, 9]]), "left")
    session.add([Box([[9, 4, 2], [16, 13, 9]]), point((9, 9, 5))], "right")
    labels = session.labels
    session.lock("left")
    session.lock("right")
    assert np.array_equal(session.labels, labels)
    session.unlock("right")
    session.remove_object("right")
    assert np.array_equal(session.labels == 1, labels == 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.add(point(LEFT), "left"),
        lambda s: s.remove(0, "left"),
        lambda s: s.move(0, point(RIGHT), "left"),
        lambda s: s.set_mask(organs(), "left"),
        lambda s: s.reset("left"),
        lambda s: s.remove_object("left"),
        lambda s: s.confirm(3, "left"),
        lambda s: s.set_prompts(ObjectPrompts([point(RIGHT)], name="left")),
    ],
)
def test_a_locked_object_refuses_to_be_changed(change):
    session = open_session()
    session.add(point(LEFT), "left")
    session.lock("left")
    before = state(session)
    with pytest.raises(SessionError, match="'left' is locked"):
        change(session)
    assert state(session) == before


def test_an_object_can_be_renamed_coloured_and_removed_and_all_of_it_undone():
    session = open_session()
    session.new_object("lesion", label=7, color=(1, 0, 0))
    session.add(point(LEFT), "lesion")
    session.rename("lesion", "cyst")
    session.recolor("cyst", (0, 1, 0))
    assert session.object("cyst").color == (0, 1, 0) and session.labels.max() == 7
    assert session.remove_object("cyst").objects == ("cyst",)
    assert session.objects == () and not session.labels.any()
    session.undo()
    assert session.labels.max() == 7
    session.undo(), session.undo()
    assert (session.object("lesion").name, session.object("lesion").color) == ("lesion", (1, 0, 0))


def test_names_and_labels_are_unique_and_an_unknown_object_is_named():
    session = open_session()
    session.new_object("a", label=3)
    for call, said in (
        (lambda: session.new_object("a"), "an object 'a' already"),
        (lambda: session.new_object("b", label=3), "label 3 belongs to another"),
        (lambda: session.new_object("b", label=0), "whole number from 1"),
        (lambda: session.new_object(" "), "1 to 200 characters"),
        (lambda: session.new_object("b", color=(2, 0, 0)), "from 0 to 1"),
        (lambda: session.lock("z"), "no object 'z' in this session; it has 'a'"),
    ):
        with pytest.raises(SessionError, match=said):
            call()
    session.new_object("b")
    assert session.object("b").label == 4 and session.undo_depth == 2


# ---- masks and slices that the user gives ---------------------------------------------------------------------------


def test_a_given_mask_is_shown_as_it_is_and_goes_along_with_the_next_prompt():
    session = open_session()
    session.add(point(RIGHT), "left")
    mask = np.zeros(SHAPE, bool)
    mask[3:6, 5:8, 4:6] = True
    session.set_mask(mask, "left")
    assert np.array_equal(session.mask("left"), mask) and session.object("left").interactions == ()
    assert np.array_equal(session.labels == 1, mask) and session.object("left").predicted_iou == {2: {}}
    prompts = session.object("left").prompts((2, None), SHAPE)
    assert [one.kind for one in prompts.interactions] == ["mask"]
    assert {tuple(voxel) for voxel in prompts.interactions[0].named_voxels(SHAPE)} == {*map(tuple, np.argwhere(mask))}
    session.undo()
    assert session.mask("left")[RIGHT]


def test_a_given_mask_comes_back_when_the_prompts_on_it_are_taken_back():
    session, mask = open_session(), np.zeros(SHAPE, bool)
    mask[3:6, 5:8, 4:6] = True
    session.set_mask(mask, "left")
    assert not session.predict("left").predicted  # nothing was said of it
    before = session.labels
    session.add(point(LEFT), "left", dimension=2)
    session.add(point((5, 9, 8)), "left")
    assert session.mask("left")[..., 8].any()
    session.remove(1, "left", dimension=2)
    assert not session.mask("left")[..., 8].any()
    session.remove(0, "left")
    assert np.array_equal(session.mask("left"), mask) and np.array_equal(session.labels, before)
    assert session.object("left").predicted_iou[2] == {}


def test_a_point_that_is_moved_to_another_slice_takes_the_object_with_it():
    session = open_session()
    session.add(point(LEFT), "left", dimension=2)
    session.move(0, point((5, 9, 7)), "left", dimension=2)
    assert np.flatnonzero(session.mask("left").any(axis=(0, 1))).tolist() == [7]
    assert list(session.object("left").predicted_iou[2]) == [7]


def test_a_confirmed_slice_stays_until_it_is_prompted_itself():
    session = open_session()
    session.set_mask(np.zeros(SHAPE), "left")
    session.add(point(LEFT), "left", dimension=2)
    session.confirm(6, "left")  # nothing of it there, the user says
    session.add(point((5, 9, 4)), "left")
    assert not session.mask("left")[..., 6].any() and session.mask("left")[..., 7].any()
    assert 6 not in session.object("left").predicted_iou[2]
    session.add(point((5, 9, 6)), "left")
    assert session.mask("left")[..., 6].any() and session.object("left").confirmed == frozenset()


@pytest.mark.parametrize(("axis", "index", "low", "high"), [(1, 9, (2, 4, 7), (8, 7, 7)), (2, 5, (2, 7, 2), (8, 7, 4))])
def test_a_confirmed_slice_stays_where_an_answer_on_a_slice_crosses_it(axis, index, low, high):
    session = open_session()
    session.add(point(LEFT), "left")
    session.confirm(index, "left", axis=axis)
    confirmed = session.mask("left").take(index, axis)
    session.add(Box([low, high]), "left", dimension=2, axis=3 - axis)
    assert session.object("left").confirmed == {(axis, index)}
    assert np.array_equal(session.mask("left").take(index, axis), confirmed)
    session.remove(1, "left", dimension=2, axis=3 - axis)
    assert np.array_equal(session.mask("left").take(index, axis), confirmed)


def test_a_confirmed_slice_stays_with_its_score_where_it_is_cleaned_otherwise():
    session = open_session()
    session.add(point(LEFT), "left", dimension=2)
    session.confirm(5, "left")
    before = state(session)["objects"]
    update = session.set_options(AnswerOptions(smoothing_mm=8.0), "left")
    assert not update.predicted and state(session)["objects"] == [
        before[0] | {"options": AnswerOptions(smoothing_mm=8.0)}
    ]
    session.confirm(5, "left", confirmed=False)
    session.set_options(AnswerOptions(smoothing_mm=7.0), "left")
    assert session.mask("left")[..., 5].sum() < 70


def test_what_was_said_across_a_confirmed_slice_is_answered_once_it_may_change_again():
    """In 2D and through the volume; said again while the slice stays, it is no step."""
    said, off = [point(LEFT)], point((3, 9, 5), False)
    session = open_session()
    session.set_prompts(ObjectPrompts(said, name="left"), dimension=2)
    session.confirm(5, "left")
    session.add(off, "left", dimension=2, axis=1)  # on the slice that crosses the confirmed one
    depth, warnings = session.undo_depth, session.object("left").warnings
    assert session.mask("left")[3, 9, 5] and "confirmed" in warnings[-1]
    session.set_prompts(ObjectPrompts(said, name="left"), dimension=2)
    assert session.undo_depth == depth and session.object("left").warnings == warnings
    session.confirm(5, "left", confirmed=False)
    assert session.set_prompts(ObjectPrompts(said, name="left"), dimension=2).predicted
    assert not session.mask("left")[3, 9, 5]

    session = open_session()
    session.add(point(LEFT), "left")
    session.confirm(5, "left")
    session.add(off, "left", axis=1)
    session.confirm(5, "left", confirmed=False)
    assert session.predict("left", axis=1).predicted and not session.mask("left")[3, 9, 5]


def test_what_only_has_another_place_in_a_list_lifts_no_confirmed_slice():
    session = open_session()
    first, second, third, more = (point((5, 9, k)) for k in (5, 3, 7, 4))
    session.set_prompts(ObjectPrompts([first, second, third], name="left"), client="c")
    for index in (4, 7):
        session.confirm(index, "left")
    session.set_prompts(ObjectPrompts([first, third, more], name="left"), client="c")
    assert session.object("left").confirmed == {(2, 7)}


def test_slices_that_were_confirmed_along_another_axis_are_seen_and_locked_whole():
    session = open_session()
    session.add(point(LEFT), "left")
    for index in (7, 9):
        session.confirm(index, "left", axis=1)
    session.fill_between("left", axis=1)
    session.set_options(AnswerOptions(limits=(4, 6)), "left")
    mask = session.mask("left")
    assert [mask[:, j].sum() for j in (6, 7, 8, 9)] == [21, 56, 56, 56] and np.array_equal(session.labels > 0, mask)
    session.lock("left")
    assert np.array_equal(session.mask("left"), mask)


def test_a_reset_takes_prompts_and_masks_but_not_those_of_locked_objects():
    session = open_session()
    session.add(point(LEFT), "left")
    session.add(point(RIGHT), "right")
    session.lock("right")
    session.reset()
    assert not session.mask("left").any() and session.mask("right").any()
    session.undo()
    assert session.mask("left").any()


# ---- interactions that move and go ----------------------------------------------------------------------------------


def test_an_interaction_that_is_moved_or_removed_is_as_if_it_had_always_been_so():
    session = open_session()
    session.add([point(LEFT), point((5, 9, 8), False)], "left")
    session.move(1, point((5, 9, 3), False), "left")
    other = open_session()
    other.add([point(LEFT), point((5, 9, 3), False)], "left")
    assert np.array_equal(session.mask("left"), other.mask("left"))
    session.remove(1, "left")
    assert session.mask("left").sum() == organs()[:9].sum()
    session.remove(0, "left")
    assert not session.mask("left").any() and session.object("left").interactions == ()


def test_the_last_point_of_a_slice_takes_the_object_off_it():
    session = open_session()
    session.add(point(LEFT), "left", dimension=2)
    session.add(point((5, 9, 7)), "left", dimension=2)
    session.remove(0, "left", dimension=2)
    assert np.flatnonzero(session.mask("left").any(axis=(0, 1))).tolist() == [7]


def test_what_cannot_be_answered_changes_nothing():
    session = open_session()
    session.add(point(LEFT), "left")
    before = state(session)
    for wrong in (
        lambda: session.add(point((99, 0, 0)), "left"),
        lambda: session.add(point(LEFT, False), "new"),
        lambda: session.add(Box([[2, 4, 2], [9, 13, 9]]), "left", dimension=2),
        lambda: session.add(point(LEFT), "left", dimension=4),
        lambda: session.add(point(LEFT), "left", axis=5),
        lambda: session.set_prompts(ObjectPrompts(name="left")),
    ):
        with pytest.raises(PromptError):
            wrong()
    with pytest.raises(SessionError, match="has 1 interactions, there is none at 3"):
        session.remove(3, "left")
    assert state(session) == before


def test_a_step_that_is_stopped_changes_nothing():
    session = open_session()
    session.add(point(LEFT), "left")
    before = state(session)

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.add(point(RIGHT), "right", progress=stop)
    assert state(session) == before
    session.add(point(RIGHT), "right")
    assert session.mask("right").any()


def test_objects_of_one_step_share_what_is_prepared_of_a_slice():
    session = open_session()
    with session.one_step():
        first = session.add(point(LEFT), "left")
        second = session.add(point(RIGHT), "right")
    both = session.mask("left"), session.mask("right")
    assert first.encoded > 0 and second.encoded == 0 and all(mask.any() for mask in both)
    assert session.undo_depth == 1 and session.undo() is not None and session.objects == ()


# ---- users ----------------------------------------------------------------------------------------------------------


def test_two_users_of_an_image_have_a_session_each_and_share_what_was_prepared():
    one = open_session()
    one.add(point(LEFT), "left")
    encoded = one.predictor.network.encoded
    other = one.for_user()
    other.add(point(LEFT), "mine")
    assert other.predictor.network.encoded == encoded
    assert [o.name for o in one.objects] == ["left"] and [o.name for o in other.objects] == ["mine"]


# ---- clients that send all prompts each time ------------------------------------------------------------------------

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
