"""Objects that may overlap, gathered into one label map."""

from __future__ import annotations

import numpy as np

from bundle.interactive.label_map import LabelMap
from bundle.interactive.segmentation import Segmentation
from bundle.prompts.prompts import ObjectPrompts


def found(mask, scores, axis=2):
    return Segmentation(mask, scores, axis, {"total": 0.0}, 0)


def columns(first, last):
    """(4, 4, 2) with the columns from first to last."""
    mask = np.zeros((4, 4, 2), bool)
    mask[first : last + 1] = True
    return mask


def test_a_contested_voxel_goes_to_the_higher_predicted_iou_of_its_slice():
    gathered = LabelMap((4, 4, 2), 2)
    gathered.add(found(columns(0, 2), {0: 0.9, 1: 0.5}), 1)
    gathered.add(found(columns(1, 3), {0: 0.7, 1: 0.8}), 2)
    assert gathered.labels[:, 0].T.tolist() == [[1, 1, 1, 2], [1, 2, 2, 2]]
    assert gathered.contested_voxels == 2 * 4 * 2


def test_between_equal_predicted_ious_the_first_object_stays():
    gathered = LabelMap((4, 4, 2), 2)
    for label in (2, 1):
        gathered.add(found(columns(0, 3), {0: 0.5, 1: 0.5}), label)
    assert (gathered.labels == 2).all()


def test_a_low_or_negative_predicted_iou_still_takes_empty_voxels():
    gathered = LabelMap((4, 4, 2), 300)
    gathered.add(found(columns(0, 0), {0: -0.1}), 300)
    assert gathered.labels.dtype == np.uint16
    assert gathered.labels[0, :, 0].tolist() == [300] * 4
    assert gathered.labels[0, :, 1].tolist() == [0] * 4


def test_a_locked_object_is_never_painted_over():
    locked = np.zeros((4, 4, 2), np.uint8)
    locked[2] = 7
    gathered = LabelMap((4, 4, 2), 1, locked=locked)
    click = ObjectPrompts(points=np.array([[2, 0, 0]]), point_labels=np.array([1]))
    gathered.add(found(columns(0, 3), {0: 1.0, 1: 1.0}), 1, click)
    assert gathered.labels[:, 0, 0].tolist() == [1, 1, 7, 1]


def test_a_voxel_that_was_clicked_belongs_to_the_object_of_the_last_click():
    gathered = LabelMap((4, 4, 2), 3)
    for label, iou, voxel in ((1, 0.5, [1, 0, 0]), (2, 0.9, [1, 1, 0]), (3, 0.1, [1, 1, 0])):
        prompts = ObjectPrompts(points=np.array([voxel]), point_labels=np.array([1]))
        gathered.add(found(columns(0, 3), {0: iou}), label, prompts)
    assert gathered.labels[1, :, 0].tolist() == [1, 3, 2, 2]


def test_a_click_off_an_object_keeps_nothing_for_it():
    gathered = LabelMap((4, 4, 2), 2)
    gathered.add(found(columns(0, 3), {0: 0.9}), 1)
    gathered.add(
        found(columns(0, 3), {0: 0.5}), 2, ObjectPrompts(points=np.array([[1, 1, 0]]), point_labels=np.array([0]))
    )
    assert (gathered.labels[:, :, 0] == 1).all()
