"""Tests of which DICOM files make an image."""

from __future__ import annotations

import pickle
import re

import pytest
from dicom_files import change, numbered, write_slice, write_stack

from bundle.data.headers.dicom import holds_dicom
from bundle.data.volume import read_label, read_volume
from bundle.errors import SeriesError, VolumeError

THREE = [(0, 0, 3 * k) for k in range(3)]


def test_of_several_series_one_is_chosen_and_the_refusal_lists_them(tmp_path):
    write_stack(tmp_path, THREE, Modality="CT", SeriesDescription="Thorax")
    write_slice(tmp_path / "scout.dcm", numbered(9, (7, 6)), SeriesInstanceUID="1.2.3.5", Modality="CT")
    said = "holds 2 DICOM series, choose one with series=: 1.2.3.4, 1.2.3.5 (1.2.3.4 is CT, Thorax, 3 files of 5 x 4;"
    with pytest.raises(SeriesError, match=re.escape(said)) as caught:
        read_volume(tmp_path)
    assert "choose one with --series: 1.2.3.4" in caught.value.asked_with("--series")
    assert read_volume(tmp_path, series="1.2.3.4").shape == (5, 4, 3)
    assert read_volume(tmp_path, series="1.2.3.5:1").shape == (7, 6, 1)
    with pytest.raises(SeriesError, match=r"no DICOM series 9, choose one"):
        read_volume(tmp_path, series="9")


def test_a_refusal_passes_from_process_to_process():
    error = pickle.loads(pickle.dumps(SeriesError("two series", {"1.2": "CT", "1.3": "MR"})))
    assert error.choices == {"1.2": "CT", "1.3": "MR"}
    assert str(error) == "two series, choose one with series=: 1.2, 1.3 (1.2 is CT; 1.3 is MR)"


def test_what_lies_beside_the_slices_is_left_alone(tmp_path):
    write_stack(tmp_path, THREE)
    for name in ("preview.jpg", "._0.dcm", "DICOMDIR", "readme.txt", "notes"):
        (tmp_path / name).write_bytes(b"no slice")
    write_slice(tmp_path / "report.dcm", numbered(0), Modality="SR", SeriesInstanceUID="1.2.3.6")
    assert read_volume(tmp_path).shape == (5, 4, 3)


def test_a_folder_holds_dicom_if_one_of_its_files_has_the_letters(tmp_path):
    for name in ("preview.jpg", "._0.dcm", "DICOMDIR"):
        write_slice(tmp_path / name, numbered(0))
    assert not holds_dicom(tmp_path)
    write_slice(tmp_path / "IM0001", numbered(0))
    assert holds_dicom(tmp_path)


@pytest.mark.parametrize(
    ("modality", "said"),
    [
        ("RTSTRUCT", "an RT structure set; convert it to DICOM SEG"),
        ("SR", "a structured report"),
        ("SEG", "a segmentation"),
    ],
)
def test_objects_that_are_no_images_are_called_by_name(tmp_path, modality, said):
    path = write_slice(tmp_path / "a.dcm", numbered(0), Modality=modality)
    for read in (read_volume, lambda path: read_volume(path.parent), read_label):
        with pytest.raises(VolumeError, match=said):
            read(path)


def test_a_series_is_chosen_of_dicom_only(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"\0" * 400)
    with pytest.raises(VolumeError, match="series chooses among DICOM series"):
        read_volume(tmp_path / "a.nii", series="1.2.3")


def test_the_first_slice_can_be_read_alone(tmp_path):
    write_stack(tmp_path, THREE)
    assert read_volume(tmp_path / "1.dcm").array[0, 0].tolist() == [1]


def test_tags_of_another_type_are_damage(tmp_path):
    path = write_slice(tmp_path / "a.dcm", numbered(0))
    change(path, SharedFunctionalGroupsSequence=[], PerFrameFunctionalGroupsSequence=[])
    content = path.read_bytes().replace(b"\x00\x52\x30\x92SQ", b"\x00\x52\x30\x92OB")
    path.write_bytes(content)
    assert read_volume(path).shape == (5, 4, 1)


def test_slices_of_several_frames_of_reference_are_spoken_of(tmp_path, caplog):
    folder = write_stack(tmp_path / "s", [(0, 0, 0), (0, 0, 3), (0, 0, 6)])
    assert read_volume(folder).shape[2] == 3 and not caplog.text
    change(folder / "1.dcm", FrameOfReferenceUID="1.2.99")
    assert read_volume(folder).shape[2] == 3
    assert "lie in 2 frames of reference" in caplog.text
