"""What a case holds, and the boxes that a label map gives."""

from __future__ import annotations

import json

import numpy as np
import pytest
from dicom_files import numbered, write_slice, write_stack
from hypothesis import given
from hypothesis import strategies as st

from bundle.batch.case_files import CaseFiles, find_cases
from bundle.batch.cases import CaseError, FailedCase, GoOn, ReadCase, label_names
from bundle.data.volume import Volume, VolumeError, read_volume, write_label, write_volume
from bundle.errors import PromptError
from bundle.prompts.label_boxes import boxes_of_label

SHAPE = (12, 10, 8)


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def two_objects():
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:6, 3:8, 1:5] = 1
    labels[8:10, 1:3, [2, 6]] = 4
    return labels


def volume_and_label(folder, offset=0.0):
    image = write_volume(Volume(np.zeros(SHAPE, np.int16), np.eye(4)), folder / "ct.nii.gz")
    affine = np.eye(4)
    affine[0, 3] = offset
    label = write_label(two_objects(), Volume(two_objects(), affine), folder / "label.nii.gz")
    return image, label


# ---- boxes ----------------------------------------------------------------------------------------------------------


def test_an_object_gets_one_box_in_3d():
    first, second = boxes_of_label(two_objects(), {"liver": 1, "spleen": 2, "spots": 4})
    assert (first.name, first.box.tolist()) == ("liver", [[2, 3, 1], [5, 7, 4]])
    assert (second.label, second.box.tolist()) == (4, [[8, 1, 2], [9, 2, 6]])


def test_an_object_gets_one_flat_box_on_each_of_its_slices_in_2d():
    boxes = boxes_of_label(two_objects(), {"spots": 4}, dimension=2)
    assert [prompt.box.tolist() for prompt in boxes] == [[[8, 1, 2], [9, 2, 2]], [[8, 1, 6], [9, 2, 6]]]


def test_slices_may_be_stacked_along_any_axis():
    boxes = boxes_of_label(two_objects(), {"spots": 4}, dimension=2, axis=0)
    assert [prompt.box.tolist() for prompt in boxes] == [[[8, 1, 2], [8, 2, 6]], [[9, 1, 2], [9, 2, 6]]]


@given(axis=st.integers(0, 2), shift=st.integers(0, 20))
def test_a_shift_moves_the_sides_outward_within_the_slices_and_the_volume(axis, shift):
    (tight,) = boxes_of_label(two_objects(), {"liver": 1}, axis=axis)
    (wide,) = boxes_of_label(two_objects(), {"liver": 1}, axis=axis, shift=shift)
    low, high = (np.clip(tight.box[side] + sign * shift, 0, np.array(SHAPE) - 1) for side, sign in ((0, -1), (1, 1)))
    low[axis], high[axis] = tight.box[:, axis]
    assert wide.box.tolist() == [low.tolist(), high.tolist()]


def test_a_dimension_or_axis_that_does_not_exist_is_refused():
    for options in ({"dimension": 4}, {"axis": 3}):
        with pytest.raises(CaseError, match="dimension must be 2 or 3 and axis 0, 1 or 2"):
            boxes_of_label(two_objects(), {"liver": 1}, **options)


def test_values_without_names_are_named_by_number():
    assert label_names(None, two_objects()) == {"label_1": 1, "label_4": 4}


def test_names_come_from_a_file_or_are_refused(tmp_path):
    path = tmp_path / "names.json"
    path.write_text(json.dumps({"liver": 1}))
    assert label_names(path, two_objects()) == {"liver": 1}
    with pytest.raises(CaseError, match="the names must map 'liver' to a whole number of at least 1"):
        label_names({"liver": "1"}, two_objects())
    with pytest.raises(CaseError, match="No such file"):
        label_names(tmp_path / "nowhere.json", two_objects())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("liver", r"names\.json is not JSON"),
        ("[" * 100_000, r"names\.json is not JSON.* nested too deep"),
        ('["liver"]', r"names\.json must hold one JSON object, got a list"),
        ("{}", r"must map names to values"),
        ('{"liver": true}', r"map 'liver' to a whole number of at least 1 and below 2\*\*32, got True"),
        ('{"liver": 4294967296}', r"got 4294967296"),
        ('{"liver": 0}', r"got 0"),
        ('{"liver": [1]}', r"got \[1\]"),
    ],
)
def test_a_wrong_names_file_says_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "names.json"
    path.write_text(content)
    with pytest.raises(CaseError, match=message):
        label_names(path, two_objects())


# ---- reading --------------------------------------------------------------------------------------------------------


def test_prompts_of_a_file_are_asked_even_if_there_is_a_label(tmp_path):
    image, label = volume_and_label(tmp_path)
    prompts = tmp_path / "p.json"
    prompts.write_text(json.dumps({"objects": [{"name": "spot", "points": [[1, 2, 3]]}]}))
    case = ReadCase()(CaseFiles("ct", image, prompts, label))
    assert [prompt.name for prompt in case.prompts] == ["spot"]
    assert (case.truth.array == two_objects()).all()


