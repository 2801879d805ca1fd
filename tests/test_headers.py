"""Good files of every writer pass the check of their header; hostile ones get a sentence and reach no library."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import time
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from header_files import META, NRRD, TYPES, nrrd, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.data.headers import check_header
from bundle.data.headers.claims import inflated_length
from bundle.data.limits import Limits
from bundle.data.volume import Volume, VolumeError, read_volume, write_label, write_volume

COMMON = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEGMENTS = (
    "NRRD0004\n# Complete NRRD file format specification at:\ntype: unsigned char\ndimension: 4\n"
    "space: left-posterior-superior\nsizes: 2 4 4 4\nspace directions: none (0.5,0,0) (0,0.5,0) (0,0,-1e-1)\n"
    "kinds: list domain domain domain\nencoding: gzip\nspace origin: (-1.5,2,3)\n"
    "measurement frame: (1,0,0) (0,1,0) (0,0,1)\n"
    "Segment0_Name:=liver: left\nSegment0_Color:=0.5 0.2 0.1\nSegmentation_ConversionParameters:="
    + "Collapse labelmaps|1|Merge the labelmaps into as few shared labelmaps as possible&" * 60
    + "\n"
)


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


def test_a_segmentation_of_slicer_passes(tmp_path):
    check_header(write(tmp_path / "a.seg.nrrd", SEGMENTS, gzip.compress(bytes(128))))


@pytest.mark.parametrize("text", [NRRD.replace("\n", "\r\n"), META.replace("\n", "\r\n")])
def test_line_ends_of_windows_pass(tmp_path, text):
    ending = "nrrd" if text.startswith("NRRD") else "mha"
    check_header(write(tmp_path / f"a.{ending}", text, end="\r\n" if ending == "nrrd" else ""))


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
