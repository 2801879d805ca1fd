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
POINTS = st.lists(st.tuples(st.integers(0, 1), st.just(0), st.integers(0, 2)), max_size=5)


def points(voxels) -> tuple[Point, ...]:
    return tuple(Point(voxel) for voxel in voxels)


def voxels(one: SegmentedObject) -> list:
    return [point.voxel for point in one.interactions]


@given(POINTS, POINTS, st.sampled_from([None, 0, 1]))
def test_after_the_events_the_scope_has_what_was_sent_and_others_have_what_they_had(had, sent, index):
    one = SegmentedObject(1, "a", 1, (0, 0, 0), interactions=points(had))
    sent = [voxel for voxel in sent if index in (None, voxel[2])]
    found = edits(one, (2, index), points(sent), SHAPE)
    for event in found:
        one = event.changed(one, SHAPE)
    assert [v for v in voxels(one) if index in (None, v[2])] == sent
    assert [v for v in voxels(one) if index not in (None, v[2])] == [v for v in had if index not in (None, v[2])]


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
    one = SegmentedObject(1, "a", 1, (0, 0, 0), interactions=points(at[c] for c in had))
    assert [event.kind for event in edits(one, (2, None), points(at[c] for c in sent), SHAPE)] == kinds


def test_what_is_asked_follows_from_the_dimension():
    given = [Point((0, 0, 1)), Box([[0, 0, 3], [2, 2, 3]])]
    assert scopes_of(given, 3, 1, SHAPE) == [(1, None)]
    assert scopes_of(given, 2, 2, SHAPE) == [(2, 1), (2, 3)]
    with pytest.raises(PromptError, match="the box covers slices 0 to 2; a 2D prompt needs one slice"):
        scopes_of(given, 2, 0, SHAPE)
