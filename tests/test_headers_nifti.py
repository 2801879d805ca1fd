"""Headers of NIfTI are checked before any library sees the file."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest
from header_files import TYPES

from bundle.data.headers import check_header
from bundle.data.volume import VolumeError, read_volume


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_what_nibabel_writes_passes_in_either_byte_order(tmp_path, order, kind, ending):
    rgb = np.dtype([(channel, "u1") for channel in "RGB"])
    for dtype in (*TYPES, np.complex64, rgb):
        header = kind.header_class(endianness=order)
        image = kind(np.zeros((3, 4, 5), dtype), np.eye(4), header, dtype=dtype)
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 1000))
        nib.save(image, tmp_path / f"a{ending}")
        check_header(tmp_path / f"a{ending}")


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        *[("dim", [rank, 3, 4, 5, 1, 1, 1, 1], "1 to 7 dimensions|expected a NIfTI") for rank in (0, 8, -1)],
        ("dim", [3, 3, -4, 5, 1, 1, 1, 1], "must have voxels"),
        ("dim", [3, 3, 0, 5, 1, 1, 1, 1], "must have voxels"),
        ("dim", [3, 30000, 30000, 30000, 1, 1, 1, 1], "too large: 30000 x 30000 x 30000 voxels, the limit is"),
        ("dim", [3, 300, 300, 300, 1, 1, 1, 1], "announces 54000000 bytes of voxels"),
        ("datatype", 3, "no usable type"),
        ("datatype", 1536, "no usable type"),
        ("bitpix", 64, "16 bits a voxel, its header says 64"),
        ("vox_offset", np.nan, "begin behind the header"),
        ("vox_offset", np.inf, "begin behind the header"),
        ("vox_offset", 10, "begin behind the header"),
        ("vox_offset", 1e9, "MONAI_SAM_MAX_HEADER_BYTES"),
        ("magic", b"ni1", "half of a pair"),
        ("sizeof_hdr", 349, "expected a NIfTI header"),
    ],
)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_wrong_nifti_header_is_refused(tmp_path, field, value, sentence, ending):
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)), tmp_path / "good.nii")
    content = bytearray((tmp_path / "good.nii").read_bytes())
    header = np.frombuffer(content, nib.nifti1.header_dtype, 1)
    header[field] = value
    path = tmp_path / f"a{ending}"
    path.write_bytes(gzip.compress(bytes(content)) if ending.endswith(".gz") else bytes(content))
    with pytest.raises(VolumeError, match=sentence):
        read_volume(path)


def test_surfaces_are_no_volume(tmp_path):
    image = nib.Nifti2Image(np.zeros((1, 1, 1, 1, 4, 5), np.float32), np.eye(4))
    image.header["intent_code"] = 3001
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(VolumeError, match="CIFTI"):
        read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("announced", [2**31 - 1, -1, 0, 7, 1024])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_an_extension_of_nifti_ends_before_the_voxels(tmp_path, announced, ending):
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 100))
    nib.save(image, tmp_path / "good.nii")
    check_header(tmp_path / "good.nii")
    content = bytearray((tmp_path / "good.nii").read_bytes())
    content[352:356] = announced.to_bytes(4, "little", signed=True)
    (tmp_path / f"a{ending}").write_bytes(gzip.compress(content) if ending == ".nii.gz" else content)
    with pytest.raises(VolumeError, match=f"announces {announced} bytes"):
        read_volume(tmp_path / f"a{ending}")


def test_voxels_are_not_taken_for_extensions(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)), tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[108:112], content[348] = bytes(4), 1
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(VolumeError, match="its voxels begin before them"):
        read_volume(tmp_path / "a.nii")


def test_a_compressed_nifti_has_the_ending_gz(tmp_path):
    (tmp_path / "a.nii").write_bytes(gzip.compress(bytes(400)))
    with pytest.raises(VolumeError, match=r"it is compressed; name it \.nii\.gz"):
        check_header(tmp_path / "a.nii")


def test_a_nifti_of_an_unknown_unit_is_refused(tmp_path):
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    image.header["xyzt_units"] = 7
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(VolumeError, match="no known unit, got code 7"):
        check_header(tmp_path / "a.nii")