def test_a_label_gives_boxes_around_its_objects(tmp_path):
    image, label = volume_and_label(tmp_path)
    case = ReadCase(names={"liver": 1})(CaseFiles("ct", image, label=label))
    assert [(prompt.name, prompt.box.tolist()) for prompt in case.prompts] == [("liver", [[2, 3, 1], [5, 7, 4]])]


def test_a_label_without_the_named_objects_is_refused(tmp_path):
    image, label = volume_and_label(tmp_path)
    with pytest.raises(CaseError, match="shows none of heart"):
        ReadCase(names={"heart": 3})(CaseFiles("ct", image, label=label))


def test_a_label_on_another_grid_is_refused(tmp_path):
    image, label = volume_and_label(tmp_path, offset=3.0)
    with pytest.raises(VolumeError, match=r"3\.0 mm off its image"):
        ReadCase()(CaseFiles("ct", image, label=label))
    flat = Volume(np.ones((3, 3, 1), np.uint8), np.eye(4))
    with pytest.raises(VolumeError, match="resample it"):
        ReadCase()(CaseFiles("ct", image, label=write_label(flat.array, flat, tmp_path / "flat.nii.gz")))


def test_a_bad_file_is_a_failed_case_with_its_sentence(tmp_path):
    files = CaseFiles("ct", touch(tmp_path / "ct.nii.gz"), touch(tmp_path / "p.json"))
    found = GoOn(ReadCase())(files)
    assert isinstance(found, FailedCase) and found.files is files
    assert found.reason.startswith(f"cannot read {files.image}, it is damaged")


def test_a_mistake_of_the_program_is_no_failed_case(tmp_path):
    with pytest.raises(ZeroDivisionError):
        GoOn(lambda files: 1 / 0)(CaseFiles("ct", tmp_path))


def test_what_an_image_was_taken_for_is_said_once_and_can_be_set(tmp_path, caplog):
    image, label = volume_and_label(tmp_path)
    assert ReadCase()(CaseFiles("ct", image, label=label)).image.modality == "other"
    assert [record.getMessage() for record in caplog.records] == [
        "ct: taken for other, by its values; --modality says otherwise"
    ]
    caplog.clear()
    assert ReadCase(modality="CT")(CaseFiles("ct", image, label=label)).image.modality == "CT"
    assert not caplog.records


def test_a_picture_takes_pairs_and_a_volume_says_what_is_missing(tmp_path):
    prompts = tmp_path / "p.json"
    prompts.write_text(json.dumps({"objects": [{"box": [[4, 6], [10, 8]], "points": [[5, 7]]}]}))
    picture = write_volume(Volume(np.zeros((12, 10, 1), np.uint8), np.eye(4)), tmp_path / "a.png")
    (found,) = ReadCase()(CaseFiles("a", picture, prompts)).prompts
    assert (found.box.tolist(), found.points.tolist()) == ([[4, 6, 0], [10, 8, 0]], [[5, 7, 0]])
    volume, _ = volume_and_label(tmp_path)
    with pytest.raises(PromptError, match=r"add the slice, of a picture 0: \[\[5, 7, 0\]\]"):
        ReadCase()(CaseFiles("ct", volume, prompts))


def test_one_of_several_dicom_series_is_chosen_by_an_option_of_the_command_line(tmp_path):
    folder = write_stack(tmp_path / "study", [(0, 0, 3 * k) for k in range(3)])
    write_slice(folder / "scout.dcm", numbered(9, (7, 6)), SeriesInstanceUID="1.2.3.5")
    prompts = tmp_path / "p.json"
    prompts.write_text('{"objects": [{"name": "ball", "box": [[1, 1, 0], [3, 2, 2]]}]}')
    files = CaseFiles("study", folder, prompts)
    with pytest.raises(CaseError, match=r"choose one with --series: 1\.2\.3\.4, 1\.2\.3\.5"):
        ReadCase()(files)
    assert ReadCase(series="1.2.3.4")(files).image.shape == (5, 4, 3)


def test_the_objects_of_a_dicom_seg_have_the_names_of_its_segments(tmp_path):
    folder = write_stack(tmp_path / "study", [(0, 0, 3 * k) for k in range(3)])
    image = read_volume(folder)
    labels = np.ones(image.shape, np.uint8)
    labels[2:] = 2
    seg = write_label(labels, image, tmp_path / "labels" / "study.dcm", names={"liver": 1, "spleen": 2})
    (files,) = find_cases(folder, label=seg.parent)
    case = ReadCase()(files)
    assert [(prompts.name, prompts.label) for prompts in case.prompts] == [("liver", 1), ("spleen", 2)]
    np.testing.assert_array_equal(case.truth.array, labels)
