"""Objects that may overlap, gathered into one label map."""

from __future__ import annotations

import numpy as np

from bundle.interactive.label_map import LabelMap
from bundle.interactive.session import Segmentation


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
