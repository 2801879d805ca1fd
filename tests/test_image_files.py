"""Which files of a folder are images, and which only look like one."""

from __future__ import annotations

import pytest

from bundle.data.image_files import image_files, images_or_series, is_no_image


def touch(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


DICOM = b"\0" * 128 + b"DICM"
MACOS = b"\0\5\x16\7" + b"\0" * 300


def test_hidden_files_and_those_of_file_managers_are_passed_over_with_one_line(tmp_path, caplog):
    image = touch(tmp_path / "a.nii.gz")
    for name in ("._a.nii.gz", ".hidden.png", "Thumbs.db", "desktop.ini", "DICOMDIR"):
        touch(tmp_path / name, MACOS)
    assert image_files(tmp_path) == [image]
    assert images_or_series(tmp_path) == [image]
    (record, _) = caplog.records
    assert record.getMessage() == f"5 files of {tmp_path} passed over as no images, first ._a.nii.gz"


def test_other_files_are_none_of_our_business(tmp_path, caplog):
    image = touch(tmp_path / "a.nrrd")
    touch(tmp_path / "notes.txt")
    (tmp_path / "folder.nii").mkdir()
    assert image_files(tmp_path) == [image] and not caplog.records


@pytest.mark.parametrize("name", ["IM0001", "IM0001.dcm", "1.2.840.113", "slice.ima"])
@pytest.mark.parametrize("other", ["preview.jpg", "thumb.png", "._IM0001", "report.txt", "DICOMDIR"])
def test_a_folder_that_holds_dicom_is_a_series_whatever_lies_beside_it(tmp_path, name, other):
    touch(tmp_path / name, DICOM)
    touch(tmp_path / other)
    assert images_or_series(tmp_path) == [tmp_path]


def test_volumes_beside_dicom_are_the_images_and_pictures_beside_it_are_none(tmp_path, caplog):
    volume = touch(tmp_path / "a.nii.gz")
    touch(tmp_path / "IM1", DICOM)
    touch(tmp_path / "preview.jpg")
    assert images_or_series(tmp_path) == [volume]
    assert "1 file" in caplog.text and "preview.jpg" in caplog.text


def test_pictures_without_dicom_are_images(tmp_path):
    pictures = [touch(tmp_path / name) for name in ("a.png", "b.JPG", "c.tif")]
    assert images_or_series(tmp_path) == pictures


def test_a_folder_of_dicom_slices_for_training_keeps_its_slices(tmp_path):
    slices = [touch(tmp_path / name, DICOM) for name in ("a.dcm", "b.dcm")]
    touch(tmp_path / "a.png")
    assert image_files(tmp_path) == slices


def test_a_folder_with_nothing_that_we_know_is_taken_for_a_series(tmp_path):
    touch(tmp_path / "readme.txt")
    assert images_or_series(tmp_path) == [tmp_path]


def test_what_an_archive_of_macos_leaves_is_no_image(tmp_path):
    assert is_no_image(tmp_path / "__MACOSX" / "a.npz") and not is_no_image(tmp_path / "a.npz")
