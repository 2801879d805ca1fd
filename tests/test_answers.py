"""What requests of all prompts become as events."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.errors import PromptError
from bundle.interactive.answers import edits, scopes_of
from bundle.interactive.objects import Placed, SegmentedObject, is_turned
from bundle.prompts.interactions import Box, Lasso, Mask, Point, Scribble

SHAPE = (4, 4, 4)
CLIENTS = st.sampled_from([None, "slicer", "ohif"])
PLACED = st.builds(Placed, CLIENTS, st.sampled_from([0, 2]))
VOXELS = st.tuples(st.integers(0, 1), st.just(0), st.integers(0, 2))
POINTS = st.lists(st.tuples(VOXELS, st.booleans()), max_size=5)


def points(voxels) -> tuple[Point, ...]:
    return tuple(Point(voxel) for voxel in voxels)


def signed(clicks) -> tuple[Point, ...]:
    return tuple(Point(voxel, positive=positive) for voxel, positive in clicks)


def clicks_of(one: SegmentedObject) -> list:
    return [(point.voxel, point.positive) for point in one.interactions]


def voxels(one: SegmentedObject) -> list:
    return [point.voxel for point in one.interactions]


@given(POINTS, POINTS, st.sampled_from([None, 0, 1]), CLIENTS, st.data())
def test_after_the_events_the_scope_has_what_was_sent_and_others_have_what_they_had(had, sent, index, client, data):
    """Others: other slices, what requests about other planes brought, but where the list turns it round, and other
    clients where one says who it is; nobody knows who placed what has no client.
    """
    by = data.draw(st.lists(PLACED, min_size=len(had), max_size=len(had)))
    one = SegmentedObject(1, "a", 1, (0, 0, 0), interactions=signed(had), placed=tuple(by))
    sent = [(voxel, positive) for voxel, positive in sent if index in (None, voxel[2])]

    def is_own(click, placed) -> bool:
        return index in (None, click[0][2]) and (client is None or placed.client in (client, None))

    def split(now) -> tuple[list, list]:
        """The clicks that the list is about, and those that it is not with where they came from."""
        about = [(click, by) for click, by in now if is_own(click, by) and (index is None or by.axis == 2)]
        return [click for click, _ in about], [entry for entry in now if entry not in about]

    def is_turned(click, placed) -> bool:
        return is_own(click, placed) and (click[0], not click[1]) in sent

    _, others = split([*zip(had, by, strict=True)])
    others = [entry for entry in others if not is_turned(*entry)]
    crossing = [click for click, placed in others if is_own(click, placed)]  # a list may name them, and need not
    for event in edits(one, (2, index), signed(sent), SHAPE, client):
        one = event.changed(one, SHAPE)
    expected = [click for click in sent if click not in crossing]
    assert split([*zip(clicks_of(one), one.placed, strict=True)]) == (expected, others)
    assert edits(one, (2, index), signed(sent), SHAPE, client) == []


@pytest.mark.parametrize(
    ("had", "sent", "kinds"),
    [
        ("ab", "ab", []),
        ("ab", "abc", ["add"]),
        ("ab", "a", ["remove"]),
        ("abc", "adc", ["move"]),
        ("ab", "cab", ["add"]),
        ("abc", "ac", ["remove"]),
    ],
)
def test_as_little_happens_as_the_user_did(had, sent, kinds):
    at = {"a": (0, 0, 0), "b": (1, 0, 0), "c": (2, 0, 0), "d": (3, 0, 0)}
    one = SegmentedObject(1, "a", 1, (0, 0, 0), interactions=points(at[c] for c in had), placed=(Placed(),) * len(had))
    assert [event.kind for event in edits(one, (2, None), points(at[c] for c in sent), SHAPE)] == kinds


def test_what_a_client_moves_or_adds_is_its_own_from_then_on():
    given, placed = points([(0, 0, 0), (1, 0, 0)]), (Placed(), Placed("ohif"))
    one = SegmentedObject(1, "a", 1, (0, 0, 0), interactions=given, placed=placed)
    for event in edits(one, (2, 0), points([(2, 0, 0), (3, 0, 0)]), SHAPE, "slicer"):
        one = event.changed(one, SHAPE)
    assert dict(zip(voxels(one), one.placed, strict=True)) == {
        (2, 0, 0): ("slicer", 2),  # nobody's, and moved
        (1, 0, 0): ("ohif", 2),
        (3, 0, 0): ("slicer", 2),
    }


OUTLINE = np.array([[0, 0, 1], [3, 0, 1], [3, 3, 1.0]])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Point((1, 2, 3)), Point((1.2, 2, 2.9))),
        (Box([[0, 0, 1], [2, 2, 1]]), Box([[0, 0, 1], [2, 2, 1]])),
        (Scribble(OUTLINE), Scribble(OUTLINE)),
        (Lasso(OUTLINE), Lasso(OUTLINE)),
        (Mask(np.eye(4)[:, :, None] > 0, corner=(0, 0, 1)), Mask(np.eye(4)[:, :, None] > 0, corner=(0, 0, 1))),
    ],
    ids=lambda one: one.kind,
)
def test_an_interaction_is_turned_round_by_one_of_its_kind_at_the_same_voxels(one, other):
    other_off = replace(other, positive=False)
    assert is_turned(one, other_off, SHAPE) and is_turned(other_off, one, SHAPE)
    assert not is_turned(one, other, SHAPE) and not is_turned(Point((0, 0, 0)), other_off, SHAPE)


def test_what_is_asked_follows_from_the_dimension():
    given = [Point((0, 0, 1)), Box([[0, 0, 3], [2, 2, 3]])]
    assert scopes_of(given, 3, 1, SHAPE) == [(1, None)]
    assert scopes_of(given, 2, 2, SHAPE) == [(2, 1), (2, 3)]
    with pytest.raises(PromptError, match="the box covers slices 0 to 2; a 2D prompt needs one slice"):
        scopes_of(given, 2, 0, SHAPE)
