"""Prompts in voxel index and the prompts file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.prompts.prompts import ObjectPrompts, PromptError, read_prompts
from bundle.transforms.frames import SliceFrame

SHAPE = (10, 20, 30)


def test_corners_are_put_in_order_and_clipped():
    box = ObjectPrompts(box=np.array([[9, 25, 3], [-2, 4, 12]])).validated(SHAPE).box
    np.testing.assert_array_equal(box, [[0, 4, 3], [9, 19, 12]])


@given(st.tuples(*[st.sampled_from([-0.5, 0.0, 4.5, 8.5, "last", "edge"])] * 3))
def test_a_point_or_box_in_the_outer_half_of_a_voxel_at_the_border_lies_in_the_volume(place):
    point = [{"last": size - 1.0, "edge": size - 0.5}.get(p, p) for p, size in zip(place, SHAPE, strict=True)]
    prompts = ObjectPrompts(points=[point], point_labels=[1], box=np.array([point, point])).validated(SHAPE)
    for axis in range(3):
        frame = SliceFrame.along(SHAPE, np.eye(4), axis)
        ((index,), (low, high)) = (frame.to_pixels(where)[1] for where in (prompts.points, prompts.box))
        assert 0 <= index < frame.depth
        assert abs(index - point[axis]) <= 0.5
        assert low == high == index


@pytest.mark.parametrize("beyond", [[-0.51, 0, 0], [0, 19.51, 0], [0, 0, 29.51]])
def test_a_point_beyond_the_border_does_not(beyond):
    with pytest.raises(PromptError, match="outside"):
        ObjectPrompts(points=[beyond], point_labels=[1]).validated(SHAPE)
    with pytest.raises(PromptError, match="does not meet"):
        ObjectPrompts(box=np.array([beyond, beyond])).validated(SHAPE)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (dict(), "no prompt for 'object'"),
        (dict(points=[[1, 2, 3]], point_labels=[0]), "only background points"),
        (dict(points=[[1, 2, 3]], point_labels=[1, 1]), "1 points and 2 labels"),
        (dict(points=[[1, 2, 3]], point_labels=[7]), "must be 1 .object. or 0"),
        (dict(points=[[1, 2, 30]], point_labels=[1]), "lies outside the volume"),
        (dict(points=[[1, 2, float("nan")]], point_labels=[1]), "finite numbers"),
        (dict(points=[["a", 2, 3]], point_labels=[1]), "rows of 3 numbers"),
        (dict(box=np.array([[50, 0, 0], [60, 1, 1]])), "does not meet the volume"),
        (dict(box=np.array([[0, 0, 0]])), "two corners"),
    ],
)
def test_a_prompt_that_cannot_be_used_says_why(prompts, message):
    with pytest.raises(PromptError, match=message):
        ObjectPrompts(**prompts).validated(SHAPE)


def write(tmp_path, content):
    path = tmp_path / "prompts.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_prompts_file_gives_one_object_each(tmp_path):
    path = write(
        tmp_path,
        {"objects": [{"name": "liver", "box": [[0, 0, 5], [3, 4, 5]]}, {"points": [[1, 2, 3]], "label": 7}]},
    )
    liver, other = read_prompts(path)
    assert (liver.name, liver.label, other.label) == ("liver", 1, 7)
    assert other.validated(SHAPE).point_labels.tolist() == [1]


def test_objects_of_one_name_are_told_apart_by_their_labels(tmp_path):
    entries = [{"name": "lesion", "points": [[1, 2, 3]]}, {"name": "liver"}, {"name": "lesion"}, {"name": None}]
    found = read_prompts(write(tmp_path, {"objects": entries}))
    assert [prompt.name for prompt in found] == ["lesion (1)", "liver", "lesion (3)", "object 4"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ([], "must hold one JSON object, got a list"),
        ({"objects": []}, "at least one object"),
        ({"objects": [{"bx": 1}]}, "unknown key 'bx'"),
        ({"objects": [{"label": 0}]}, r"at least 1 .*, got 0"),
        ({"objects": [{"label": 2**32}]}, r"below 2\*\*32, got 4294967296"),
        ({"objects": [{"label": 2}, {"label": 2}]}, "same label"),
        ({"objects": ["liver"]}, "must be a JSON object"),
        ("[" * 100_000, "nested too deep"),
        ({"objects": [{"points": [[10**400, 0, 0]]}]}, "points of object 1 must be rows of 3 numbers"),
        *[
            (
                {"objects": [{"points": [[1, 2, 3]], "point_labels": wrong}]},
                "point_labels of object 1 must be a list of 1",
            )
            for wrong in ([1, [0]], 1, ["1"], [2], [True], {"a": 1}, None)
        ],
    ],
)
def test_a_wrong_prompts_file_says_what_is_wrong(tmp_path, content, message):
    with pytest.raises(PromptError, match=message):
        read_prompts(write(tmp_path, content))


def test_a_missing_prompts_file_is_named(tmp_path):
    with pytest.raises(PromptError, match=r"nowhere\.json cannot be read"):
        read_prompts(tmp_path / "nowhere.json")


# ---- outside of the volume ------------------------------------------------------------------------------------------

AFFINE = np.array([[-2.0, 0, 0, 100], [0, -2, 0, 60], [0, 0, 5, -700], [0, 0, 0, 1]])


def test_a_box_that_leaves_the_volume_is_clipped_and_says_so(caplog):
    ObjectPrompts(box=np.array([[2, 2, 3], [9, 30, 12]]), name="liver").validated(SHAPE)
    (record,) = caplog.records
    said = record.getMessage()
    assert "'liver' leaves the volume of (10, 20, 30) voxels" in said
    assert "[[2.0, 2.0, 3.0], [9.0, 30.0, 12.0]] was clipped to [[2.0, 2.0, 3.0], [9.0, 19.0, 12.0]]" in said


def test_a_box_inside_says_nothing(caplog):
    ObjectPrompts(box=np.array([[9, 19, 29], [0, 0, 0]])).validated(SHAPE)
    assert not caplog.records


def test_a_box_without_a_voxel_inside_is_refused():
    for box in ([[10, 0, 0], [12, 5, 5]], [[-5, 0, 0], [-1, 5, 5]]):
        with pytest.raises(PromptError, match="does not meet the volume"):
            ObjectPrompts(box=np.array(box)).validated(SHAPE)


@pytest.mark.parametrize(("system", "signs"), [("RAS", (1, 1, 1)), ("LPS", (-1, -1, 1))])
def test_coordinates_in_millimetres_are_named_as_such(system, signs):
    voxel = np.array([4.0, 7.0, 21.0])
    there = (AFFINE[:3, :3] @ voxel + AFFINE[:3, 3]) * signs
    with pytest.raises(PromptError, match=rf"as millimetres \({system}\) .* voxel indices, here \[4.0, 7.0, 21.0\]"):
        ObjectPrompts(points=[there], point_labels=[1]).validated(SHAPE, affine=AFFINE)
    with pytest.raises(PromptError, match=rf"as millimetres \({system}\)"):
        ObjectPrompts(box=np.stack([there, there])).validated(SHAPE, affine=AFFINE)


def test_coordinates_that_lie_nowhere_are_not_taken_for_millimetres():
    with pytest.raises(PromptError, match="move it inside"):
        ObjectPrompts(points=[[5000, 0, 0]], point_labels=[1]).validated(SHAPE, affine=AFFINE)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_of_any_editor_is_read(encoding, tmp_path):
    path = tmp_path / "p.json"
    path.write_bytes('{"objects": [{"name": "Bäll", "points": [[1, 2, 3]]}]}'.encode(encoding))
    assert read_prompts(path)[0].name == "Bäll"


def test_a_prompts_file_takes_any_interaction_behind_box_and_points(tmp_path):
    entry = {
        "points": [[1, 2, 3]],
        "interactions": [{"kind": "scribble", "path": [[1, 2, 3], [4, 2, 3]], "positive": False}],
    }
    (prompts,) = read_prompts(write(tmp_path, {"objects": [entry]}))
    assert [(one.kind, one.positive) for one in prompts.interactions] == [("point", True), ("scribble", False)]


def test_interactions_on_a_picture_may_be_pairs(tmp_path):
    entries = [{"kind": "point", "voxel": [1, 2]}, {"kind": "lasso", "outline": [[1, 1], [5, 1], [5, 5]]}]
    path = write(tmp_path, {"objects": [{"interactions": entries}]})
    point, lasso = read_prompts(path, picture=True)[0].interactions
    assert point.voxel.tolist() == [1, 2, 0] and lasso.outline[:, 2].tolist() == [0, 0, 0]
    with pytest.raises(PromptError, match="interaction 1 of object 1 must be rows of 3 indices"):
        read_prompts(path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [({}, "must be a list"), ([3], "interaction 1 of object 1 must be a JSON object"), ([{"kind": "x"}], "kind")],
)
def test_wrong_interactions_of_a_prompts_file_are_named(tmp_path, entries, message):
    with pytest.raises(PromptError, match=message):
        read_prompts(write(tmp_path, {"objects": [{"interactions": entries}]}))
