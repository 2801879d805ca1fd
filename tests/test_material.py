"""Accepted labels as a data set: one numbering, split by patient for good, as they were when the training began."""

from __future__ import annotations

import numpy as np
import pytest
from app_room import AFFINE, SHAPE, a_volume
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.data.datasets import msd
from bundle.data.splits import check_disjoint
from bundle.data.volume import Volume, read_label, write_label
from bundle.errors import TrainingError
from bundle.files import read_json
from monailabel_app.learning.material import held_out_slices, renumbered, split_patients, write_material


def label_file(path, values):
    """A label map whose slices hold one value each."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:5, 2:5, : len(values)] = values
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
        assert "training" in sides.values()


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
    labels = np.ones((2, 2, 40), np.uint8)
    held = np.flatnonzero(held_out_slices(labels)["validation"].any(axis=(0, 1)))
    assert held.tolist() == list(range(8, 16))


def test_an_empty_label_is_left_out_and_said(tmp_path, caplog):
    both = [accepted(tmp_path, "a", [1], {"liver": 1}), accepted(tmp_path, "b", [], {"liver": 1})]
    content = write_material(both, {"a": "training", "b": "validation"}, tmp_path / "data")
    assert [len(content[side]) for side in ("training", "validation")] == [1, 0]
    assert "A label shows nothing that has a name" in caplog.text


def test_nothing_but_empty_labels_cannot_train(tmp_path):
    with pytest.raises(TrainingError, match="no accepted label shows anything"):
        write_material([accepted(tmp_path, "a", [], {})], {"a": "training"}, tmp_path / "data")
