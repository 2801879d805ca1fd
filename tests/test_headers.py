"""Good files of every writer pass the check of their header; hostile ones get a sentence and reach no library."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import os
import time
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from dicom_files import write_slice
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bundle.data.formats.medsam import write_zarr
from bundle.data.headers import check_header
from bundle.data.headers.claims import inflated_length
from bundle.data.limits import Limits
from bundle.data.volume import Volume, VolumeError, read_volume, write_label, write_volume

COMMON = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TYPES = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64)
NRRD = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n"
META = "ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
SEGMENTS = (
    "NRRD0004\n# Complete NRRD file format specification at:\ntype: unsigned char\ndimension: 4\n"
    "space: left-posterior-superior\nsizes: 2 4 4 4\nspace directions: none (0.5,0,0) (0,0.5,0) (0,0,-1e-1)\n"
    "kinds: list domain domain domain\nencoding: gzip\nspace origin: (-1.5,2,3)\n"
    "measurement frame: (1,0,0) (0,1,0) (0,0,1)\n"
    "Segment0_Name:=liver: left\nSegment0_Color:=0.5 0.2 0.1\nSegmentation_ConversionParameters:="
    + "Collapse labelmaps|1|Merge the labelmaps into as few shared labelmaps as possible&" * 60
    + "\n"
)


def write(path: Path, text: str, data: bytes = bytes(64), *, end: str = "\n") -> Path:
    """A text header, its end, and voxels."""
    path.write_bytes(text.encode("latin-1") + end.encode() + data)
    return path


def nrrd(folder: Path, text: str, data: bytes = bytes(64)) -> Path:
    return write(folder / "a.nrrd", text, data)


def meta(folder: Path, text: str, data: bytes = bytes(64)) -> Path:
    return write(folder / "a.mha", text, data, end="")


# ---- good files -----------------------------------------------------------------------------------------------------


@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    dtype=st.sampled_from(TYPES),
    ending=st.sampled_from([".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".npz"]),
    compress=st.booleans(),
    color=st.booleans(),
)
@COMMON
def test_what_we_write_passes(tmp_path, shape, dtype, ending, compress, color):
    array = np.zeros((*shape, 3), np.uint8) if color else np.ones(shape, dtype)
    volume = Volume(array, np.diag([-0.7, -0.8, 1e-5, 1.0]))
    check_header(write_volume(volume, tmp_path / f"a{ending}", compress=compress))


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (2, 5, 4, 3)])
@pytest.mark.parametrize("is_vector", [False, True])
@pytest.mark.parametrize("ending", ["nrrd", "nhdr", "mha", "mhd"])
def test_what_simpleitk_writes_passes(tmp_path, shape, is_vector, ending):
    for dtype in TYPES:
        array = np.zeros((*shape, 3) if is_vector else shape, dtype)
        image = sitk.GetImageFromArray(array, isVector=is_vector)
        image.SetMetaData("0008|0050", "x" * 2000)
        image.SetMetaData("a word: another", "b = c")
        for compress in (False, True):
            sitk.WriteImage(image, str(tmp_path / f"a.{ending}"), compress)
            check_header(tmp_path / f"a.{ending}")


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


def test_a_segmentation_of_slicer_passes(tmp_path):
    check_header(write(tmp_path / "a.seg.nrrd", SEGMENTS, gzip.compress(bytes(128))))


@pytest.mark.parametrize(
    "line",
    [
        *("spacings: 1 .5 nan", "centers: cell cell node", "kinds: domain domain ???", 'labels: "a b" "c" "d"'),
        *("content: anything: at all", 'Space Units: "mm" "mm" "mm"', "byte skip: -1", "old min: 0", "key:=value"),
        *("space: RAS\nspacedirections: (1, 0,0) (0,1,0)  (0,0,1)", "# comment", "ENDIAN: little", "a: b:=c"),
    ],
)
def test_the_spellings_of_nrrd_pass(tmp_path, line):
    check_header(nrrd(tmp_path, f"{NRRD}{line}\n"))


@pytest.mark.parametrize("text", [NRRD.replace("\n", "\r\n"), META.replace("\n", "\r\n")])
def test_line_ends_of_windows_pass(tmp_path, text):
    ending = "nrrd" if text.startswith("NRRD") else "mha"
    check_header(write(tmp_path / f"a.{ending}", text, end="\r\n" if ending == "nrrd" else ""))


@pytest.mark.parametrize(
    "line",
    ["Comment =", "Origin : 0 0 0", "HeaderSize = -1", "ElementMax = nan", "ElementMin = -3.4e+38", "My Own = 1 = 2"],
)
def test_the_spellings_of_metaimage_pass(tmp_path, line):
    check_header(meta(tmp_path, f"{line}\n{META}"))


@pytest.mark.real_data
def test_real_files_pass(real_data):
    files = [
        *(real_data / "pyradiomics-mr").glob("*.nrrd"),
        *(real_data / "dcmqi-ct-3slice").rglob("*.nrrd"),
        *(real_data / "dcmqi-ct-3slice").rglob("*.dcm"),
        *(real_data / "flare22-style").rglob("*.nii.gz"),
        *(real_data / "totalsegmentator-ct").rglob("*.nii.gz"),
        *list((real_data / "ct-mr" / "volumes").rglob("*.nii.gz")),
        *list((real_data / "ct-mr").glob("*/volumes/*/*.nii.gz"))[:40],
        *list((real_data / "other").rglob("*.png"))[:40],
    ]
    assert len(files) > 20
    for file in files:
        check_header(file)
    check_header(real_data / "dcmqi-ct-3slice" / "ct-3slice")


# ---- hostile text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["txt", "text", "ascii", "hex", "bzip2", "bz2", "zrl", "x" * 5000])
def test_nrrd_that_is_text_never_reaches_its_parser(tmp_path, encoding):
    text = f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 8 8 4\nencoding: {encoding}\n"
    with pytest.raises(VolumeError, match="encoding must be raw or gzip"):
        read_volume(nrrd(tmp_path, text, b"1" * 1100))


# Each of these ends ITK 5.4 with a segmentation fault.
@pytest.mark.parametrize(
    "line",
    [
        *("space: {}", "space dimension: {}", "spacings: {} 1 1", "thicknesses: {} 1 1", "axis mins: {} 1 1"),
        *("centers: {} cell cell", "kinds: {} domain domain", "old max: {}", "endian: {}", "line skip: {}"),
        *(
            "space dimension: 3\nspace origin: ({},1,1)",
            "space dimension: 3\nspace directions: ({},0,0) (0,1,0) (0,0,1)",
        ),
        *("space dimension: 3\nmeasurement frame: ({},0,0) (0,1,0) (0,0,1)", "{}: 1", "type: {}", "sizes: {} 1 1"),
    ],
)
@pytest.mark.parametrize("letter", "1x")
def test_long_words_in_a_field_of_nrrd_are_refused(tmp_path, line, letter):
    with pytest.raises(VolumeError, match=r"cannot be used|no such field|two fields|no field"):
        read_volume(nrrd(tmp_path, f"{NRRD}{line.format(letter * 1100)}\n"))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("dimension: 3", "dimension: 16", "'dimension' of its header cannot be used, got '16'"),
        ("dimension: 3", "dimension: -1", "'dimension'"),
        ("sizes: 4 4 4", "sizes: 4 4", "'sizes' must have 3 entries"),
        ("sizes: 4 4 4", "sizes: 4 0 4", "must have voxels"),
        ("sizes: 4 4 4", "sizes: 4 -4 4", "'sizes'"),
        (
            "sizes: 4 4 4",
            "sizes: 99999999999 99999999999 4",
            "too large: 99999999999 x 99999999999 x 4 voxels, the limit is",
        ),
        ("sizes: 4 4 4", "sizes: 4 4 5", "announces 80 bytes of voxels, the file holds 64"),
        ("type: uchar", "type: block", "type must be an integer"),
        ("type: uchar\n", "", "no field 'type'"),
        ("type: uchar", "type: uchar\nblock size: 3", "no such field as 'block size'"),
        ("type: uchar", "type: uchar\nline skip: 1", "'line skip'"),
        ("type: uchar", "type: uchar\nbyte skip: 99", "'byte skip'"),
        ("type: uchar", "type: uchar\nspace dimension: 3\nspace origin: (nan,0,0)", "'space origin'"),
        ("type: uchar", "type: uchar\nspace dimension: 3\nspace origin: (inf,0,0)", "'space origin'"),
        ("type: uchar", "type: uchar\nspace: RAS\nspace directions: (1,0,1e308) (0,1,0) (0,0,1)", "'space directions'"),
        ("type: uchar", "type: uchar\nTYPE: float", "two fields 'type'"),
        ("type: uchar", "type: uchar\rtype: float", "control characters"),
        ("type: uchar", "type: uchar\x00", "control characters"),
        ("NRRD0004", "NRRD0009", "expected it to begin with NRRD"),
        ("encoding: raw", "encoding: gzip", "expected its voxels to be a gzip stream"),
    ],
)
def test_a_wrong_nrrd_header_is_refused_in_one_sentence(tmp_path, old, new, sentence):
    with pytest.raises(VolumeError, match=sentence) as refusal:
        read_volume(nrrd(tmp_path, NRRD.replace(old, new)))
    assert "\n" not in str(refusal.value)


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


def test_headers_have_an_end(tmp_path):
    few = Limits(header_bytes=1000, line_bytes=300, header_lines=20)
    for text, name in [
        ("k:=" + "v" * 400 + "\n", "LINE_BYTES"),
        ("k:=v\n" * 30, "HEADER_LINES"),
        (("# " + "c" * 200 + "\n") * 9, "HEADER_BYTES"),
    ]:
        with pytest.raises(VolumeError, match=f"MONAI_SAM_MAX_{name}"):
            check_header(nrrd(tmp_path, NRRD + text), few)


# ---- detached data --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize(
    "named",
    [
        *(
            "/etc/passwd",
            "/dev/zero",
            "/nonexistent",
            "../secret.raw",
            "secret.raw",
            "missing.raw",
            "link.raw",
            "folder/x.raw",
        ),
        *("LIST", "a%03d.raw 0 9 1", "a.raw extra", "a.nii.gz", "-", "./../secret.raw", "a.raw/../../secret.raw"),
    ],
)
def test_no_header_reads_another_file(tmp_path, ending, named):
    """The same sentence whether there is such a file or not."""
    (tmp_path.parent / "secret.raw").write_bytes(bytes(64))
    (tmp_path / "secret.raw").write_bytes(bytes(64))
    if named == "link.raw":
        (tmp_path / "a.raw").symlink_to(tmp_path / "secret.raw")
        named = "a.raw"
    with pytest.raises(VolumeError) as refusal:
        read_volume(detached(tmp_path, ending, named))
    where = "in the file itself" if ending in (".nrrd", ".mha") else "beside it in a.raw, a.zraw or a.raw.gz"
    sentence = (
        f"cannot read {tmp_path / f'a{ending}'}: it has detached data; its voxels must lie {where}, save it in one file"
    )
    assert str(refusal.value) == sentence


def detached(folder: Path, ending: str, named: str) -> Path:
    is_nrrd = ending in (".nrrd", ".nhdr")
    text = f"{NRRD}data file: {named}\n" if is_nrrd else META.replace("LOCAL", named)
    return write(folder / f"a{ending}", text, b"", end="")


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
@pytest.mark.parametrize("named", ["a.raw", "./a.raw", "a.RAW"])
def test_a_header_reads_the_file_of_its_own_name_beside_it(tmp_path, ending, named):
    (tmp_path / named.removeprefix("./")).write_bytes(bytes(range(64)))
    assert read_volume(detached(tmp_path, ending, named)).array.max() == 63
    (tmp_path / named.removeprefix("./")).write_bytes(bytes(63))
    with pytest.raises(VolumeError, match="announces 64 bytes of voxels, the file holds 63"):
        read_volume(detached(tmp_path, ending, named))


def test_a_file_that_was_checked_is_not_read_as_another_format(tmp_path):
    """ITK would choose its reader by content."""
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 4, 4), np.uint8)), str(tmp_path / "a.nrrd"))
    (tmp_path / "b.mha").write_bytes((tmp_path / "a.nrrd").read_bytes())
    with pytest.raises(VolumeError, match="damaged"):
        read_volume(tmp_path / "b.mha")


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "a.nrrd")
    with pytest.raises(VolumeError, match="a device or a pipe"):
        read_volume(tmp_path / "a.nrrd")


# ---- NIfTI ----------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".npz"])
def test_a_bomb_is_refused_before_it_is_inflated(tmp_path, ending):
    """A thousandth of the size on disk; the limit counts what it would become."""
    path = write_label(
        np.zeros((200, 100, 100), np.uint8), Volume(np.zeros((200, 100, 100)), np.eye(4)), tmp_path / f"a{ending}"
    )
    assert path.stat().st_size < 20_000
    check_header(path)
    with pytest.raises(VolumeError, match=r"\d+ x \d+ x \d+ voxels, the limit is 1999999 \(MONAI_SAM_MAX_VOXELS\)"):
        check_header(path, Limits(voxels=1_999_999))
    with pytest.raises(VolumeError, match="2000000 bytes of voxels, the limit is 1999999"):
        check_header(path, Limits(data_bytes=1_999_999))


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_a_header_cannot_announce_more_than_its_stream_could_hold(tmp_path, ending):
    text = NRRD.replace("raw", "gzip").replace("4 4 4", "400 400 400") + "\n"
    header = nib.Nifti1Header()
    header.set_data_shape((400, 400, 400))
    header.set_data_dtype(np.uint8)
    content = (
        gzip.compress(header.binaryblock + bytes(4)) if ending == ".nii.gz" else text.encode() + gzip.compress(b"")
    )
    (tmp_path / f"a{ending}").write_bytes(content)
    with pytest.raises(VolumeError, match=r"announces 64000000 bytes of voxels, too many for \d+ compressed bytes"):
        check_header(tmp_path / f"a{ending}")


@given(
    data=st.binary(max_size=2000),
    repeats=st.integers(1, 3000),
    wanted=st.integers(0, 4_000_000),
    header=st.sampled_from([15, 31]),
)
def test_a_stream_is_counted_up_to_what_is_wanted(data, repeats, wanted, header):
    compressor = zlib.compressobj(wbits=header)
    stream = compressor.compress(data * repeats) + compressor.flush()
    for behind in (b"", b"more"):
        assert inflated_length(io.BytesIO(stream + behind), wanted, len(stream)) == min(wanted, len(data) * repeats)


# ---- arrays ---------------------------------------------------------------------------------------------------------


def npy_header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (npy_header((10**6, 10**6, 10**6)), "too large"),
        (npy_header((400, 400, 400)), "announces 64000000 bytes of voxels, the file holds 8"),
        (npy_header((2, 2, 2), "|O"), "expected an array of numbers"),
        (npy_header((0, 2, 2)), "must have voxels"),
        (npy_header((-2, 2, 2)), "must have voxels"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{", "expected the header of a plain array"),
        (b"\x93NUMPY\x09\x00", "expected the header of a plain array"),
        (npy_header((2, 2, 2)).replace(b"}", b"("), "expected the header of a plain array"),
        (npy_header((2, 2, 2)).replace(b"(2, 2, 2)", b"[[2, 2]] "), "expected the header of a plain array"),
    ],
)
@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_a_wrong_array_is_refused(tmp_path, content, sentence, ending):
    path = tmp_path / f"a{ending}"
    if ending == ".npy":
        path.write_bytes(content + bytes(8))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("imgs.npy", content + bytes(8))
    with pytest.raises(VolumeError, match=sentence):
        read_volume(path)


def test_an_archive_has_so_many_entries(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for number in range(5):
            archive.writestr(f"{number}", b"")
    with pytest.raises(VolumeError, match="5 entries, the limit is 4"):
        check_header(tmp_path / "a.npz", Limits(entries=4))


def test_what_is_not_read_of_an_archive_may_be_anything(tmp_path):
    np.savez(tmp_path / "a.npz", imgs=np.zeros((2, 3, 4), np.uint8), about=np.array({"a": 1}, object))
    assert read_volume(tmp_path / "a.npz").shape == (4, 3, 2)


def whole(chunk: list[int]) -> dict[str, object]:
    return {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}}}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"shape": [10**6, 10**6, 10**6]}, "too large"),
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10**6, 10**6, 1]}}}, "chunks of"),
        ({"codecs": [{"name": "numcodecs.pickle"}]}, r"codecs must be .* got \['numcodecs.pickle'\]"),
        ({"data_type": "object"}, "array of numbers"),
        ({"data_type": {"name": "x"}}, "expected a shape"),
        ({"shape": [3000, 3, 4]}, "3000 chunks, the limit is 2048"),
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 3]}}}, "must have 3 sizes"),
        ({"shape": [500, 1000, 1000], **whole([500, 1000, 1000])}, "its chunks are"),
        ({"fill_value": 10**30}, "damaged"),
        ({"consolidated_metadata": {"kind": "inline"}}, "one array or group"),
    ],
)
def test_a_wrong_zarr_array_is_refused(tmp_path, change, sentence):
    write_zarr(tmp_path / "a.zarr", {"imgs": np.zeros((2, 3, 4), np.uint8)}, spacing=[1, 1, 1])
    check_header(tmp_path / "a.zarr")
    file = tmp_path / "a.zarr" / "imgs" / "zarr.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(VolumeError, match=sentence):
        read_volume(tmp_path / "a.zarr")


@pytest.mark.parametrize("affine", [[["liver"] * 4] * 4, [[{}] * 4] * 4, [[10**400] * 4] * 4, [[1, 2], [3]], {}])
@pytest.mark.parametrize("name", ["affine", "spacing"])
def test_the_place_of_a_zarr_array_is_numbers(tmp_path, name, affine):
    write_zarr(tmp_path / "a.zarr", {"imgs": np.zeros((2, 3, 4), np.uint8)}, **{name: affine})
    with pytest.raises(VolumeError):
        read_volume(tmp_path / "a.zarr")


def test_the_unpickling_filter_of_old_zarr_is_refused(tmp_path):
    (tmp_path / "a.zarr" / "imgs").mkdir(parents=True)
    (tmp_path / "a.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    array = {"zarr_format": 2, "shape": [2, 2, 2], "chunks": [2, 2, 2], "dtype": "|O", "compressor": None}
    array |= {"filters": [{"id": "pickle", "protocol": 5}], "fill_value": None, "order": "C"}
    (tmp_path / "a.zarr" / "imgs" / ".zarray").write_text(json.dumps(array))
    with pytest.raises(VolumeError, match="got \\['pickle'\\]"):
        read_volume(tmp_path / "a.zarr")


# ---- pictures and DICOM ---------------------------------------------------------------------------------------------


def test_pictures_have_a_size_and_so_many_pages(tmp_path):
    pages = [Image.fromarray(np.zeros((30, 20), np.uint8)) for _ in range(4)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    check_header(tmp_path / "a.tif")
    for limits, sentence in [
        (Limits(picture_pixels=599), "600 pixels on a page, the limit is 599"),
        (Limits(pages=3), "more pages, the limit is 3"),
        (Limits(voxels=2399), "2400 pixels on 4 pages, the limit is 2399"),
    ]:
        with pytest.raises(VolumeError, match=sentence):
            check_header(tmp_path / "a.tif", limits)


def test_a_picture_that_pillow_calls_a_bomb_is_called_too_large(tmp_path):
    Image.new("1", (20_000, 10_000)).save(tmp_path / "a.png")
    with pytest.raises(VolumeError, match="too large: more pixels on a page, the limit is 178956970"):
        read_volume(tmp_path / "a.png")


def test_a_picture_is_not_handed_to_other_programs(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(VolumeError, match="damaged"):
        read_volume(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        # 13,000 x 13,000 pixels in 80 bytes, 2700 x 65,500 in 188; then an EXIF, an ICC profile, a chunk amiss.
        (
            "a.png",
            ("iVBORw0KGgoAAAANSUhEUgAAMsgAADLICAAAAADHybfkAAAAEElEQVR4AWNgYKg/wMDAAAAFgwFArvK9DgAAAABJRU5ErkJggg=="),
            "too many for",
        ),
        (
            "a.jpg",
            (
                "/9j/4QAhRXhpZgAASUkqAAgAAAABABIBAwABAAAABgAAAAAAAP/gABBKRklGAAEBAAABAAEAAP/bAEMACAYGBwYFCA"
                "cHBwkJCAoMFA0MCwsMGRITDxQdGh8eHRocHCAkLicgIiwjHBwoNyksMDE0NDQfJzk9ODI8LjM0Mv/AAAsICoz/3AEB"
                "EQD/xAAfAAABBQEBAQEBAQAAAAAAAAAAAQIDBAUGBwgJCgv/2gAIAQEAAD8A8QgA8ocV/9k="
            ),
            "too many for",
        ),
        (
            "a.tif",
            (
                "SUkqAAgAAAAJAAABBAABAAAAyDIAAAEBBAABAAAAyDIAAAIBAwABAAAACAAAAAMBAwABAAAAAgAAAAYBAwABAAAAAQ"
                "AAABEBBAABAAAACAAAABUBAwABAAAAAQAAABYBBAABAAAAyDIAABcBBAAAAAAAQLwSCgAAAAAAAAAAAAAAAAAAAAAA"
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
            ),
            "too many for",
        ),
        (
            "a.png",
            (
                "iVBORw0KGgoAAAANSUhEUgAAAAQAAAADBAMAAABG2rP1AAAACGVYSWYZVhCbJrsh9lZtdJwAAAAeUExURQABAgMEBQ"
                "YHCAkKCwwNDg8QERITFBUWFxgZGhscHXJKDocAAAARSURBVHicY2BQYmJgYGJiAAABDQApBZgGtAAAAABJRU5ErkJg"
                "gg=="
            ),
            "damaged",
        ),
        (
            "a.png",
            ("iVBORw0KGgoAAAANSUhEUgAAAAQAAAADCAYAAAC09K7GAAAAEklEQVR4nGNkYGBgYEMCTAQBABBwAI4dhEvWAAAAAGlDQ1CliRk+"),
            "damaged",
        ),
        (
            "a.png",
            (
                "iVBORw0KGgoAAAANSUhEUgAAAAQAAAADCAIAAAA7ljmRAAAAFElEQVR4AWNkYGQSggEmNiQA5wAAFy8BI1FT/s8AAA"
                "AASUVOrkJggg=="
            ),
            "damaged",
        ),
    ],
)
def test_a_picture_that_is_too_large_for_its_file_or_damaged_is_refused(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(base64.b64decode(content))
    with pytest.raises(VolumeError, match=sentence):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "group4", "jpeg"])
@pytest.mark.parametrize("mode", ["1", "L"])
def test_a_blank_picture_passes_in_every_compression(tmp_path, compression, mode):
    if (compression, mode) in (("group4", "L"), ("jpeg", "1")):
        return
    Image.new(mode, (3000, 2000)).save(tmp_path / "a.tif", compression=compression)
    check_header(tmp_path / "a.tif")
    for name in ("a.png", "a.jpg"):
        Image.new(mode, (3000, 2000)).save(tmp_path / name, optimize=True)
        check_header(tmp_path / name)


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


@pytest.mark.parametrize(
    ("ending", "line"),
    [
        ("nrrd", "space dimension: 5\nspace directions: " + f"({','.join(['1' * 20] * 5)}) " * 5 + "x"),
        ("nrrd", "spacings: " + f"{'1' * 40} " * 5 + "x"),
        ("nrrd", "k:= " + " " * 60_000 + "v"),
        ("mha", "own = a" + " " * 30_000 + "b"),
        ("mha", "TransformMatrix =" + f" {'1' * 40}" * 9 + " x"),
        ("mha", " " * 60_000 + "NDims"),
    ],
)
def test_no_header_takes_long_to_look_at(tmp_path, ending, line):
    """Seconds of CPU, which another program's work does not lengthen; these take a thousandth."""
    text = f"{NRRD}{line}\n\n" if ending == "nrrd" else f"{line}\n{META}"
    begin = time.process_time()
    with contextlib.suppress(VolumeError):
        check_header(write(tmp_path / f"a.{ending}", text))
    assert time.process_time() - begin < 1


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


