"""Objects that something found by itself, in a session."""

from __future__ import annotations

import numpy as np
import pytest
from session_room import LEFT, RIGHT, SHAPE, open_session, organs, point, state, volume

from bundle.errors import SessionError
from bundle.interactive.journal import Journal
from bundle.interactive.proposals import Proposal, proposals_of


def halves() -> np.ndarray:
    """(20, 18, 12) int: 1 the organ on the left, 2 that on the right."""
    return organs() * (1 + (np.arange(SHAPE[0]) > 9)[:, None, None])


def found(**options) -> list[Proposal]:
    return proposals_of(halves(), {"left": 1, "right": 2, "spleen": 3}, **options)


def test_proposed_objects_are_one_step_which_undo_takes_back():
    session = open_session()
    before = state(session)
    update = session.propose(found(predicted_iou={"left": 0.8}), model="semantic head")
    assert update.objects == ("left", "right") and np.array_equal(session.labels, halves())
    assert session.object("left").proposed and session.object("left").predicted_iou == {
        2: dict.fromkeys(range(2, 10), 0.8)
    }
    assert session.object("right").predicted_iou == {2: {}}
    session.undo()
    assert state(session)["objects"] == before["objects"] == []


def test_a_click_refines_a_proposed_object_which_is_then_somebodys_work():
    session = open_session()
    session.propose([Proposal("left", organs()[:9, :, :6])], model="m")
    session.add(point((5, 9, 8)), "left")
    assert session.mask("left")[5, 9, 8] and session.mask("left")[5, 9, 3] and not session.object("left").proposed


@pytest.mark.parametrize(
    "work",
    [
        lambda s: s.add(point((5, 9, 8), False), "left"),
        lambda s: s.lock("left"),
        lambda s: s.confirm(4, "left"),
        lambda s: s.set_mask(organs(), "left"),
    ],
)
def test_what_somebody_worked_on_stays_when_proposals_come_again(work):
    session = open_session()
    session.propose(found(), model="m")
    work(session)
    left = session.mask("left")
    update = session.propose([Proposal("left", organs()), Proposal("right", organs()[:5])], model="n", replace=True)
    assert np.array_equal(session.mask("left"), left) and session.mask("right").sum() == organs()[:5].sum()
    assert update.objects == ("right",) and "'left' is as it was" in update.warnings[0]


def test_new_proposals_may_take_the_place_of_all_that_nobody_touched():
    session = open_session()
    session.propose([Proposal("1", organs()), Proposal("2", organs())], model="m")
    session.add(point(RIGHT), "mine")
    session.propose([Proposal("1", organs()[:4])], model="m", replace=True)
    assert [one.name for one in session.objects] == ["1", "mine"]


def test_a_proposal_without_an_estimate_takes_no_voxel_of_another_object():
    session = open_session()
    session.propose([Proposal("all", np.ones(SHAPE))], model="m")
    session.add(point(LEFT), "left")
    assert np.array_equal(session.labels == 2, session.mask("left"))


def test_a_proposal_may_be_a_part_of_the_image():
    session = open_session()
    session.propose([Proposal("part", np.ones((2, 3, 1)), low=(4, 5, 6), axis=0)], model="m")
    assert session.mask("part").sum() == 6 and session.mask("part")[5, 7, 6]
    assert set(session.object("part").scores[0]) == {4, 5}


@pytest.mark.parametrize(
    ("one", "wrong"),
    [
        (Proposal("a", np.ones((2, 2))), "within"),
        (Proposal("a", np.ones((2, 2, 2)), low=(19, 0, 0)), "within"),
        (Proposal("a", np.ones((2, 2, 2)), axis=3), "axis 3"),
        (Proposal(" ", np.ones((2, 2, 2))), "name"),
        (Proposal("a", np.ones((2, 2, 2)), label=1), "label 1"),
    ],
)
def test_a_proposal_that_does_not_fit_is_refused_and_nothing_has_changed(one, wrong):
    session = open_session()
    session.new_object("other")
    before = state(session)
    with pytest.raises(SessionError, match=wrong):
        session.propose([Proposal("fits", organs()), one], model="m")
    assert state(session) == before


def test_proposals_are_restored_with_the_session(tmp_path):
    session = open_session(journal=Journal.of(tmp_path / "s", volume()))
    session.propose(found(predicted_iou={"left": {3: 0.5}}), model="m")
    assert state(open_session(journal=Journal.of(tmp_path / "s", volume()))) == state(session)


def test_a_name_or_a_tick_of_a_proposed_object_hides_nothing_that_was_found_in_it():
    session, lesion = open_session(), np.zeros(SHAPE, bool)
    lesion[4:6, 8:10, 4:6] = True
    session.propose([Proposal("1", organs()[:9], predicted_iou=0.9), Proposal("2", lesion)], model="m")
    before = session.labels
    assert (before == 2).sum() == lesion.sum()
    for work in (
        lambda: session.rename("1", "liver"),
        lambda: session.confirm(4, "liver"),
        lambda: session.lock("liver"),
    ):
        update = work()
        assert np.array_equal(session.labels, before), update
    session.lock("2")
    assert np.array_equal(session.labels, before)
