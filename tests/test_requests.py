"""Every client's dialect means the same prompts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.data.limits import LIMITS
from bundle.prompts.interactions import Mask
from bundle.prompts.prompts import PromptError
from monailabel_app.errors import RequestError
from monailabel_app.wire import fields as wire
from monailabel_app.wire.fields import ReplyFormat, read_flag
from monailabel_app.wire.requests import ClickRequest, read_request

SHAPE = (40, 30, 20)
IDENTITY = np.eye(4)
indices = st.tuples(*(st.integers(0, size - 1) for size in SHAPE))


def read(params: dict, *, dimension: int = 3, axis: int = 2, shape=SHAPE, affine=IDENTITY, names=()) -> ClickRequest:
    return read_request(params, shape=shape, affine=affine, dimension=dimension, axis=axis, names=names)


def only(request: ClickRequest):
    (prompts,) = request.objects
    return prompts


# ---- points ---------------------------------------------------------------------------------------------------------


@given(st.lists(indices, min_size=1, max_size=4), st.lists(indices, max_size=4))
def test_foreground_and_background_become_points_with_labels(foreground, background):
    prompts = only(read({"foreground": foreground, "background": background, "label": "liver"}))
    assert prompts.points.tolist() == [list(map(float, p)) for p in [*foreground, *background]]
    assert prompts.point_labels.tolist() == [1] * len(foreground) + [0] * len(background)
    assert (prompts.name, prompts.label, prompts.box) == ("liver", 1, None)


@given(st.lists(indices, min_size=1, max_size=4))
def test_numbers_may_be_text_and_lists_may_be_json_text(points):
    plain = only(read({"foreground": points})).points
    assert np.array_equal(only(read({"foreground": [[str(n) for n in p] for p in points]})).points, plain)
    assert np.array_equal(only(read({"foreground": str([list(p) for p in points])})).points, plain)


def test_points_with_point_labels_are_the_vista3d_dialect():
    prompts = only(read({"points": [[1, 2, 3], [4, 5, 6], [0, 0, 0]], "point_labels": [1, 0, -1], "label_prompt": [3]}))
    assert prompts.points.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert prompts.point_labels.tolist() == [1, 0]


def test_deepedit_names_each_label_and_shares_the_background():
    params = {"spleen": [[1, 2, 3]], "liver": [[4, 5, 6]], "background": [[7, 8, 9]], "label": "liver", "aorta": []}
    request = read(params, names=["liver", "spleen", "aorta"])
    assert [(p.name, p.label) for p in request.objects] == [("liver", 1), ("spleen", 2)]
    assert request.objects[1].points.tolist() == [[1, 2, 3], [7, 8, 9]]
    assert request.objects[1].point_labels.tolist() == [1, 0]


def test_clients_are_told_apart_without_their_names():
    given = {"foreground": [[1, 2, 3]]}
    ids = ({}, {"client_id": None}, {"client_id": "anna"}, {"client_id": ["x"]}, {"client_id": "\ud800"})
    none, null, anna, *others = (read(given | client).client for client in ids)
    assert none == null and len({none, anna, *others}) == 4 and "anna" not in anna
    assert read(given | {"client_id": "anna"}).client == anna


def test_a_segment_named_like_a_parameter_is_no_deepedit_key():
    assert only(read({"label": "roi", "roi": [1, 2, 1, 2, 1, 2]})).name == "roi"


def test_as_many_points_are_read_as_the_limit_says_and_no_more():
    most = LIMITS.points
    assert len(only(read({"foreground": [[1, 2, 3]] * (most - 1), "background": [[4, 5, 6]]})).points) == most
    for params in (
        {"foreground": [[1, 2, 3]] * (most + 1)},
        {"foreground": [[1, 2, 3]] * most, "background": [[4, 5, 6]]},
        {"points": [[1, 2, 3]] * most, "point_labels": [1] * most, "foreground": [[4, 5, 6]]},
        {"foreground": str([[1, 2, 3]] * (most + 1))},
        {"spleen": [[1, 2, 3]] * most, "background": [[4, 5, 6]]},
    ):
        with pytest.raises(RequestError, match=f"got {most + 1} points, this server takes {most} .*MAX_POINTS"):
            read(params, names=["spleen"])


def test_as_many_objects_are_read_as_the_limit_says_and_no_more():
    names = [f"organ {number}" for number in range(LIMITS.objects + 1)]
    params = {name: [[1, 2, 3]] for name in names[1:]}
    assert len(read(params, names=names).objects) == LIMITS.objects
    with pytest.raises(RequestError, match="MAX_OBJECTS"):
        read(params | {names[0]: [[1, 2, 3]]}, names=names)


# ---- boxes ----------------------------------------------------------------------------------------------------------


@given(indices, indices)
def test_slicers_roi_is_interleaved_and_its_pairs_may_be_reversed(first, second):
    roi = [value for pair in zip(first, second, strict=True) for value in pair]
    box = only(read({"roi": roi})).box
    assert box.tolist() == [list(map(min, zip(first, second))), list(map(max, zip(first, second)))]  # noqa: B905


def test_a_roi_is_clipped_to_the_volume():
    assert only(read({"roi": [-5, 10, 20, 99, 0, 3]})).box.tolist() == [[0, 20, 0], [10, 29, 3]]


def test_cvats_roi_is_two_corners_on_a_picture():
    request = read({"roi": [5, 6, 15, 16], "foreground": [], "background": [[3, 4]]}, dimension=2, shape=(40, 30, 1))
    assert only(request).box.tolist() == [[5, 6, 0], [15, 16, 0]]
    assert only(request).points.tolist() == [[3, 4, 0]]


def test_a_roi_of_four_numbers_in_a_volume_lies_on_the_slice_that_is_shown():
    assert only(read({"roi": [5, 6, 15, 16], "slice": 7})).box.tolist() == [[5, 6, 7], [15, 16, 7]]
    with pytest.raises(RequestError, match='send "slice"'):
        read({"roi": [5, 6, 15, 16]})


# ---- the slice of a 2D request --------------------------------------------------------------------------------------


def test_a_2d_request_keeps_the_points_of_the_slice_that_is_shown():
    request = read({"foreground": [[1, 1, 4], [2, 2, 5]], "background": [[3, 3, 5]], "slice": 4}, dimension=2)
    assert request.index == 4
    assert only(request).points.tolist() == [[1, 1, 4]]


def test_without_a_shown_slice_the_last_foreground_point_decides():
    request = read({"foreground": [[1, 1, 4], [2, 2, 5]], "background": [[3, 3, 6]], "slice": None}, dimension=2)
    assert request.index == 5


@pytest.mark.parametrize("k", [8.5, 2.5, 3.5, -0.5, 19.5])
@pytest.mark.parametrize("offset", [None, 0, 1])
def test_prompts_between_two_slices_are_answered_on_one_of_them_and_on_the_one_shown(k, offset):
    depth = SHAPE[2]
    on = [index for index in (int(np.floor(k)), int(np.ceil(k))) if 0 <= index < depth]
    shown = None if offset is None else on[min(offset, len(on) - 1)]
    params = {"foreground": [[5, 5, k]], "roi": [0, 9, 0, 9, k, k], "slice": shown}
    request = read(params, dimension=2)
    assert request.index == (on[-1] if shown is None else shown)
    assert only(request).points.tolist() == [[5, 5, request.index]]
    assert only(request).box[:, 2].tolist() == [request.index] * 2
    assert read(params | {"slice": None}, dimension=3).index is None


def test_a_2d_request_flattens_the_roi_onto_the_slice_of_its_points():
    request = read({"foreground": [[5, 5, 6]], "roi": [0, 9, 0, 9, 2, 8], "slice": 6}, dimension=2)
    assert only(request).box.tolist() == [[0, 0, 6], [9, 9, 6]]


def test_a_roi_of_other_slices_says_nothing_about_a_click():
    assert only(read({"foreground": [[5, 5, 15]], "roi": [0, 9, 0, 9, 2, 8], "slice": 15}, dimension=2)).box is None


def test_a_roi_of_one_slice_decides_whatever_slice_says():
    assert read({"roi": [0, 9, 0, 9, 3, 3], "slice": 17}, dimension=2).index == 3


def test_with_a_thick_roi_alone_slicers_number_is_read_as_millimetres():
    affine = np.diag([-1.0, -1.0, 5.0, 1.0])
    affine[2, 3] = -300.0  # slice k lies at 5 k - 300 mm
    roi = [0, 9, 0, 9, 2, 12]
    assert read({"roi": roi, "slice": 250, "client_id": "user-xyz"}, dimension=2, affine=affine).index == 10
    assert read({"roi": roi, "slice": 999, "client_id": "user-xyz"}, dimension=2, affine=affine).index == 7


def test_with_a_thick_roi_alone_a_scripts_number_is_read_as_an_index():
    assert read({"roi": [0, 9, 0, 9, 2, 12], "slice": 11}, dimension=2, affine=np.diag([1, 1, 2.0, 1])).index == 11


def test_a_height_on_both_sides_of_the_origin_is_no_answer():
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    affine[2, 3] = -50.0  # k 8 and k 12 are both 10 mm away
    params = {"roi": [0, 9, 0, 9, 6, 14], "slice": 10, "client_id": "user-xyz"}
    assert read(params, dimension=2, affine=affine).index == 10


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "no prompt"),
        ({"foreground": [], "background": [], "roi": []}, "no prompt"),
        ({"foreground": [[1, 1, 99]]}, "outside the volume"),
        ({"foreground": [[-1, 1, 1]]}, "outside the volume"),
        ({"foreground": [[1, float("nan"), 1]]}, "finite"),
        ({"foreground": [["1", "nan", "1"]]}, "finite"),
        ({"foreground": [[10**400, 1, 1]]}, "list of numbers"),
        ({"foreground": "liver"}, "list of numbers"),
        ({"foreground": {"i": 1}}, "list of numbers"),
        ({"foreground": [[1, 2, 3], [1, 2]]}, "list of numbers"),
        ({"foreground": [1, 2, 3]}, r"list of \[i, j, k\]"),
        ({"foreground": [[1, 2, 3, 4]]}, r"list of \[i, j, k\]"),
        ({"foreground": [[1, 2]]}, 'send "slice"'),
        ({"roi": [1, 2, 3, 4, 5]}, "roi must be"),
        ({"roi": [[1, 2], [3, 4]]}, "roi must be"),
        ({"roi": [1, 2, 3, 4, 5, float("inf")]}, "finite"),
        ({"roi": [100, 120, 3, 4, 5, 6]}, "does not meet"),
        ({"roi": [1, 2, 3, 4, 50, 60]}, "does not meet"),
        ({"points": [[1, 2, 3]], "point_labels": [1, 0]}, "point_labels"),
        ({"points": [[1, 2, 3]], "point_labels": [2]}, "point_labels"),
        ({"foreground": [[1, 2, 3]], "slice": "first"}, "slice must be"),
        ({"foreground": [[1, 2, 3]], "slice": 1.5}, "slice must be"),
        ({"foreground": [[1, 2, 3]], "reset_state": "maybe"}, "reset_state must be"),
        ({"foreground": "[" * 100_000}, "list of numbers"),
    ],
)
@pytest.mark.parametrize("dimension", [2, 3])
def test_what_cannot_be_used_is_refused_with_a_reason(params, message, dimension):
    with pytest.raises((RequestError, PromptError), match=message):
        read(params, dimension=dimension)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)
keys = ["foreground", "background", "points", "point_labels", "roi", "slice", "label", "reset_state", "client_id"]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(keys), json_values, max_size=5), st.sampled_from([2, 3]))
def test_whatever_json_comes_there_is_an_answer_or_a_reason(params, dimension):
    try:
        request = read(params, dimension=dimension)
    except (RequestError, PromptError) as error:
        assert str(error)
    else:
        assert all(prompts.interactions for prompts in request.objects)


# ---- the form of the reply ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "image", "extension"),
    [
        ({"result_extension": ".nrrd"}, "a.nii.gz", ".nrrd"),
        ({"result_extension": "nii.gz"}, "a.nrrd", ".nii.gz"),
        ({}, "post_from_mitk.nii.gz", ".nii.gz"),
        ({}, "frame.jpg", ".png"),
        ({}, "a.mha", ".nrrd"),
        ({}, "dicom-folder", ".nrrd"),
    ],
)
def test_the_file_has_the_ending_asked_for_or_one_that_suits_the_image(params, image, extension):
    assert ReplyFormat.of(params, Path(image)).extension == extension


def test_type_and_compression_are_obeyed():
    form = ReplyFormat.of({"result_dtype": "uint16", "result_compress": "false"}, Path("a.nrrd"))
    assert (form.dtype, form.compress) == (np.uint16, False)


@pytest.mark.parametrize(
    "params", [{"result_extension": ".exe"}, {"result_dtype": "float32"}, {"result_dtype": ["uint8"]}]
)
def test_a_file_that_cannot_be_written_is_refused(params):
    with pytest.raises(RequestError, match="must be one of"):
        ReplyFormat.of(params | {"result_extension": params.get("result_extension", ".nrrd")}, Path("a.nrrd"))


def test_a_modality_is_one_of_three_words():
    assert [wire.read_modality({"modality": value}) for value in ("CT", None, "")] == ["CT", None, None]
    with pytest.raises(RequestError, match="CT, other, windowed"):
        wire.read_modality({"modality": "MR"})


def test_switches_may_be_text():
    texts = {"a": True, "b": "True", "c": 1, "d": "false", "e": None, "f": 0}
    assert [read_flag(texts, name) for name in "abcdefg"] == [True, True, True, False, False, False, False]


def test_the_protocol_page_names_every_parameter_and_field(repository):
    page = (repository / "docs" / "protocol.md").read_text()
    names = [value for name, value in vars(wire).items() if name.isupper() and isinstance(value, str)]
    inner = {wire.IMAGE_KEY, wire.PAINTED, wire.USER}  # what the server says and no client
    assert [name for name in {*names, *wire.EXTENSIONS, *wire.DTYPES} - inner if f"`{name}`" not in page] == []


# ---- interactions ---------------------------------------------------------------------------------------------------

SCRIBBLE = {"kind": "scribble", "path": [[3, 4, 5], [6, 4, 5], [6, 4, 8]]}
LASSO = {"kind": "lasso", "outline": [[1, 1, 5], [9, 1, 5], [9, 9, 5]], "positive": False}


@pytest.mark.parametrize("as_text", [False, True])
def test_interactions_come_in_their_order_behind_points_and_roi(as_text):
    entries = [SCRIBBLE, LASSO]
    params = {"interactions": json.dumps(entries) if as_text else entries, "foreground": [[1, 2, 3]], "label": "liver"}
    prompts = only(read(params | {"roi": [0, 9, 0, 9, 3, 8]}))
    assert [one.kind for one in prompts.interactions] == ["box", "point", "scribble", "lasso"]
    assert prompts.name == "liver" and not prompts.interactions[-1].positive
    assert prompts.count_kinds() == {"box": 1, "point": 1, "scribble": 1, "lasso": 1}


@pytest.mark.parametrize("dimension", [2, 3])
def test_what_lies_off_the_object_alone_is_read_since_it_may_have_a_mask_already(dimension):
    assert only(read({"background": [[1, 1, 5]]}, dimension=dimension)).point_labels.tolist() == [0]
    (lasso,) = only(read({"interactions": [LASSO]}, dimension=dimension)).interactions
    assert lasso.kind == "lasso" and not lasso.positive


def test_in_2d_a_slice_takes_of_each_interaction_what_lies_on_it():
    request = read({"interactions": [SCRIBBLE, LASSO], "slice": 7}, dimension=2)
    (line,) = only(request).interactions
    assert request.index == 7 and line.kind == "scribble" and (line.path == [6, 4, 7]).all()
    first = read({"interactions": [SCRIBBLE, LASSO], "slice": 5}, dimension=2)
    assert first.index == 5 and [one.kind for one in only(first).interactions] == ["scribble", "lasso"]


def test_a_mask_of_several_slices_asks_in_2d_for_the_one_shown():
    mask = Mask(np.ones(SHAPE, bool)).to_json()
    request = read({"interactions": [mask], "slice": 4}, dimension=2)
    (only_here,) = only(request).interactions
    assert request.index == 4 and np.unique(only_here.named_voxels(SHAPE)[:, 2]).tolist() == [4]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("[", "must be JSON"),
        ({"kind": "point"}, "must be a list of interactions"),
        ([{"kind": "point", "voxel": [1, 2]}], "rows of 3 numbers"),
        ([{"kind": "oval"}], 'interactions 1 needs a "kind"'),
        ([SCRIBBLE | {"path": [[1, 2, 3]] * (LIMITS.positions + 1)}], "20001 positions, this server takes 20000"),
        ([SCRIBBLE, SCRIBBLE] * LIMITS.points, "1000 points, this server takes 500"),
        ([{"kind": "mask", "shape": [4000, 4000, 4000], "bits": ""}], "at most 268435456 are taken"),
        ([SCRIBBLE | {"path": [[1, 2, 99]]}], "outside the volume"),
    ],
)
def test_interactions_that_cannot_be_used_are_refused(entries, message):
    with pytest.raises((RequestError, PromptError), match=message):
        read({"interactions": entries})


def test_all_masks_of_a_request_share_one_limit(monkeypatch):
    monkeypatch.setattr("monailabel_app.wire.requests.LIMITS", replace(LIMITS, mask_voxels=30_000))
    mask = Mask(np.ones(SHAPE, bool)).to_json()  # 24,000 voxels
    assert only(read({"interactions": [mask]})).interactions
    with pytest.raises(PromptError, match="interactions 2 has 24000 voxels, at most 6000 are taken"):
        read({"interactions": [mask, mask]})
