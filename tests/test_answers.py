"""What requests of all prompts become as events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.errors import PromptError
from bundle.interactive.answers import edits, scopes_of
from bundle.interactive.objects import Placed, SegmentedObject
from bundle.prompts.interactions import Box, Point

SHAPE = (4, 4, 4)
CLIENTS = st.sampled_from([None, "slicer", "ohif"])
PLACED = st.builds(Placed, CLIENTS, st.sampled_from([None, 0, 2]))
POINTS = st.lists(st.tuples(st.integers(0, 1), st.just(0), st.integers(0, 2)), max_size=5)


def points(voxels) -> tuple[Point, ...]:
    return tuple(Point(voxel) for voxel in voxels)


def voxels(one: SegmentedObject) -> list:
    return [point.voxel for point in one.interactions]


@given(POINTS, POINTS, st.sampled_from([None, 0, 1]), CLIENTS, st.data())
def test_after_the_events_the_scope_has_what_was_sent_and_others_have_what_they_had(had, sent, index, client, data):
    """Others: other slices, what was placed on those of other planes, and other clients where one says who it is;
    nobody knows who placed what has no client, and on which plane what has no axis.
    """
    by = data.draw(st.lists(PLACED, min_size=len(had), max_size=len(had)))
    one = SegmentedObject(1, "a", 1, (0, 0, 0), interactions=points(had), placed=tuple(by))
    sent = [voxel for voxel in sent if index in (None, voxel[2])]

    def is_own(voxel, placed) -> bool:
        return index in (None, voxel[2]) and (client is None or placed.client in (client, None))

    def split(now) -> tuple[list, list]:
        """The voxels that the list is about, and those that it is not with where they came from."""
        about = [(v, by) for v, by in now if is_own(v, by) and (index is None or by.axis in (2, None))]
        return [v for v, _ in about], [entry for entry in now if entry not in about]

    _, others = split([*zip(had, by, strict=True)])
    crossing = {voxel for voxel, placed in others if is_own(voxel, placed)}  # a list may name them, and need not
    for event in edits(one, (2, index), points(sent), SHAPE, client):
        one = event.changed(one, SHAPE)
    expected = [voxel for voxel in sent if voxel not in crossing]
    assert split([*zip(voxels(one), one.placed, strict=True)]) == (expected, others)


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
        (1, 0, 0): ("ohif", None),
        (3, 0, 0): ("slicer", 2),
    }


def test_what_is_asked_follows_from_the_dimension():
    given = [Point((0, 0, 1)), Box([[0, 0, 3], [2, 2, 3]])]
    assert scopes_of(given, 3, 1, SHAPE) == [(1, None)]
    assert scopes_of(given, 2, 2, SHAPE) == [(2, 1), (2, 3)]
    with pytest.raises(PromptError, match="the box covers slices 0 to 2; a 2D prompt needs one slice"):
        scopes_of(given, 2, 0, SHAPE)
