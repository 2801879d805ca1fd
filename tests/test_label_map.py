"""Objects that may overlap, gathered into one label map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bundle.interactive.label_map import LabelMap, enclosed
from bundle.interactive.regions import Region
from bundle.interactive.segmentation import GIVEN, Segmentation
from bundle.prompts.interactions import Point, Scribble
from bundle.prompts.prompts import ObjectPrompts


def found(mask, scores, axis=2):
    return Segmentation(mask, scores, axis, {"total": 0.0}, 0)


def columns(first, last):
    """(4, 4, 2) with the columns from first to last."""
    mask = np.zeros((4, 4, 2), bool)
    mask[first : last + 1] = True
    return mask


def test_a_contested_voxel_goes_to_the_higher_predicted_iou_of_its_slice():
    gathered = LabelMap((4, 4, 2))
    gathered.add(found(columns(0, 2), {0: 0.9, 1: 0.5}), 1)
    gathered.add(found(columns(1, 3), {0: 0.7, 1: 0.8}), 2)
    assert gathered.labels[:, 0].T.tolist() == [[1, 1, 1, 2], [1, 2, 2, 2]]
    assert gathered.contested_voxels == 2 * 4 * 2


def test_between_equal_predicted_ious_the_first_object_stays():
    gathered = LabelMap((4, 4, 2))
    for label in (2, 1):
        gathered.add(found(columns(0, 3), {0: 0.5, 1: 0.5}), label)
    assert (gathered.labels == 2).all()


def test_a_low_or_negative_predicted_iou_still_takes_empty_voxels():
    gathered = LabelMap((4, 4, 2))
    gathered.add(found(columns(0, 0), {0: -0.1}), 300)
    assert gathered.labels.dtype == np.uint16
    assert gathered.labels[0, :, 0].tolist() == [300] * 4
    assert gathered.labels[0, :, 1].tolist() == [0] * 4


def test_a_locked_object_is_never_painted_over():
    locked = np.zeros((4, 4, 2), np.uint8)
    locked[2] = 7
    gathered = LabelMap((4, 4, 2), locked=locked)
    click = ObjectPrompts(points=np.array([[2, 0, 0]]), point_labels=np.array([1]))
    gathered.add(found(columns(0, 3), {0: 1.0, 1: 1.0}), 1, click)
    assert gathered.labels[:, 0, 0].tolist() == [1, 1, 7, 1]


def test_a_voxel_that_was_clicked_belongs_to_the_object_of_the_last_click():
    gathered = LabelMap((4, 4, 2))
    for label, iou, voxel in ((1, 0.5, [1, 0, 0]), (2, 0.9, [1, 1, 0]), (3, 0.1, [1, 1, 0])):
        prompts = ObjectPrompts(points=np.array([voxel]), point_labels=np.array([1]))
        gathered.add(found(columns(0, 3), {0: iou}), label, prompts)
    assert gathered.labels[1, :, 0].tolist() == [1, 3, 2, 2]


def test_a_click_off_an_object_keeps_nothing_for_it():
    gathered = LabelMap((4, 4, 2))
    gathered.add(found(columns(0, 3), {0: 0.9}), 1)
    gathered.add(
        found(columns(0, 3), {0: 0.5}), 2, ObjectPrompts(points=np.array([[1, 1, 0]]), point_labels=np.array([0]))
    )
    assert (gathered.labels[:, :, 0] == 1).all()


def test_what_was_drawn_on_an_object_belongs_to_it_whatever_the_predicted_iou():
    gathered = LabelMap((4, 4, 2))
    gathered.add(found(columns(0, 3), {0: 0.9, 1: 0.9}), 1)
    scribble = ObjectPrompts([Scribble([[1, 1, 0], [1, 3, 0]]), Point([3, 3, 0], positive=False)])
    gathered.add(found(columns(0, 3), {0: 0.5, 1: 0.5}), 2, scribble)
    assert np.argwhere(gathered.labels == 2).tolist() == [[1, 1, 0], [1, 2, 0], [1, 3, 0]]


# ---- an object within another ---------------------------------------------------------------------------------------


def labels_of(*objects, **options):
    """The label of each of the four columns on slice 0; an object is its columns, score and label."""
    gathered = LabelMap((4, 4, 2))
    for first, last, score, label in objects:
        gathered.add(found(columns(first, last), {0: score, 1: score}), label, **options.get(f"of_{label}", {}))
    return gathered.labels[:, 0, 0].tolist()


def test_a_smaller_object_is_seen_in_the_larger_one_though_that_is_surer_and_in_either_order():
    liver, gallbladder = (0, 3, 0.95, 1), (1, 1, 0.6, 9)
    assert labels_of(liver, gallbladder) == labels_of(gallbladder, liver) == [1, 9, 1, 1]


def test_of_an_object_that_lies_half_outside_the_predicted_iou_decides():
    liver, stomach = (0, 2, 0.95, 1), (2, 3, 0.6, 2)
    assert labels_of(liver, stomach) == [1, 1, 1, 2]


def test_an_object_within_one_within_another_is_seen():
    liver, tumour, necrosis = (0, 3, 0.9, 1), (0, 2, 0.8, 2), (1, 1, 0.7, 3)
    assert labels_of(liver, tumour, necrosis) == labels_of(necrosis, tumour, liver) == [2, 3, 2, 1]


def test_two_objects_of_one_size_are_not_within_each_other():
    assert labels_of((0, 3, 0.6, 1), (0, 3, 0.7, 2)) == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("large", "small"),
    [
        (GIVEN, 0.5),  # a tumour that is clicked in the organ that somebody loaded
        (0.99, GIVEN),
    ],
)
def test_an_object_within_another_is_seen_whoever_gave_them(large, small):
    assert labels_of((0, 3, large, 1), (1, 1, small, 2)) == [1, 2, 1, 1]


def test_of_two_answers_to_one_question_the_surer_one_is_seen():
    organ, again = np.ones((4, 4, 2), bool), np.ones((4, 4, 2), bool)
    again[0, 0] = False
    gathered = LabelMap((4, 4, 2))
    gathered.add(found(organ, {0: 0.95, 1: 0.95}), 1)
    gathered.add(found(again, {0: 0.5, 1: 0.5}), 2)
    assert (gathered.labels == 1).all()


def test_an_object_that_something_found_by_itself_takes_nothing_of_one_that_was_asked_for():
    proposed = {"unprompted": True}
    assert labels_of((0, 3, 0.9, 1), (1, 1, 0.5, 2), of_2=proposed) == [1, 1, 1, 1]
    assert labels_of((0, 3, 0.9, 1), (1, 1, 0.5, 2), of_1=proposed, of_2=proposed) == [1, 2, 1, 1]


def test_what_was_drawn_on_the_larger_object_stays_with_it():
    gathered = LabelMap((4, 4, 2))
    gathered.add(found(columns(0, 3), {0: 0.9}), 1, ObjectPrompts([Point([1, 2, 0])]))
    gathered.add(found(columns(1, 1), {0: 0.6}), 2)
    assert gathered.labels[1, :, 0].tolist() == [2, 2, 1, 2]


def test_a_smaller_object_leaves_no_hole_on_slices_that_it_has_no_score_for():
    gathered = LabelMap((4, 4, 2))
    gathered.add(found(columns(0, 3), {0: 0.9, 1: 0.9}), 1)
    gathered.add(found(columns(1, 1), {0: 0.6}), 2)
    assert gathered.labels[:, 0].T.tolist() == [[1, 2, 1, 1], [1, 1, 1, 1]]


def test_parts_of_an_object_on_several_slices_count_together():
    gathered = LabelMap((4, 4, 2))
    on_first, on_second = columns(1, 2), columns(0, 0)
    on_first[..., 1], on_second[..., 0] = False, False
    gathered.add(found(columns(1, 3), {0: 0.9, 1: 0.9}), 1)  # 24 voxels
    gathered.add(found(on_first, {0: 0.5}), 2)  # 8 voxels in it
    gathered.add(found(on_second, {1: 0.5}), 2)  # 4 beside it
    assert gathered.labels[:, 0].T.tolist() == [[0, 2, 2, 1], [2, 1, 1, 1]]


MASKS = st.lists(hnp.arrays(bool, (3, 3, 2)), min_size=2, max_size=4)


@settings(max_examples=30)
@given(MASKS, st.randoms(use_true_random=False))
def test_the_order_of_objects_that_are_not_equally_sure_decides_nothing(masks, random):
    objects = [(mask, 0.5 + number / 10, number) for number, mask in enumerate(masks, start=1)]
    maps = []
    for _ in range(2):
        gathered = LabelMap((3, 3, 2))
        for mask, score, label in objects:
            gathered.add(found(mask, {0: score, 1: score}), label)
        maps.append(gathered.labels)
        assert gathered.contested_voxels == (np.sum(masks, axis=0) > 1).sum()
        random.shuffle(objects)
    assert np.array_equal(*maps)
    assert np.array_equal(maps[0] > 0, np.any(masks, axis=0))
    regions = [Region.of(mask) for mask in masks]
    for number, inner in enumerate(enclosed(regions), start=1):
        assert not any(((maps[0] == number) & masks[at]).any() for at in inner)
