"""Filling between confirmed slices as a step of a session."""

from __future__ import annotations

import numpy as np
import pytest
from session_room import LEFT, open_session, organs, point, state, volume

from bundle.errors import SessionError
from bundle.interactive.journal import Journal
from bundle.prompts.interactions import Mask


def confirmed(*slices: int, journal: Journal | None = None):
    """A session of the left organ, on whose slices something is missing but for those that are confirmed."""
    session = open_session(journal=journal)
    mask = organs() & (np.arange(20) < 9)[:, None, None]
    mask[5:, :, [index for index in range(12) if index not in slices]] = False
    session.set_mask(mask, "left")
    for index in slices:
        session.confirm(index, "left")
    return session


def areas(session) -> list[int]:
    return session.mask("left").sum(axis=(0, 1)).tolist()


def test_slices_between_confirmed_ones_are_filled_and_undo_takes_it_back():
    session = confirmed(3, 8)
    before = state(session)
    update = session.fill_between("left")
    assert areas(session)[3:9] == [70] * 6 and areas(session)[2] == areas(session)[9] == 30
    assert update.objects == ("left",) and update.box[:, 2].tolist() == [4, 8] and not update.predicted
    session.undo()
    assert state(session)["objects"] == before["objects"]
    session.redo()
    assert areas(session)[5] == 70


def test_filled_slices_stay_when_the_volume_is_answered_until_something_is_drawn_on_them():
    session = confirmed(3, 8)
    session.set_mask(session.mask("left") & (np.arange(18) < 12)[:, None], "left")
    for index in (3, 8):
        session.confirm(index, "left")
    session.fill_between("left")
    filled = session.mask("left")[:, :, 3:9]
    outside = areas(session)[9]
    session.add(point((5, 9, 9)), "left")
    assert np.array_equal(session.mask("left")[:, :, 3:9], filled) and areas(session)[9] > outside
    assert session.object("left").filled == {(2, index) for index in (4, 5, 6, 7)}
    session.add(point((5, 13, 5)), "left")
    assert session.object("left").filled == {(2, index) for index in (4, 6, 7)} and session.mask("left")[5, 13, 5]


def test_what_was_drawn_on_a_slice_that_is_filled_is_said_to_count_no_longer():
    session = confirmed(3, 8)
    session.add(point((7, 9, 6)), "left", dimension=2)
    update = session.fill_between("left")
    assert update.warnings == ("what was drawn on slices [6] no longer counts there: they are filled",)
    assert session.fill_between("left").objects == ("left",)


def test_where_the_object_lies_beside_itself_it_is_said_that_nothing_is_filled():
    session = open_session()
    mask = np.zeros(organs().shape, bool)
    mask[2:5, 4:14, 3] = mask[14:17, 4:14, 8] = True
    session.set_mask(mask, "left")
    for index in (3, 8):
        session.confirm(index, "left")
    update = session.fill_between("left")
    assert not areas(session)[5] and len(update.warnings) == 1
    assert (
        "nothing is filled on slices [4, 5, 6, 7]" in update.warnings[0] and "confirm one there" in update.warnings[0]
    )


def test_filling_again_follows_what_was_confirmed_since():
    session = confirmed(3, 8)
    session.fill_between("left")
    session.add(Mask(np.ones((3, 10, 1), bool), corner=(2, 4, 5)), "left", dimension=2)
    assert areas(session)[3:9] == [70, 70, 30, 70, 70, 70]
    session.confirm(5, "left")
    session.fill_between("left")
    first, before, at, after, then, last = areas(session)[3:9]
    assert first == last == 70 > before > at == 30 < after < then < 70


@pytest.mark.parametrize("slices", [(), (4,)])
def test_without_two_confirmed_slices_there_is_nothing_to_fill(slices):
    session = confirmed(*slices)
    before = state(session)
    with pytest.raises(SessionError, match=f"has {len(slices)} confirmed slices"):
        session.fill_between("left")
    assert state(session) == before
    with pytest.raises(SessionError, match="along axis 1"):
        session.fill_between("left", axis=1)


def test_a_locked_object_is_not_filled():
    session = confirmed(3, 8)
    session.lock("left")
    with pytest.raises(SessionError, match="locked"):
        session.fill_between("left")


def test_filled_slices_are_restored_and_stand_in_the_label_map(tmp_path):
    session = confirmed(3, 8, journal=Journal.of(tmp_path / "s", volume()))
    session.fill_between("left")
    assert state(open_session(journal=Journal.of(tmp_path / "s", volume()))) == state(session)
    assert np.array_equal(session.labels > 0, session.mask("left")) and LEFT[2] in range(4, 8)


def test_a_slice_that_was_confirmed_along_another_axis_stays_where_it_crosses_what_is_filled():
    session = confirmed(3, 8)
    session.confirm(7, "left", axis=0)
    crossing = session.mask("left")[7]
    session.fill_between("left")
    assert np.array_equal(session.mask("left")[7], crossing) and not crossing[:, 4:8].any()
    assert areas(session)[3:9] == [70, 60, 60, 60, 60, 70] and np.array_equal(session.labels > 0, session.mask("left"))
