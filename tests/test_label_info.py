"""What clients send as the names of a label's segments: taken when it is saved exactly if training can read it."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.data.formats.stored import told_apart
from bundle.data.label_info import label_info_by_value, sent_names
from bundle.data.volume import Volume, write_label
from bundle.errors import LayoutError
from monailabel_app.errors import RequestError
from monailabel_app.wire.labels import segments_of


@pytest.fixture
def label(tmp_path):
    grid = Volume(np.zeros((4, 4, 3), np.int16), np.eye(4))
    return write_label(np.full(grid.shape, 2, np.uint8), grid, tmp_path / "label.nii.gz")


@pytest.mark.parametrize("idx", [1, 1.0, "1"])
def test_a_whole_number_is_one_however_it_is_written(label, idx):
    sent = [{"name": "liver", "idx": idx, "color": [1, 2, 3]}]
    assert sent_names({"label_info": sent}, label, "the datastore") == {"liver": 1}
    assert list(segments_of(sent)) == [1] and segments_of(sent)[1]["color"] == [1, 2, 3]


@pytest.mark.parametrize("idx", [1.5, -1, -1.0, True, None, "one", "1.0", 2**32, float("nan"), float("inf"), [1]])
def test_what_training_could_not_read_is_refused_when_it_is_saved(label, idx):
    sent = [{"name": "liver", "idx": idx}]
    with pytest.raises(LayoutError, match=r"idx in label_info of .* must be a whole number"):
        sent_names({"label_info": sent}, label, "the datastore")
    with pytest.raises(RequestError, match="idx in label_info must be a whole number"):
        segments_of(sent)


def test_entries_without_a_name_name_nothing_and_numbers_are_names_too(label):
    sent = [{"idx": 0}, {"name": "liver", "idx": 1}, {"name": None}, {"name": 7}]
    assert sent_names({"label_info": sent}, label, "the datastore") == {"liver": 1, "7": 4}


def test_a_value_with_two_names_is_refused():
    with pytest.raises(LayoutError, match="names with a value of their own, got 'b' and 'c' with 2"):
        label_info_by_value([{"name": "a"}, {"name": "b"}, {"name": "c", "idx": 2}], "label_info")


def test_segments_of_one_name_are_told_apart_by_their_values_and_none_is_lost(label):
    sent = [{"name": "cyst"}, {"name": "liver"}, {"name": "cyst"}, {"name": "background", "idx": 0}]
    assert sent_names({"label_info": sent}, label, "the datastore") == {"cyst (1)": 1, "liver": 2, "cyst (3)": 3}


def test_a_name_that_looks_like_one_told_apart_stays_another():
    told = told_apart({1: "cyst (2)", 2: "cyst", 3: "cyst"})
    assert told == {1: "cyst (2) (1)", 2: "cyst (2) (2)", 3: "cyst (3)"}


def test_without_names_each_value_has_one(label):
    assert sent_names({}, label, "the datastore") == {"label_2": 2}
