"""NRRD is read without ITK, and comes out as ITK has it."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.data.formats.itk import affine_of, from_itk
from bundle.data.formats.nrrd import read_nrrd
from bundle.data.formats.stored import Stored
from bundle.data.grid import check_grid
from bundle.data.volume import VolumeError, read_label, read_volume, write_label

TYPES = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64)
NAMES = {"<i2": "short", ">i2": "int16", "u1": "uchar", ">f4": "float"}
DIRECTIONS = "space directions: (1,.1,0) (0,2,0) (0,-1,3)\nspace origin: (1,2,3)\n"


def write(folder: Path, lines: str, sizes: str = "2 3 4", dtype: str = "<i2", encoding: str = "raw") -> Path:
    """A file of the numbers from 0."""
    data = np.arange(np.prod([int(size) for size in sizes.split()])).astype(dtype).tobytes()
    head = f"type: {NAMES[dtype]}\ndimension: {len(sizes.split())}\nsizes: {sizes}\nencoding: {encoding}\n"
    head += f"endian: {'big' if dtype[0] == '>' else 'little'}\n"
    path = folder / "a.nrrd"
    path.write_bytes(f"NRRD0005\n{head}{lines}\n".encode() + (data if encoding == "raw" else gzip.compress(data)))
    return path


def by_itk(path: Path) -> Stored:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO")
    reader.SetFileName(str(path))
    return from_itk(reader.Execute())


def check_as_itk(path: Path) -> None:
    ours, theirs = read_nrrd(path), by_itk(path)
    np.testing.assert_allclose(ours.affine, theirs.affine, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(ours.array, theirs.array)
    assert ours.array.dtype == theirs.array.dtype


@given(
    shape=st.lists(st.integers(1, 6), min_size=2, max_size=3),
    dtype=st.sampled_from(TYPES),
    ending=st.sampled_from(["nrrd", "nhdr"]),
    compress=st.booleans(),
    channels=st.sampled_from([1, 3, 4]),
    spacing=st.lists(st.floats(0.1, 9), min_size=3, max_size=3),
    angle=st.floats(-3, 3),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_itk_writes_is_read_as_itk_reads_it(tmp_path, shape, dtype, ending, compress, channels, spacing, angle):
    full = [*shape, channels] if channels > 1 else shape
    image = sitk.GetImageFromArray(np.arange(np.prod(full)).reshape(full).astype(dtype), isVector=channels > 1)
    image.SetSpacing(spacing[: len(shape)])
    image.SetOrigin(spacing[::-1][: len(shape)])
    turn = np.eye(len(shape))
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    image.SetDirection(turn.ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / f"a.{ending}"), compress)
    check_as_itk(tmp_path / f"a.{ending}")


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize("dtype", sorted(NAMES))
@pytest.mark.parametrize(
    ("sizes", "lines"),
    [
        ("2 3 4", ""),
        ("2 3 4", "spacings: 1 .5 nan\n"),
        ("2 3 4", "spacings: -1 .5 2\n"),
        ("2 3 4", "axis mins: 1 2 3\nspacings: 1 .5 2\n"),
        ("2 3 4", "axis mins: 1 2 3\nspacings: 1 .5 2\ncenters: node node node\n"),
        ("2 3 4", f"space: LPS\n{DIRECTIONS}"),
        ("2 3 4", f"space: right-anterior-superior\n{DIRECTIONS}"),
        ("2 3 4", f"space: RAS\n{DIRECTIONS}"),
        ("2 3 4", f"space: LAS\n{DIRECTIONS}"),
        ("2 3 4", f"space: scanner-xyz\n{DIRECTIONS}"),
        ("2 3 4", f"space dimension: 3\n{DIRECTIONS}"),
        ("2 3 4", "space dimension: 3\nspace origin: (1,2,3)\n"),
        ("3 4", "space dimension: 2\nspace directions: (0,2) (1,0)\nspace origin: (1,2)\n"),
        ("2 3 4 1", "spacings: 2 3 1 1\n"),
        ("3 2 3 4", "space: RAS\nspace directions: none (1,0,0) (0,2,0) (0,0,3)\nkinds: list space space space\n"),
        ("2 3 4 3", "space: RAS\nspace directions: (1,0,0) (0,2,0) (0,0,3) none\nkinds: space space space RGB-color\n"),
    ],
)
def test_the_fields_of_the_format_mean_what_itk_takes_them_for(tmp_path, sizes, lines, dtype, encoding):
    check_as_itk(write(tmp_path, lines, sizes, dtype, encoding))


@pytest.mark.parametrize(
    ("sizes", "lines", "sentence"),
    [
        ("2 3 4", "axis maxs: 3 3 3\n", "axis 1 has one end and no spacing"),
        ("2 3 4", "spacings: 1 1 1\naxis mins: 0 0 0\naxis maxs: 2 3 5\n", "axis 3 has the spacing 1 and ends .* 1.25"),
        ("1 3 4", "axis mins: 0 0 0\naxis maxs: 3 3 3\ncenters: node node node\n", "axis 1 has one end"),
        ("2 3 4", "space: LPS\nspacings: 1 2 3\n", "give space directions"),
        ("2 3 4", f"space: LPS\n{DIRECTIONS}spacings: 4 4 4\n", "remove the spacings"),
        ("3 4", "space: LPS\nspace directions: (0,2,0) (0,0,3)\n", "vectors must have 2 numbers"),
        ("2 3 4 2", "", "one file per volume"),
        ("2 2 3 4", "kinds: vector space space space\n", "got 2 values"),
    ],
)
def test_axes_that_make_no_volume_are_refused(tmp_path, sizes, lines, sentence):
    with pytest.raises(VolumeError, match=sentence):
        read_volume(write(tmp_path, lines, sizes))


@pytest.mark.parametrize(
    ("lines", "spacing", "origin"),
    [
        ("axis mins: 0 0 0\naxis maxs: 3 3 3\n", (1.5, 1, 0.75), (0.75, 0.5, 0.375)),
        ("axis mins: 0 0 0\naxis maxs: 3 3 3\ncenters: node node node\n", (3, 1.5, 1), (0, 0, 0)),
        ("axis mins: 9 0 1\naxis maxs: 3 3 3\ncenters: cell node cell\n", (-3, 1.5, 0.5), (7.5, 0, 1.25)),
        ("spacings: 1 1 1\naxis mins: 1 1 1\naxis maxs: 3 4 5\n", (1, 1, 1), (1.5, 1.5, 1.5)),
        ("axis mins: 0 nan 0\naxis maxs: 3 nan 3\n", (1.5, 1, 0.75), (0, 0, 0)),
    ],
)
def test_the_ends_of_an_axis_make_its_spacing(tmp_path, lines, spacing, origin):
    """Cells reach from border to border, nodes from centre to centre; ITK takes every spacing for 1 here."""
    expected = np.diag([-1.0, -1, 1, 1]) @ np.diag([*spacing, 1.0])
    expected[:3, 3] = np.array([-1, -1, 1]) * origin
    np.testing.assert_allclose(read_volume(write(tmp_path, lines)).affine, expected)


@pytest.mark.parametrize(
    ("words", "mm"),
    [('"um" "um" "um"', 1e-3), ('"µm" "Microns" "micrometer"', 1e-3), ('"cm" "cm" "cm"', 10), ('"nm" "nm" "nm"', 1e-6)],
)
def test_lengths_become_mm_and_answers_lie_where_itk_shows_the_image(tmp_path, words, mm):
    directions = "(-20,0,0) (0,30,0) (0,0,50)"
    path = write(tmp_path, f"space: LPS\nspace directions: {directions}\nspace origin: (9,8,7)\nspace units: {words}\n")
    image = read_volume(path)
    np.testing.assert_allclose(image.affine, np.diag([mm, mm, mm, 1]) @ affine_of(sitk.ReadImage(str(path))))
    for name in ("a.nrrd", "a.mha", "a.mhd"):
        answer = write_label(np.ones(image.shape, np.uint8), image, tmp_path / name)
        np.testing.assert_allclose(affine_of(sitk.ReadImage(str(answer))), image.other_affine)
        np.testing.assert_allclose(read_label(answer).affine, image.affine)
        assert read_label(answer).array.all()


def test_the_units_of_axes_count_where_voxels_lie_along_them(tmp_path):
    assert read_volume(write(tmp_path, 'spacings: 1 2 3\nunits: "cm" "cm" "cm"\n')).spacing.tolist() == [10, 20, 30]


def test_a_label_that_itk_drew_on_an_image_in_micrometres_lies_on_it(tmp_path):
    image = read_volume(write(tmp_path, 'spacings: 500 500 500\nunits: "um" "um" "um"\n'))
    drawn = sitk.GetImageFromArray(np.ones(image.shape[::-1], np.uint8))
    drawn.CopyInformation(sitk.ReadImage(str(image.source)))
    sitk.WriteImage(drawn, str(tmp_path / "label.nii.gz"))
    np.testing.assert_allclose(check_grid(image, read_label(tmp_path / "label.nii.gz")).affine, image.affine)


@pytest.mark.parametrize("words", ['"mm" "mm" "µm"', '"m" "" "m"', '"in" "in" "pixel"'])
def test_units_that_are_not_those_of_all_axes_are_refused(tmp_path, words):
    with pytest.raises(VolumeError, match=r"its lengths are in .* on some axes only"):
        read_volume(write(tmp_path, f"space: LPS\nspace units: {words}\n"))


@pytest.mark.parametrize("units", ['"mm" "mm" "mm"', '"" "" ""', '"pixel" "pixel" "s"'])
def test_other_units_are_no_lengths(tmp_path, units):
    assert read_volume(write(tmp_path, f"spacings: 1 2 3\nunits: {units}\n")).spacing.tolist() == [1, 2, 3]


@pytest.mark.parametrize("name", ["content", "labels", "units", "space units", "sample units", "number", "min", "max"])
@pytest.mark.parametrize("text", ["{}", '"{}"', '"{}" "mm" "mm"'])
def test_long_words_in_a_free_text_do_no_harm(tmp_path, name, text):
    """Some of these ended ITK, and the process with it."""
    assert read_volume(write(tmp_path, f"{name}: {text.format('x' * 4000)}\n")).array.max() == 23


def test_voxels_at_the_end_of_the_file_are_found(tmp_path):
    path = write(tmp_path, "byte skip: -1\n")
    content = path.read_bytes()
    path.write_bytes(content[:-48] + b"something else" + content[-48:])
    np.testing.assert_array_equal(read_volume(path).array.ravel(order="F"), np.arange(24))


def test_a_wrong_sum_of_the_stream_is_damage(tmp_path):
    path = write(tmp_path, "", encoding="gzip")
    content = path.read_bytes()
    path.write_bytes(content[:-8] + bytes(4) + content[-4:])
    with pytest.raises(VolumeError, match="damaged"):
        read_volume(path)


@pytest.mark.real_data
def test_real_files_are_read_as_itk_reads_them(real_data):
    files = [*(real_data / "pyradiomics-mr").glob("*.nrrd")]
    assert files
    for file in files:
        check_as_itk(file)
