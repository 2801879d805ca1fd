"""Values of a label map are found and counted, however large they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.data.labels import as_int16, count_labels, find_labels
from bundle.errors import VolumeError

VALUES = st.sampled_from([0, 1, 2, 255, 65535, 65536, 65537, 614_454_277, 2**32 - 1])


@given(values=st.lists(VALUES, min_size=1, max_size=30))
def test_every_value_is_found_in_its_box_and_counted(values):
    labels = np.array([values, values[::-1]], np.uint32)
    boxes, counts = find_labels(labels), count_labels(labels)
    wanted = sorted(set(values) - {0})
    assert list(boxes) == list(counts) == wanted
    for value in wanted:
        where = np.argwhere(labels == value)
        assert counts[value] == len(where)
        assert [(part.start, part.stop - 1) for part in boxes[value]] == list(
            zip(where.min(0), where.max(0), strict=True)
        )


@pytest.mark.parametrize("labels", [np.zeros((3, 0), np.uint8), np.zeros((3, 3), np.uint8), np.full((2, 2), -5)])
def test_where_nothing_is_labelled_nothing_is_found(labels):
    assert find_labels(labels) == count_labels(labels) == {}


def test_values_below_zero_are_no_labels():
    assert count_labels(np.array([[-7, -7, 3, 70000]])) == {3: 1, 70000: 1}


def test_training_says_which_values_it_cannot_hold():
    assert as_int16(np.array([32767], np.uint32), "a").dtype == np.int16
    with pytest.raises(VolumeError, match=r"32768 in slice-7.*prepare"):
        as_int16(np.array([32768], np.uint32), "slice-7")
