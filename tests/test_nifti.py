"""A NIfTI file lies where ITK shows it, and every answer lies on it, whichever program reads the two."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from bundle.data.grid import check_grid
from bundle.data.volume import Volume, VolumeError, read_label, read_volume, write_label, write_volume

SHAPE = (7, 6, 5)
CORNERS = np.array([[i, j, k, 1] for i in (0, 6) for j in (0, 5) for k in (0, 4)], float)
COMMON = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def rigid_affines(draw):
    """Turned, mirrored, moved and scaled voxels without shear."""
    angles = draw(st.tuples(*[st.floats(-180, 180)] * 3))
    signs = draw(st.tuples(*[st.sampled_from([1, -1])] * 3))
    spacing = draw(st.tuples(*[st.floats(0.3, 5)] * 3))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * signs * spacing
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    return affine


def save(path: Path, *, qform=None, qcode=0, sform=None, scode=0, units="mm", shape=SHAPE) -> Path:
    image = nib.Nifti1Image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), None)
    image.set_qform(np.eye(4) if qform is None else qform, code=qcode)
    image.set_sform(np.eye(4) if sform is None else sform, code=scode)
    image.header.set_xyzt_units(units)
    nib.save(image, path)
    return path


def in_itk(path: Path) -> np.ndarray:
    """(8, 3) LPS mm of the corners, as an ITK client sees them."""
    image = sitk.ReadImage(str(path))
    return np.array([image.TransformContinuousIndexToPhysicalPoint(corner[:3]) for corner in CORNERS])


def in_nibabel(path: Path) -> np.ndarray:
    return CORNERS @ nib.load(path).affine.T


@given(
    qform=rigid_affines(),
    sform=st.one_of(st.none(), rigid_affines()),
    codes=st.sampled_from([(q, s) for q in range(5) for s in range(5)]),
    units=st.sampled_from(["unknown", "mm", "meter", "micron"]),
)
@COMMON
def test_answers_lie_on_the_image_in_itk_and_nibabel_whatever_the_header_says(tmp_path, qform, sform, codes, units):
    qcode, scode = codes
    sform = qform if sform is None else sform
    path = save(tmp_path / "image.nii.gz", qform=qform, qcode=qcode, sform=sform, scode=scode, units=units)
    volume = read_volume(path)
    labels = np.ones(volume.shape, np.uint8)
    for ending in (".nii.gz", ".nii", ".nrrd", ".mha"):
        answer = write_label(labels, volume, tmp_path / f"answer{ending}")
        np.testing.assert_allclose(in_itk(answer), in_itk(path), atol=2e-3 * volume.spacing.max(), rtol=1e-5)
        if ending.startswith(".nii"):
            np.testing.assert_array_equal(in_nibabel(answer), in_nibabel(path))
        np.testing.assert_array_equal(check_grid(volume, read_label(answer)).affine, volume.affine)


@pytest.mark.parametrize(("units", "mm"), [("micron", 1e-3), ("meter", 1e3), ("mm", 1), ("unknown", 1)])
@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (1, 0), (1, 2)])
def test_lengths_become_mm(tmp_path, units, mm, codes):
    affine = np.diag([-25.0, -25, 30, 1])
    affine[:3, 3] = 500, 600, 700
    path = save(tmp_path / "a.nii", qform=affine, qcode=codes[0], sform=affine, scode=codes[1], units=units)
    np.testing.assert_allclose(read_volume(path).spacing, np.array([25, 25, 30]) * mm, rtol=1e-6)
    np.testing.assert_allclose(read_volume(path).affine[:3, 3], np.array([500, 600, 700]) * mm, rtol=1e-6)


def test_a_header_that_says_two_things_is_spoken_of_once(tmp_path, caplog):
    moved = np.eye(4)
    moved[:3, 3] = 10, -5, 3
    volume = read_volume(save(tmp_path / "a.nii", qform=np.eye(4), qcode=1, sform=moved, scode=2))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "11.58 mm apart" in caplog.text
    np.testing.assert_allclose(volume.affine, np.eye(4), atol=1e-6)
    np.testing.assert_allclose(volume.other_affine, moved)
    caplog.clear()
    assert read_volume(save(tmp_path / "b.nii", qform=moved, qcode=1, sform=moved, scode=2)).other_affine is None
    assert not caplog.records


def test_labels_of_nibabels_reading_and_of_itks_are_both_taken(tmp_path, caplog):
    moved = np.diag([-1.0, 1, 1, 1])
    moved[:3, 3] = 10, -5, 3
    image = read_volume(save(tmp_path / "a.nii", qform=np.eye(4), qcode=1, sform=moved, scode=2))
    array = np.arange(np.prod(SHAPE), dtype=np.uint8).reshape(SHAPE)
    for affine in (np.eye(4), moved):
        nib.save(nib.Nifti1Image(array, affine), tmp_path / "label.nii")
        np.testing.assert_array_equal(check_grid(image, read_label(tmp_path / "label.nii")).array, array)
    assert "by the other of qform and sform" in caplog.text


def test_an_affine_with_shear_survives_and_is_not_shown_without_it(tmp_path):
    affine = np.array([[1, 0.3, 0, -5], [0, 1, 0, 2], [0, 0, 3, 7], [0, 0, 0, 1.0]])
    volume = Volume(np.zeros(SHAPE, np.int16), affine)
    path = write_volume(volume, tmp_path / "a.nii.gz")
    np.testing.assert_allclose(read_volume(path).affine, affine, atol=1e-6)
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(path))


def test_a_sheared_image_with_a_qform_is_answered_where_itk_shows_it(tmp_path):
    affine = np.array([[1, 0.3, 0, -5], [0, 1, 0, 2], [0, 0, 3, 7], [0, 0, 0, 1.0]])
    path = save(tmp_path / "image.nii", qform=affine, qcode=1, sform=affine, scode=1)
    volume = read_volume(path)
    answer = write_label(np.ones(SHAPE, np.uint8), volume, tmp_path / "answer.nrrd")
    np.testing.assert_allclose(in_itk(answer), in_itk(path), atol=1e-4)


@pytest.mark.parametrize("version", [nib.Nifti1Image, nib.Nifti2Image])
def test_both_versions_are_read(tmp_path, version, capfd):
    nib.save(version(np.zeros(SHAPE, np.int16), np.diag([2.0, 3, 4, 1])), tmp_path / "a.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii").spacing, [2, 3, 4])
    assert capfd.readouterr().err == ""


def test_what_is_no_volume_is_named(tmp_path):
    axes = (nib.cifti2.ScalarAxis(["a"]), nib.cifti2.BrainModelAxis.from_mask(np.ones((2, 2, 2)), affine=np.eye(4)))
    nib.save(nib.Cifti2Image(np.zeros((1, 8)), header=axes), tmp_path / "a.dscalar.nii")
    with pytest.raises(VolumeError, match="CIFTI"):
        read_volume(tmp_path / "a.dscalar.nii")


@given(
    values=st.lists(st.integers(1, 250), min_size=1, max_size=6, unique=True),
    kind=st.sampled_from(["uint8", "uint16", "int16", "int8", "int32"]),
)
@COMMON
def test_whole_numbers_come_back_from_behind_a_scale_factor_or_are_refused(tmp_path, values, kind):
    labels = np.zeros(SHAPE)
    labels.flat[: len(values)] = values
    image = nib.Nifti1Image(labels, np.eye(4))
    image.set_data_dtype(kind)
    nib.save(image, tmp_path / "a.nii")
    slope = nib.load(tmp_path / "a.nii").dataobj.slope
    try:
        np.testing.assert_array_equal(read_label(tmp_path / "a.nii").array, labels)
    except VolumeError:
        assert slope > 0.45


def test_an_image_behind_a_scale_factor_is_no_label_map(tmp_path):
    grey = np.random.default_rng(0).normal(60, 20, (20, 20, 20)).clip(0, 117)
    image = nib.Nifti1Image(grey, np.eye(4))
    image.set_data_dtype(np.uint8)
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(VolumeError, match="whole numbers"):
        read_label(tmp_path / "a.nii")


def test_nothing_is_logged_of_a_plain_file(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "bundle")
    affine = np.diag([-0.7, -0.8, 2.5, 1.0])
    read_volume(save(tmp_path / "a.nii", qform=affine, qcode=1, sform=affine, scode=1))
    assert not caplog.records
