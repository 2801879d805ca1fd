"""Headers of MetaImage are checked before any library sees the file."""

from __future__ import annotations

import gzip
import zlib

import nibabel as nib
import numpy as np
import pytest
from header_files import META, NRRD, meta, nrrd

from bundle.data.headers import check_header
from bundle.data.volume import VolumeError, read_volume


@pytest.mark.parametrize(
    "line",
    ["Comment =", "Origin : 0 0 0", "HeaderSize = -1", "ElementMax = nan", "ElementMin = -3.4e+38", "My Own = 1 = 2"],
)
def test_the_spellings_of_metaimage_pass(tmp_path, line):
    check_header(meta(tmp_path, f"{line}\n{META}"))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("NDims = 3", "NDims = -1", "key NDims of its header cannot be used, got '-1'"),
        ("NDims = 3", "NDims = 100", "NDims"),
        ("NDims = 3", "NDims = 3.5", "NDims"),
        ("NDims = 3", "NDims = 3\n\x0bNDims = -1", "control characters"),
        ("NDims = 3", "NDims = 3\nNDims = -1", "two keys 'NDims'"),
        ("NDims = 3", "NDims = 2", "DimSize must have 2 entries"),
        ("NDims = 3", "NDims = 3\nOffset = 1 2", "Offset must have 3 entries"),
        ("NDims = 3", "NDims = 3\nTransformMatrix = 1 0 0 1", "TransformMatrix must have 9 entries"),
        ("NDims = 3", "NDims = 3\nElementSpacing = nan 1 1", "ElementSpacing"),
        ("NDims = 3", "NDims = 3\nHeaderSize = 12", "HeaderSize"),
        ("NDims = 3", "NDims = 3\nHeaderSize = -1\nCompressedData = True", "HeaderSize = -1 goes with"),
        ("NDims = 3", "NDims = 3\nTransformMatrix = 2.5 1e-300 1e308 4 0 0 0 0 1", "TransformMatrix"),
        ("NDims = 3", "NDims = 3\nOffset = 0 0 1e99", "Offset"),
        ("NDims = 3", "NDims = 3\nElementNumberOfChannels = 4000", "ElementNumberOfChannels"),
        ("NDims = 3", "NDims = 3\nElementNumberOfChannels = 2", "announces 128 bytes of voxels, the file holds 64"),
        ("NDims = 3", "NDims = 3\nBinaryData = False", "must be binary"),
        ("NDims = 3", "NDims = 3\nno separator", "expected 'name = value'"),
        ("NDims = 3", "NDims = 3\n" + "n" * 400 + " = 1", "too long"),
        *(
            ("NDims = 3", f"NDims = 3\n{key} = " + "n" * 251, key)  # ITK copies these into 255 bytes
            for key in ("Comment", "Name", "ObjectSubType", "DistanceUnits", "AcquisitionDate")
        ),
        ("NDims = 3", "NDims = 3\nown = " + "n" * 33_000, "too long"),
        ("NDims = 3", "NDims = 3\nCompressedData = True\nCompressedDataSize = 999", "999 compressed bytes"),
        ("DimSize = 4 4 4", "DimSize = 4 4 -4", "DimSize"),
        ("DimSize = 4 4 4", "DimSize = 99999 99999 99999", "too large"),
        ("MET_UCHAR", "MET_LONG", "ElementType must be"),
        ("MET_UCHAR", "MET_STRING", "ElementType must be"),
        ("ElementDataFile = LOCAL\n", "", "expected 'name = value'|no key|control"),
    ],
)
def test_a_wrong_metaimage_header_is_refused_in_one_sentence(tmp_path, old, new, sentence):
    with pytest.raises(VolumeError, match=sentence) as refusal:
        read_volume(meta(tmp_path, META.replace(old, new)))
    assert "\n" not in str(refusal.value)


def test_the_158_bytes_that_hung_a_thread_are_refused(tmp_path):
    text = "ObjectType = Image\nNDims = -1\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    with pytest.raises(VolumeError, match="NDims"):
        read_volume(meta(tmp_path, text))


@pytest.mark.parametrize("data", [zlib.compress(bytes(63)), b"x" * 40, zlib.compress(bytes(64))[:-8] + b"\0" * 8])
def test_compressed_voxels_of_metaimage_must_all_be_there(tmp_path, data):
    """ITK prints "Uncompress failed" and gives out the memory as it found it."""
    with pytest.raises(VolumeError, match="damaged"):
        read_volume(
            meta(
                tmp_path,
                META.replace("DimSize", f"CompressedData = True\nCompressedDataSize = {len(data)}\nDimSize"),
                data,
            )
        )


@pytest.mark.parametrize("missing", [1, 40])
def test_a_whole_stream_of_too_few_voxels_is_damaged(tmp_path, missing):
    """The readers of NRRD and NIfTI count what comes out of a gzip stream, so that it is decompressed but once."""
    with pytest.raises(VolumeError, match="damaged"):
        read_volume(nrrd(tmp_path, NRRD.replace("raw", "gzip"), gzip.compress(bytes(64 - missing))))
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "a.nii")
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()[:-missing]))
    with pytest.raises(VolumeError, match="damaged"):
        read_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("Offset = 1 2 3\nPosition = 3 2 1", "has Position and Offset, which differ and mean the same"),
        ("Orientation = 1 0 0 0 1 0 0 0 1\nTransformMatrix = -1 0 0 0 1 0 0 0 1", "Orientation and TransformMatrix"),
        ("ElementSpacing = 1 0 1", "ElementSpacing must not be 0"),
        ("ElementToIntensityFunctionSlope = 2", "Slope must be 1, got 2; save the values that it leads to"),
        ("ElementToIntensityFunctionOffset = -1024", "Offset must be 0, got -1024"),
    ],
)
def test_a_metaimage_says_once_what_itk_understands(tmp_path, lines, sentence):
    head = f"NDims = 3\nDimSize = 2 2 2\n{lines}\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(head.encode() + bytes(8))
    with pytest.raises(VolumeError, match=sentence):
        read_volume(tmp_path / "a.mha")


def test_a_matrix_without_three_directions_is_named(tmp_path):
    head = "NDims = 3\nDimSize = 2 2 2\nTransformMatrix = 1 0 0 2 0 0 0 0 1\nElementType = MET_UCHAR\n"
    (tmp_path / "a.mha").write_bytes(f"{head}ElementDataFile = LOCAL\n".encode() + bytes(8))
    with pytest.raises(VolumeError, match="TransformMatrix must give each axis a direction of its own"):
        check_header(tmp_path / "a.mha")
