"""Interactions say the same after a way through JSON, and refuse what does not fit."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bundle.errors import PromptError
from bundle.prompts.interaction_json import interaction_from_json
from bundle.prompts.interactions import Box, Lasso, Mask, Point, Scribble
from bundle.prompts.prompts import ObjectPrompts
from bundle.transforms.frames import nearest_index

SHAPE = (10, 20, 30)
POSITION = st.tuples(*(st.floats(0, size - 1) for size in SHAPE)).map(list)
LINE = st.lists(POSITION, min_size=1, max_size=6)
KINDS = st.one_of(
    st.builds(Point, POSITION),
    st.builds(Box, st.lists(POSITION, min_size=2, max_size=2)),
    st.builds(Scribble, LINE, positive=st.booleans()),
    st.builds(
        Lasso, st.lists(POSITION, min_size=3, max_size=6).map(lambda line: [[i, j, line[0][2]] for i, j, _ in line])
    ),
    st.builds(Mask, arrays(bool, SHAPE).filter(np.any)),
)


@given(KINDS)
def test_an_interaction_says_the_same_after_a_way_through_json(interaction):
    valid = interaction.validated(SHAPE)
    again = interaction_from_json(json.loads(json.dumps(valid.to_json())), "this").validated(SHAPE)
    assert again.same(valid)
    assert again.positive == interaction.positive


@given(KINDS, st.booleans(), st.data())
def test_what_is_marked_in_a_part_is_what_it_names_there_and_all_that_a_box_takes_off(interaction, positive, data):
    valid = replace(interaction, positive=positive).validated(SHAPE)
    whole, expected = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    valid.mark(whole, SHAPE)
    if not isinstance(valid, Box):
        expected[tuple(valid.named_voxels(SHAPE).T)] = True
    elif not positive:
        low, high = nearest_index(valid.corners, SHAPE)
        expected[tuple(map(slice, low, high + 1))] = True
    assert np.array_equal(whole, expected)
    first = [data.draw(st.integers(0, size - 1)) for size in SHAPE]
    part = whole[tuple(slice(index, index + 7) for index in first)]
    again = np.zeros_like(part)
    valid.mark(again, SHAPE, first)
    assert np.array_equal(again, part)


@given(KINDS, KINDS)
def test_two_interactions_are_the_same_only_if_they_say_the_same(one, other):
    assert one.same(other) == (one.to_json() == other.to_json())


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ([], "this must be a JSON object"),
        ({"kind": "circle"}, 'needs a "kind", one of point, box, scribble, lasso, mask'),
        ({"kind": ["point"]}, 'needs a "kind"'),
        ({"kind": "point", "voxel": [1, 2, 3], "positive": 1}, "must be true or false"),
        ({"kind": "point"}, "needs 'voxel'"),
        ({"kind": "point", "voxel": [1, 2, 3], "size": 4}, "unknown key 'size'"),
        ({"kind": "box", "corners": [[1, 2], [3, 4, 5]]}, "rows of 3 numbers"),
        ({"kind": "scribble", "path": [[1, 2, float("inf")]]}, "finite"),
        ({"kind": "mask", "shape": [2, 2, -1], "bits": ""}, "three whole numbers above 0"),
        ({"kind": "mask", "shape": [4000, 4000, 4000], "bits": ""}, "at most"),
        ({"kind": "mask", "shape": [2, 2, 2], "bits": "?"}, "zlib in base64"),
        ({"kind": "mask", "shape": [2, 2, 20], "bits": Mask(np.ones((2, 2, 2))).to_json()["bits"]}, "10 bytes"),
    ],
)
def test_json_of_anybody_is_refused_with_the_key_that_is_wrong(entry, message):
    with pytest.raises(PromptError, match=message):
        interaction_from_json(entry, "this")


@pytest.mark.parametrize(
    ("interaction", "message"),
    [
        (Scribble(np.zeros((0, 3))), "at least 1"),
        (Scribble([[1, 1, 1], [99, 1, 1]]), "outside the volume"),
        (Lasso([[1, 1, 1], [2, 2, 1]]), "at least 3"),
        (Lasso([[1, 1, 1], [2, 2, 2], [3, 3, 3]]), "must lie on one slice"),
        (Mask(np.ones((2, 2, 2))), "must have .10, 20, 30. voxels"),
        (Mask(np.zeros(SHAPE)), "is empty"),
        (
            Mask(np.ones((4, 4, 2)), corner=(-2, 3, 3)),
            r"must lie in .10, 20, 30. voxels, got .4, 4, 2. from .-2, 3, 3.",
        ),
        (Mask(np.ones((4, 4, 2)), corner=(7, 3, 3)), r"from .7, 3, 3. on"),
        (Mask(np.ones((4, 4, 2)), corner=(3, 3)), "must be three whole numbers"),
        (Mask(np.ones((4, 4, 2)), corner=(1.5, 3, 3)), "must be three whole numbers"),
    ],
)
def test_an_interaction_that_does_not_fit_the_volume_says_why(interaction, message):
    with pytest.raises(PromptError, match=message):
        interaction.validated(SHAPE)


def test_a_lasso_between_two_slices_lies_on_one():
    lasso = Lasso([[1, 1, 4.4], [5, 1, 4.3], [5, 5, 4.2]]).validated(SHAPE)
    assert (lasso.axis, lasso.outline[:, 2].tolist()) == (2, [4, 4, 4])


def test_points_and_box_are_interactions_in_their_order():
    prompts = ObjectPrompts([Scribble([[1, 1, 1]])], points=[[1, 2, 3]], point_labels=[0], box=[[0, 0, 0], [4, 4, 4]])
    assert [one.kind for one in prompts.interactions] == ["scribble", "box", "point"]
    assert prompts.with_points([[2, 2, 2]], [1]).point_labels.tolist() == [0, 1]