@pytest.mark.parametrize("spacing", [2.0, [1, 2], [-1, 1, 1], [0, 1, 1], [np.nan, 1, 1]], ids=str)
def test_a_spacing_beside_an_array_is_three_numbers_above_0(tmp_path, spacing):
    np.savez(tmp_path / "a.npz", imgs=np.zeros((3, 4, 5), np.uint8), spacing=spacing)
    with pytest.raises(VolumeError, match=r"expected a spacing \(x, y, z\) of three numbers above 0"):
        read_volume(tmp_path / "a.npz")


def test_pages_in_a_circle_are_counted_once(tmp_path):
    """tifffile would go round them forever to find out what they have in common."""
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 4, 5), np.uint8), photometric="minisblack", metadata=None)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        second, last = tiff.pages[1].offset, tiff.pages[2].offset
    end = last + 2 + 12 * int.from_bytes(content[last : last + 2], "little")
    content[end : end + 4] = second.to_bytes(4, "little")
    (tmp_path / "a.tif").write_bytes(content)
    with contextlib.suppress(VolumeError):
        assert read_volume(tmp_path / "a.tif").shape == (5, 4, 3)


def test_a_tiff_of_wide_values_has_room_for_them(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.float64), photometric="minisblack", metadata=None)
    content = (tmp_path / "a.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        places = [tiff.pages[0].tags[name].valueoffset for name in ("ImageWidth", "ImageLength")]
    for place in places:
        content = content[:place] + (9000).to_bytes(2, "little") + content[place + 2 :]
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(VolumeError):
        read_volume(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("space", "is_known"),
    [("RPI", False), ("left-posterior-inferior", False), ("rast", True), ("3D-left-handed", True)],
)
def test_a_nrrd_lies_in_a_space_that_the_format_knows(tmp_path, space, is_known):
    head = f"NRRD0005\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\nspace: {space}\n\n"
    (tmp_path / "a.nrrd").write_bytes(head.encode() + bytes(8))
    with contextlib.nullcontext() if is_known else pytest.raises(VolumeError, match="'space' of its header"):
        check_header(tmp_path / "a.nrrd")


def test_a_matrix_without_three_directions_is_named(tmp_path):
    head = "NDims = 3\nDimSize = 2 2 2\nTransformMatrix = 1 0 0 2 0 0 0 0 1\nElementType = MET_UCHAR\n"
    (tmp_path / "a.mha").write_bytes(f"{head}ElementDataFile = LOCAL\n".encode() + bytes(8))
    with pytest.raises(VolumeError, match="TransformMatrix must give each axis a direction of its own"):
        check_header(tmp_path / "a.mha")


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
