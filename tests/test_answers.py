"""What requests of all prompts become as events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.errors import PromptError
from bundle.interactive.answers import edits, scopes_of
from bundle.interactive.objects import SegmentedObject
from bundle.prompts.interactions import Box, Point

SHAPE = (4, 4, 4)
CLIENTS = st.sampled_from([None, "slicer", "ohif"])
POINTS = st.lists(st.tuples(st.integers(0, 1), st.just(0), st.integers(0, 2)), max_size=5)


def points(voxels) -> tuple[Point, ...]:
    return tuple(Point(voxel) for voxel in voxels)


def voxels(one: SegmentedObject) -> list:
    return [point.voxel for point in one.interactions]


@given(POINTS, POINTS, st.sampled_from([None, 0, 1]), CLIENTS, st.data())
def test_after_the_events_the_scope_has_what_was_sent_and_others_have_what_they_had(had, sent, index, client, data):
    """Others: other slices, and other clients where one says who it is; nobody knows who placed what has no client."""
    by = data.draw(st.lists(CLIENTS, min_size=len(had), max_size=len(had)))
    one = SegmentedObject(1, "a", 1, (0, 0, 0), interactions=points(had), placed_by=tuple(by))
    sent = [voxel for voxel in sent if index in (None, voxel[2])]

    def split(placed) -> tuple[list, list]:
        """The voxels that the list is about, and with their clients those that it is not."""
        about = [(v, c) for v, c in placed if index in (None, v[2]) and (client is None or c in (client, None))]
        return [v for v, _ in about], [entry for entry in placed if entry not in about]

    _, others = split([*zip(had, by, strict=True)])
    for event in edits(one, (2, index), points(sent), SHAPE, client):
        one = event.changed(one, SHAPE)
    assert split([*zip(voxels(one), one.placed_by, strict=True)]) == (sent, others)


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
    one = SegmentedObject(1, "a", 1, (0, 0, 0), interactions=points(at[c] for c in had), placed_by=(None,) * len(had))
    assert [event.kind for event in edits(one, (2, None), points(at[c] for c in sent), SHAPE)] == kinds


def test_what_a_client_moves_or_adds_is_its_own_from_then_on():
    one = SegmentedObject(1, "a", 1, (0, 0, 0), interactions=points([(0, 0, 0), (1, 0, 0)]), placed_by=(None, "ohif"))
    for event in edits(one, (2, None), points([(2, 0, 0), (3, 0, 0)]), SHAPE, "slicer"):
        one = event.changed(one, SHAPE)
    assert dict(zip(voxels(one), one.placed_by, strict=True)) == {
        (2, 0, 0): "slicer",  # nobody's, and moved
        (1, 0, 0): "ohif",
        (3, 0, 0): "slicer",
    }


def test_what_is_asked_follows_from_the_dimension():
    given = [Point((0, 0, 1)), Box([[0, 0, 3], [2, 2, 3]])]
    assert scopes_of(given, 3, 1, SHAPE) == [(1, None)]
    assert scopes_of(given, 2, 2, SHAPE) == [(2, 1), (2, 3)]
    with pytest.raises(PromptError, match="the box covers slices 0 to 2; a 2D prompt needs one slice"):
        scopes_of(given, 2, 0, SHAPE)
