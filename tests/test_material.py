"""Accepted labels as a data set: one numbering, split by patient for good, as they were when the training began."""

from __future__ import annotations

import nrrd
import numpy as np
import pytest
from app_room import AFFINE, SHAPE, a_volume
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.data.datasets import msd
from bundle.data.labelled_slices import MIN_PIXELS, read_pool
from bundle.data.splits import check_disjoint
from bundle.data.volume import Volume, read_label, read_volume, write_label, write_volume
from bundle.errors import TrainingError
from bundle.families.family import load_family
from bundle.files import read_json
from monailabel_app.learning.material import (
    held_out_slices,
    renumbered,
    slices_with_objects,
    split_patients,
    write_material,
)


def label_file(path, values):
    """A label map whose slices hold one value each."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:6, 1:6, : len(values)] = values
    write_label(labels, Volume(np.zeros(SHAPE, np.int16), AFFINE), path)
    return str(path)


def accepted(tmp_path, name: str, values, names, patient: str | None = None) -> dict:
    image = a_volume(tmp_path / f"{name}.nii.gz")
    label = label_file(tmp_path / f"{name}-label.nii.gz", values)
    return {"image": str(image), "label": label, "names": names, "patient": patient or name}


def test_every_fifth_patient_is_held_out_beginning_with_the_second(tmp_path):
    sides = split_patients([f"p{n}" for n in range(11)], tmp_path / "split.json")
    assert [name for name, side in sides.items() if side == "validation"] == ["p1", "p5", "p10"]


@settings(max_examples=10)
@given(st.lists(st.integers(0, 30).map(str), min_size=1, max_size=20))
def test_a_patient_never_changes_sides_whoever_comes_or_goes(tmp_path_factory, patients):
    file = tmp_path_factory.mktemp("split") / "split.json"
    seen: dict[str, str] = {}
    for end in range(1, len(patients) + 1):
        sides = split_patients(patients[:end], file)
        assert all(seen.setdefault(name, side) == side for name, side in sides.items())


def test_the_split_names_no_patient(tmp_path):
    split_patients(["Anna Example"], tmp_path / "split.json")
    assert "Anna" not in (tmp_path / "split.json").read_text()


def test_names_get_one_number_whatever_number_each_image_gave_them(tmp_path):
    both = [
        accepted(tmp_path, "a", [1, 1, 2], {"liver": 1, "spleen": 2}),
        accepted(tmp_path, "b", [1, 7, 7], {"spleen": 1, "liver": 7}),
    ]
    content = write_material(both, {"a": "training", "b": "validation"}, tmp_path / "data")
    assert content["labels"] == {"0": "background", "1": "liver", "2": "spleen"} and content["held_out"] == "patients"
    items = msd(tmp_path / "data", datalist="datalist.json")
    found = [np.unique(read_label(item["label"]).array[3, 3]).tolist() for item in items]
    assert found == [[0, 1, 2], [0, 1, 2]]
    assert [read_label(item["label"]).array[3, 3, 0] for item in items] == [1, 2]
    check_disjoint({split: [item for item in items if item["split"] == split] for split in ("training", "validation")})


def test_what_has_no_name_is_not_trained_on():
    assert renumbered(np.array([[[0, 3, 5]]]), {3: 1}).tolist() == [[[0, 1, 0]]]


def test_a_training_that_goes_on_sees_the_labels_that_it_began_with(tmp_path):
    one = accepted(tmp_path, "a", [1, 1, 1], {"liver": 1})
    first = write_material([one], {"a": "training"}, tmp_path / "data")
    label_file(tmp_path / "a-label.nii.gz", [0, 0, 1])
    assert (
        write_material([one], {"a": "training"}, tmp_path / "data")
        == first
        == read_json(tmp_path / "data/datalist.json")
    )
    label = tmp_path / "data" / first["training"][0]["label"]
    assert read_label(label).array[3, 3, 0] == 1
    assert label.stat().st_mode & 0o777 == 0o600


def test_of_an_only_patient_slices_are_held_out_and_none_is_on_both_sides(tmp_path):
    content = write_material([accepted(tmp_path, "a", [1] * 6, {"liver": 1})], {"a": "training"}, tmp_path / "data")
    assert content["held_out"] == "slices"
    sides = [read_label(tmp_path / "data" / content[side][0]["label"]).array for side in ("training", "validation")]
    assert sides[0].any() and sides[1].any() and not (sides[0].any((0, 1)) & sides[1].any((0, 1))).any()


def test_of_many_slices_blocks_are_held_out():
    labels = np.ones((5, 4, 40), np.uint8)
    held = np.flatnonzero(held_out_slices(labels)["validation"].any(axis=(0, 1)))
    assert held.tolist() == list(range(8, 16))


def test_an_empty_label_is_left_out_and_said(tmp_path, caplog):
    both = [accepted(tmp_path, "a", [1] * 6, {"liver": 1}), accepted(tmp_path, "b", [], {"liver": 1})]
    content = write_material(both, {"a": "training", "b": "training"}, tmp_path / "data")
    assert content["accepted"] == len(content["training"]) == 1
    assert "A label shows nothing that has a name" in caplog.text


def test_nothing_but_empty_labels_cannot_train(tmp_path):
    with pytest.raises(TrainingError, match="no accepted label shows anything"):
        write_material([accepted(tmp_path, "a", [], {})], {"a": "training"}, tmp_path / "data")


@pytest.mark.parametrize("pixels", [0, MIN_PIXELS - 1])
def test_where_the_held_out_patient_shows_nothing_to_judge_by_slices_are_held_out_and_the_patient_trains_nothing(
    tmp_path, pixels
):
    both = [accepted(tmp_path, name, [1] * 6, {"liver": 1}) for name in "ab"]
    small = np.zeros(SHAPE, np.uint8)
    small[..., 2].flat[:pixels] = 1
    write_label(small, read_volume(both[1]["image"]), both[1]["label"])
    content = write_material(both, {"a": "training", "b": "validation"}, tmp_path / "data")
    assert content["held_out"] == "slices"
    patients = [[entry["patient"] for entry in content[side]] for side in ("training", "validation")]
    assert patients == [["a"], ["a, held-out slices"]]


def test_a_held_out_patient_trains_where_nobody_else_shows_anything(tmp_path):
    both = [accepted(tmp_path, "a", [], {}), accepted(tmp_path, "b", [1] * 6, {"liver": 1})]
    content = write_material(both, {"a": "training", "b": "validation"}, tmp_path / "data")
    assert [entry["patient"] for entry in content["training"]] == ["b"] and content["held_out"] == "slices"


def test_one_slice_of_one_patient_leaves_nothing_to_judge_by(tmp_path):
    with pytest.raises(TrainingError, match="nothing is left to judge by"):
        write_material([accepted(tmp_path, "a", [0, 1], {"liver": 1})], {"a": "training"}, tmp_path / "data")


# ---- labels that were stored on another grid than their images ------------------------------------------------------


def a_block() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:7, 2:6, 1:5] = 1
    return labels


def stored_plainly(path, labels):
    return write_label(labels, Volume(np.zeros(SHAPE, np.int16), AFFINE), path.with_suffix(".nii.gz"))


def stored_in_another_order(path, labels):
    """Axes (k, j, i), as some programs write them."""
    turned = np.ascontiguousarray(labels.transpose(2, 1, 0))
    grid = Volume(np.zeros(turned.shape, np.int16), AFFINE[:, [2, 1, 0, 3]])
    return write_label(turned, grid, path.with_suffix(".nii.gz"))


def stored_cropped(path, labels):
    """As 3D Slicer stores a segment: its own extent alone, in LPS."""
    first, last = np.argwhere(labels).min(axis=0), np.argwhere(labels).max(axis=0) + 1
    directions = np.diag(np.abs(np.diag(AFFINE)[:3]))
    header = {
        "space": "left-posterior-superior",
        "kinds": ["domain"] * 3,
        "space directions": directions,
        "space origin": directions @ first,
        "Segmentation_MasterRepresentation": "Binary labelmap",
        **{"Segment0_ID": "s", "Segment0_Name": "liver", "Segment0_LabelValue": "1"},
    }
    nrrd.write(str(path := path.with_suffix(".seg.nrrd")), labels[tuple(map(slice, first, last))], header)
    return path


@pytest.mark.parametrize("stored", [stored_plainly, stored_in_another_order, stored_cropped])
def test_a_label_trains_on_the_grid_of_its_image_and_no_slice_of_it_judges_what_trained_on_it(tmp_path, stored):
    one = {"image": str(a_volume(tmp_path / "a.nii.gz")), "names": {"liver": 1}, "patient": "a"}
    one["label"] = str(stored(tmp_path / "label", a_block()))
    content = write_material([one], {"a": "training"}, tmp_path / "data")
    sides = [read_label(tmp_path / "data" / content[side][0]["label"]) for side in ("training", "validation")]
    np.testing.assert_array_equal(sides[0].array + sides[1].array, a_block())
    assert [np.flatnonzero(side.array.any(axis=(0, 1))).tolist() for side in sides] == [[1, 3, 4], [2]]
    np.testing.assert_allclose(sides[0].affine, AFFINE)


def test_a_label_that_does_not_lie_on_its_image_is_left_out_by_its_own_name_and_stops_nobody(tmp_path, caplog):
    both = [accepted(tmp_path, name, [1] * 6, {"liver": 1}) for name in "ab"]
    write_label(np.ones((3, 3, 3), np.uint8), Volume(np.zeros((3, 3, 3), np.int16), AFFINE), both[1]["label"])
    content = write_material(both, dict.fromkeys("ab", "training"), tmp_path / "data")
    assert content["accepted"] == 1
    assert (
        "The label of b.nii.gz is left out: label map" in caplog.text and "b-label.nii.gz has (3, 3, 3)" in caplog.text
    )
    with pytest.raises(TrainingError, match=r"no accepted label .*b-label.nii.gz has \(3, 3, 3\) voxels"):
        write_material(both[1:], {"b": "training"}, tmp_path / "other")


def test_what_only_a_label_that_was_left_out_has_is_not_learnt(tmp_path):
    fits, other = (accepted(tmp_path, name, [1] * 6, {of: 1}) for name, of in (("a", "liver"), ("b", "tumour")))
    write_label(np.ones((3, 3, 3), np.uint8), Volume(np.zeros((3, 3, 3), np.int16), AFFINE), other["label"])
    content = write_material([fits, other], dict.fromkeys("ab", "training"), tmp_path / "data")
    assert set(content["labels"].values()) == {"background", "liver"}


@pytest.mark.parametrize(("side", "found"), [(512, [1]), (1024, [])])
def test_an_object_of_a_large_slice_counts_as_it_is_when_that_is_shrunk(side, found):
    labels = np.zeros((side, side, 2), np.uint8)
    labels[100:105, 100:105, 1] = 1
    assert slices_with_objects(labels).tolist() == found


def test_labels_of_pictures_lie_on_their_pictures(tmp_path):
    entries = []
    for name in "ab":
        picture = Volume(np.zeros((30, 20, 1), np.uint8), AFFINE, "windowed")
        image = write_volume(picture, tmp_path / f"{name}.png")
        mask = np.zeros(picture.shape, np.uint8)
        mask[3:20, 5:12] = 255
        label = write_label(mask, picture, tmp_path / f"{name}-label.png")
        entries.append({"image": str(image), "label": str(label), "names": {"polyp": 255}, "patient": name})
    content = write_material(entries, {"a": "training", "b": "validation"}, tmp_path / "data")
    items = [{**content[side][0]} for side in ("training", "validation")]
    items = [{**item, "label": str(tmp_path / "data" / item["label"])} for item in items]
    pool = read_pool(items, contract=load_family("default").contract)
    assert [(part.ids, int(part.labels.sum())) for part in pool] == [((1,), 17 * 7)] * 2


def test_what_an_image_is_read_as_stands_in_the_data_list(tmp_path):
    both = [{**accepted(tmp_path, name, [1], {"liver": 1}), "read_as": "CT"} for name in "ab"]
    content = write_material(both, {"a": "training", "b": "validation"}, tmp_path / "data")
    assert [content[side][0]["read_as"] for side in ("training", "validation")] == ["CT", "CT"]
    assert [item["read_as"] for item in msd(tmp_path / "data", datalist="datalist.json")] == ["CT", "CT"]
