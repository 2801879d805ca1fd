"""A session of events: what is on the screen is a function of image, model and events."""

from __future__ import annotations

import numpy as np
import pytest
from session_room import LEFT, RIGHT, SHAPE, open_session, organs, point, state, volume

from bundle.errors import PromptError, SessionError
from bundle.interactive.answer_options import AnswerOptions
from bundle.prompts.interactions import Box
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
