"""Events and steps as they are written, read and done."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.errors import JournalError, SessionError
from bundle.interactive import events as happened
from bundle.interactive import mask_events
from bundle.interactive.answer_options import AnswerOptions
from bundle.interactive.event_json import event_from_json, event_to_json
from bundle.interactive.objects import Placed, SegmentedObject
from bundle.interactive.regions import Region
from bundle.interactive.steps import REDO, UNDO, Draft, GivenIds, History, Step, record_from_bytes, record_to_bytes
from bundle.prompts.interactions import Box, Lasso, Mask, Point, Scribble

SHAPE = (4, 3, 2)
CORNER = Region.of(np.arange(24).reshape(SHAPE) < 5)
EVENTS = [
    happened.NewObject(1, "Leber, groß", 7, (0.1, 1.0, 0.0)),
    *(
        happened.Add(1, position, one)
        for position, one in enumerate(
            [
                Point(np.array([1 / 3, 0, 1]), positive=False),
                Box(np.array([[0, 0, 0], [1, 2, 0.5]])),
                Scribble(np.array([[0, 0, 0], [1, 1, 0]])),
                Lasso(np.array([[0, 0, 0], [1, 1, 0], [2, 0, 0]])),
                Mask(CORNER.mask(SHAPE)),
            ]
        )
    ),
    happened.Add(1, 1, Point(np.array([1.0, 1, 1])), "slicer"),
    happened.Move(1, 1, Point(np.array([1.0, 0, 1])), "slicer", 0, 2),
    happened.Remove(1, 1, 1, 3),
    happened.Move(1, 0, Point(np.array([1.0, 1, 1]))),
    happened.Remove(1, 2),
    mask_events.Predict(1, 2, None, {0: 0.75, 1: 1 / 3}, "m", ("doubtful",)),
    mask_events.Predict(1, 0, (1, 3), {1: 0.5, 3: 0.25}, "m", repainted=False),
    mask_events.Confirm(1, 2, 1, True),
    mask_events.Fill(1, 2, (0, 1)),
    happened.SetOptions(1, AnswerOptions((0, 1), islands_mm=2.5)),
    happened.SetOptions(1, AnswerOptions()),
    happened.Rename(1, "liver"),
    happened.Recolor(1, (0.0, 0.0, 0.5)),
    happened.Lock(1, True),
    happened.Lock(1, False),
    mask_events.SetMask(1, CORNER.to_bytes(), (0, 1)),
    mask_events.Propose(1, CORNER.to_bytes(), 2, {0: None, 1: 0.5}, "m"),
    happened.Reset(1),
    happened.RemoveObject(1),
]


def test_every_kind_of_event_is_in_the_list_above():
    assert {type(event) for event in EVENTS} == set(happened.Event.__subclasses__())


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_an_event_is_written_and_read_as_it_was(event):
    written = json.loads(json.dumps(event_to_json(event)))
    again = event_from_json(written, 24)
    assert type(again) is type(event) and event_to_json(again) == written


def earlier(event: happened.Event, *left_out: str, **values) -> happened.Event:
    """An event as an earlier version wrote it, read."""
    written = event_to_json(event) | values
    return event_from_json({name: value for name, value in written.items() if name not in left_out}, 24)


def test_an_interaction_of_a_session_that_knew_no_clients_and_planes_is_nobodys_and_of_the_third_axis():
    add = happened.Add(1, 0, Point(np.array([1.0, 1, 1])), "slicer", 1, 2)
    for again in (earlier(add, "client", "along", "dimension"), earlier(add, "client", "dimension", along=None)):
        assert (again.client, again.along, again.dimension) == (None, 2, None)


def test_steps_of_earlier_versions_lift_the_slices_that_they_lifted_then():
    point, elsewhere = Point(np.array([1.0, 2, 0])), Point(np.array([3.0, 0, 1]))
    there = frozenset({(0, 1), (1, 2), (2, 0)})  # the slices through the point
    others = frozenset({(0, 0), (1, 1)})
    one = SegmentedObject(1, "a", 1, (0, 0, 0), confirmed=there | others, filled=there)
    with_it = replace(one, interactions=(point,), placed=(Placed(),))
    for event, before in (
        (happened.Add(1, 0, point), one),
        (happened.Remove(1, 0), with_it),
        (happened.Move(1, 0, elsewhere), with_it),
    ):
        after = earlier(event, "dimension").changed(before, SHAPE)
        assert (after.confirmed, after.filled) == (others, frozenset()), event.kind
        along = replace(event, along=1, dimension=2).changed(before, SHAPE)
        assert (along.confirmed, along.filled) == ((there | others) - {(1, 2)}, there - {(1, 2)}), event.kind
        came = event.kind == "add"
        volume = replace(event, along=1, dimension=3).changed(before, SHAPE)
        assert volume.confirmed == (there | others) - ({(1, 2)} if came else set()), event.kind


@pytest.mark.parametrize("dimension", [1, 4, 2.5, True, "2"])
def test_a_dimension_that_is_none_is_no_event(dimension):
    with pytest.raises(JournalError, match="expected one of"):
        earlier(happened.Remove(1, 0), dimension=dimension)


@pytest.mark.parametrize("along", [-1, 1.0, True, "axial"])
def test_an_axis_that_is_none_is_no_event(along):
    written = event_to_json(happened.Add(1, 0, Point(np.array([1.0, 1, 1]))))
    with pytest.raises(JournalError, match="whole number"):
        event_from_json(written | {"along": along}, 24)


def test_a_step_is_written_and_read_as_it_was():
    step = Step(tuple(EVENTS), {1: CORNER.to_bytes(), 5: b""})
    again = record_from_bytes(record_to_bytes(step), SHAPE)
    assert record_to_bytes(again) == record_to_bytes(step) and dict(again.changes) == dict(step.changes)
    others = [UNDO, REDO, GivenIds(7)]
    assert [record_from_bytes(record_to_bytes(record), SHAPE) for record in others] == others


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {},
        {"kind": "explode", "object": 1},
        {"kind": "reset"},
        {"kind": "reset", "object": "1"},
        {"kind": "reset", "object": -1},
        {"kind": "lock", "object": 1, "locked": 1},
        {"kind": "rename", "object": 1, "name": 5},
        {"kind": "add", "object": 1, "position": 0},
        {"kind": "add", "object": 1, "position": 0, "interaction": {"kind": "point"}},
        {"kind": "set mask", "object": 1, "base": "?", "slices": []},
        {"kind": "predict", "object": 1, "axis": 2, "slices": 5, "scores": [], "model": "m", "warnings": []},
    ],
)
def test_what_is_no_event_is_refused(entry):
    with pytest.raises(JournalError, match="what is no event"):
        event_from_json(entry, 24)


@pytest.mark.parametrize(
    "events",
    [
        [happened.Reset(9)],
        [happened.NewObject(1, "a", 1, (0, 0, 0)), happened.Remove(1, 0)],
        [happened.NewObject(1, "a", 1, (0, 0, 0)), happened.Move(1, 3, Point((0, 0, 0)))],
    ],
)
def test_a_step_that_does_not_belong_here_changes_nothing(events):
    history = History(SHAPE)
    with pytest.raises(JournalError):
        history.take(Step(tuple(events)))
    assert history.objects == () and history.undo_depth == 0
    with pytest.raises(SessionError, match="must lie in"):
        history.take(
            Step((happened.NewObject(1, "a", 1, (0, 0, 0)),), {1: Region.of(np.ones((9, 1, 1), bool)).to_bytes()})
        )
    assert history.objects == () and history.undo_depth == 0


def test_an_id_is_never_given_again():
    history = History(SHAPE)
    for expected in (1, 2):
        draft = Draft(history)
        draft.add(happened.NewObject(history.next_id(), "a", 1, (0, 0, 0)))
        history.take(draft.step())
        assert history.objects[-1].id == expected
        history.take(UNDO)
    assert history.take(UNDO) is None and history.take(REDO) is not None


def seen(history: History) -> list:
    """All that a history shows, with what undo and redo would show, and the next id."""
    objects = [(one.id, one.name, one.label, history.mask(one.id).to_bytes()) for one in history.objects]
    return [objects, history.undo_depth, history.redo_depth, history.next_id()]


def walked(history: History) -> list:
    """``seen`` on the way back to the first step, forward to the last one, and back to where it was."""
    found, undone = [seen(history)], history.redo_depth
    while history.take(UNDO) is not None:
        found.append(seen(history))
    while history.take(REDO) is not None:
        found.append(seen(history))
    for _ in range(undone):
        history.take(UNDO)
    return found


@given(st.lists(st.sampled_from(["begin", "paint", "remove", UNDO, REDO]), max_size=25), st.data())
def test_a_compacted_history_is_the_same_also_for_undo_and_redo(acts, data):
    history, taken = History(SHAPE), 0
    for act in acts:
        record = act
        if act not in (UNDO, REDO):
            draft = Draft(history)
            key = data.draw(st.sampled_from([one.id for one in history.objects] or [0]))
            if act == "begin" or not key:
                key = draft.next_id()
                draft.add(happened.NewObject(key, f"object {key}", key, (0.0, 0.0, 0.0)))
            elif act == "paint":
                draft.add(happened.Reset(key))
                draft.set_mask(key, Region.of(np.arange(24).reshape(SHAPE) % data.draw(st.integers(2, 9)) == 0))
            else:
                draft.set_mask(key, Region.empty())
                draft.add(happened.RemoveObject(key))
            record = draft.step()
        history.take(record)
        taken += 1
    records = history.records()
    again = History(SHAPE)
    for record in records:
        again.take(record_from_bytes(record_to_bytes(record), SHAPE))
    assert len(records) <= taken + 1 and walked(again) == walked(history)
    assert seen(again) == seen(history)
