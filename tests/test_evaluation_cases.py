"""Cases of an evaluation: what is scored, and what is shown of it."""

from __future__ import annotations

import numpy as np
from test_runner import ORGANS, slices
from test_semantic import ct

from bundle.evaluation.cases import SliceCase, scenes_of, slice_cases, volume_cases
from bundle.evaluation.stored_prompts import prompt_from_json
from bundle.prompts.on_slices import prompt_on_slice
from bundle.transforms.frames import SliceFrame


def test_distances_of_a_slice_are_in_pixels_of_a_reference_or_in_millimetres():
    item = slices(1)[0]
    assert SliceCase(item).spacing == (4, 4)  # 64 pixels
    assert SliceCase(item, pixels_of=None).spacing == (1, 1)


def test_slices_of_one_name_are_numbered():
    assert list(slice_cases(slices(3))) == ["p-2-0000", "p-2-0000#2", "p-2-0000#3"]


def test_volumes_of_one_patient_and_one_name_are_numbered():
    items = [{"patient": "p", "image": f"{folder}/ct.nii.gz", "label": "l.nii.gz"} for folder in "ab"]
    assert list(volume_cases(items, contract=None)) == ["p/ct.nii.gz", "p/ct.nii.gz#2"]


def test_a_scene_shows_the_object_of_each_record_and_of_no_other_list():
    records = [{"key": "p-2-0000", "organ": "liver"}, {"key": "elsewhere", "organ": "liver"}]
    ((name, scene),) = scenes_of(slice_cases(slices(1)), records, organs=ORGANS).items()
    assert name == "p-2-0000 liver"
    np.testing.assert_array_equal(scene.truth, slices(1)[0].labels == 1)


def test_of_a_prompt_in_a_volume_a_slice_shows_what_lies_on_it():
    frame = SliceFrame.along((40, 56, 11), ct()[0].affine, 2)
    stored = {"points": [[3, 4, 5], [6, 7, 8]], "point_labels": [1, 0], "box": [[1, 2, 4], [10, 20, 6]]}
    there, beyond = (prompt_on_slice(prompt_from_json(stored), frame, index) for index in (5, 8))
    assert frame.to_voxels(there.points, 5).tolist() == [[3, 4, 5]] and there.point_labels.tolist() == [1]
    corners = frame.to_voxels(there.box.reshape(2, 2), 5)
    assert np.sort(corners, axis=0).tolist() == [[1, 2, 5], [10, 20, 5]]
    assert beyond.box is None and beyond.point_labels.tolist() == [0]
