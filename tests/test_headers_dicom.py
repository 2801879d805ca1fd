"""Headers of DICOM files are checked before any library sees the file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dicom_files import write_slice

from bundle.data.headers import check_header
from bundle.data.limits import Limits
from bundle.data.volume import VolumeError, read_volume


def test_an_element_of_dicom_is_as_long_as_the_file(tmp_path):
    """pydicom would make room for the 2 GB that the element announces."""
    content = bytes(128) + b"DICM" + b"\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0" + b"\x08\0\x05\0UN\0\0\0\0\0\x70xx"
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(VolumeError):
        read_volume(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    ("frames", "sentence"), [(2000, "announces 2000 frames"), (9000, "9000 frames, the limit is 8192")]
)
def test_a_file_of_dicom_has_room_for_its_frames(tmp_path, frames, sentence):
    path = write_slice(tmp_path / "a.dcm", np.zeros((4, 4), np.int16), NumberOfFrames=frames)
    with pytest.raises(VolumeError, match=sentence):
        read_volume(path)


def test_dicom_has_a_short_preface_and_a_folder_so_many_files(tmp_path):
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM\x02\x00\x00\x00UL\x04\x00\xff\xff\xff\xff" + bytes(100))
    with pytest.raises(VolumeError, match="meta information of 4294967295 bytes"):
        check_header(tmp_path / "a.dcm")
    (tmp_path / "b").touch()
    with pytest.raises(VolumeError, match="2 files, the limit is 1"):
        check_header(tmp_path, replace(Limits(), files=1))
