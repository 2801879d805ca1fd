"""Slices are chosen by what they show, what is dropped is counted, and drawing is balanced."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_frames import affines

from bundle.data.sampling import BalancedDraw
from bundle.data.slices import Dropped, SliceFilters, clean_slice, index_slices, remove_small, summarise
from bundle.data.volume import Volume
from bundle.prompts.simulation import tight_box
from bundle.transforms.frames import PLANES

OFF = SliceFilters(0, 0, 0)
LABELS = np.zeros((20, 18, 16), np.uint8)
LABELS[3:9, 4:10, 2:8], LABELS[15, 15, 12], LABELS[12:14, 3:5, 3:5] = 1, 1, 2


def volume(labels: np.ndarray = LABELS, affine: np.ndarray | None = None) -> Volume:
    return Volume(labels, np.eye(4) if affine is None else affine)


@given(affines(), st.sampled_from(PLANES))
@settings(max_examples=30, deadline=None)
def test_boxes_are_tight_in_every_plane_of_any_orientation(affine, plane):
    entries, dropped = index_slices(volume(affine=affine), planes=[plane], filters=OFF)
    assert not dropped
    for entry in entries:
        np.testing.assert_array_equal(entry.labels, entry.frame.extract(LABELS, entry.index))
        for value, box in entry.boxes.items():
            np.testing.assert_array_equal(box, tight_box(entry.labels == value))
            assert entry.pixels[value] == (entry.labels == value).sum()


def test_only_slices_with_an_object_stay():
    entries, _ = index_slices(volume(), planes=["axial"], filters=OFF)
    assert [entry.index for entry in entries] == [2, 3, 4, 5, 6, 7, 12]
    assert entries[1].boxes.keys() == {1, 2}


def test_a_speck_of_the_volume_is_dropped_and_recorded():
    entries, dropped = index_slices(volume(), filters=SliceFilters(8, 0, 0))
    assert dropped == [Dropped(1, "component_3d", 1, 1)]
    assert 12 not in [entry.index for entry in entries]


def test_a_speck_of_a_slice_is_dropped_and_the_lost_organ_is_no_longer_labelled():
    entries, dropped = index_slices(volume(), filters=SliceFilters(0, 5, 0))
    assert Dropped(2, "component_2d", 1, 4, "axial", 3) in dropped
    assert entries[1].lost == (2,)
    assert entries[3].lost == ()


def test_the_share_rule_keeps_what_covers_enough_of_the_slice():
    labels = np.zeros((100, 100), np.uint8)
    labels[:5, :3], labels[10:14, 10:14] = 1, 2  # 0.15 % and 0.16 % of the slice
    cleaned, dropped = clean_slice(labels, SliceFilters(0, 0, 0.00153))
    assert set(np.unique(cleaned)) == {0, 2}
    assert dropped == [Dropped(1, "share", 1, 15)]


def test_diagonal_neighbours_connect_and_labels_do_not():
    labels = np.array([[1, 0, 0], [0, 1, 0], [2, 2, 1]])
    cleaned, dropped = remove_small(labels, min_size=3, reason="component_2d")
    assert cleaned.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert dropped == [Dropped(2, "component_2d", 1, 2)]
    assert labels[2, 0] == 2


def test_a_picture_is_one_slice_and_has_no_volume_components():
    (entry,), dropped = index_slices(volume(LABELS[:, :, 4:5]), planes=PLANES, filters=SliceFilters(10**6, 0, 0))
    assert (entry.frame.plane, entry.index, dropped) == ("axial", 0, [])


def test_the_summary_counts_by_rule_and_organ():
    parts = [Dropped(1, "share", 1, 5), Dropped(1, "share", 2, 7), Dropped(3, "component_3d", 1, 1)]
    assert summarise(parts, {1: "liver"}) == {
        "component_3d": {"3": {"parts": 1, "size": 1}},
        "share": {"liver": {"parts": 3, "size": 12}},
    }


def test_organs_and_patients_are_drawn_equally_often():
    patients = ["a"] * 50 + ["b"] * 2
    ids = [(1,)] * 49 + [(1, 2)] + [(1,), (1, 2)]
    balanced = BalancedDraw(patients, ids)
    rng = np.random.default_rng(0)
    draws = [balanced.draw(rng) for _ in range(4000)]
    assert np.mean([organ == 2 for _, organ in draws]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([patients[index] == "b" for index, _ in draws]) == pytest.approx(0.5, abs=0.04)
    assert all(organ in ids[index] for index, organ in draws)
    counts = np.bincount([index for index, _ in draws], minlength=52) / len(draws)
    np.testing.assert_allclose(counts, balanced.weights(), atol=0.03)
    assert balanced.weights().sum() == pytest.approx(1)


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="no slice has a label"):
        BalancedDraw(["a"], [()])
    with pytest.raises(ValueError, match="one entry per slice"):
        BalancedDraw(["a"], [])
