"""Slices are upright, and every pixel knows its voxel."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from scipy.spatial.transform import Rotation

from bundle.transforms.frames import PLANES, FrameError, SliceFrame, nearest_index

SIZES = st.tuples(*[st.integers(1, 7)] * 3)


@st.composite
def affines(draw, shape: tuple[int, int, int] = (5, 5, 5)) -> np.ndarray:
    """Any permutation, flip, rotation, spacing and origin."""
    spacing = np.array([draw(st.floats(0.2, 9)) for _ in range(3)])
    angles = [draw(st.floats(-180, 180)) for _ in range(3)]
    axes = np.eye(3)[list(draw(st.permutations(range(3))))] * [draw(st.sampled_from([-1, 1])) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ axes * spacing
    affine[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    return affine


@given(SIZES, affines(), st.sampled_from(PLANES), st.data())
@settings(max_examples=60, deadline=None)
def test_a_slice_put_back_is_the_slice_that_was_cut(shape, affine, plane, data):
    frame = SliceFrame.of_plane(shape, affine, plane)
    volume = np.random.default_rng(0).integers(0, 1000, shape)
    index = data.draw(st.integers(0, frame.depth - 1))
    assert frame.extract(volume, index).shape == (frame.height, frame.width)
    rebuilt = np.zeros_like(volume)
    for slice_index in range(frame.depth):
        frame.insert(rebuilt, slice_index, frame.extract(volume, slice_index))
    np.testing.assert_array_equal(rebuilt, volume)


@given(st.floats(-1e6, 1e6), st.integers(1, 2000))
def test_a_position_lies_in_the_voxel_whose_centre_is_nearest(position, size):
    index = int(nearest_index(position, size))
    assert abs(index - position) <= 0.5 + 1e-9


def test_between_two_voxels_the_higher_one_counts_and_behind_the_last_centre_the_last_one():
    positions = [-0.51, -0.5, 0.5, 1.5, 2.5, 3.4, 3.5, 3.51, 4.0]
    assert nearest_index(positions, 4).tolist() == [-1, 0, 1, 2, 3, 3, 3, 4, 4]
    assert nearest_index([[1.5, 2.5, 3.5]], (2, 3, 9)).tolist() == [[1, 2, 4]]


@given(SIZES, affines(), st.integers(0, 2), st.data())
@settings(max_examples=60, deadline=None)
def test_the_pixel_of_a_voxel_shows_its_value(shape, affine, axis, data):
    frame = SliceFrame.along(shape, affine, axis)
    assert frame.slice_axis == axis
    volume = np.arange(np.prod(shape)).reshape(shape)
    voxel = tuple(data.draw(st.integers(0, size - 1)) for size in shape)
    xy, index = frame.to_pixels(np.array([voxel]))
    x, y = xy[0].astype(int)
    assert frame.extract(volume, index[0])[y, x] == volume[voxel]


@given(SIZES, affines(), st.integers(0, 2), st.data())
@settings(max_examples=60, deadline=None)
def test_a_position_lies_in_the_pixel_of_the_voxel_that_it_lies_in(shape, affine, axis, data):
    """Also between two voxels, and at both ends of the volume, whichever way the slice is mirrored."""
    frame = SliceFrame.along(shape, affine, axis)
    point = np.array([data.draw(st.integers(-1, 2 * size - 1)) / 2 for size in shape])  # each half and each whole
    voxel = nearest_index(point, shape)
    xy, index = frame.to_pixels(point)
    (x, y), (expected,) = nearest_index(xy[0], (frame.width, frame.height)), frame.to_pixels(voxel)[0]
    assert [x, y] == expected.astype(int).tolist() and index[0] == voxel[axis]
    pixel = np.array([data.draw(st.integers(-1, 2 * size - 1)) / 2 for size in (frame.width, frame.height)])
    back = nearest_index(frame.to_voxels(pixel, 0)[0], shape)
    assert (
        back.tolist() == frame.to_voxels(nearest_index(pixel, (frame.width, frame.height)), 0)[0].astype(int).tolist()
    )


@given(SIZES, affines(), st.sampled_from(PLANES), st.data())
@settings(max_examples=60, deadline=None)
def test_to_voxels_undoes_to_pixels(shape, affine, plane, data):
    frame = SliceFrame.of_plane(shape, affine, plane)
    points = np.array(data.draw(st.lists(st.tuples(*[st.integers(-3, 9)] * 3), min_size=1, max_size=4)), float)
    xy, index = frame.to_pixels(points)
    np.testing.assert_allclose(frame.to_voxels(xy, index), points)


@given(affines())
@settings(max_examples=60, deadline=None)
def test_pixels_run_against_the_nearest_world_axes(affine):
    """Down is posterior (axial) or inferior, right is the patient's left (axial, coronal) or posterior."""
    for plane, (down, right) in {"axial": (1, 0), "coronal": (2, 0), "sagittal": (2, 1)}.items():
        frame = SliceFrame.of_plane((5, 5, 5), affine, plane)
        origin, x_step, y_step = frame.to_voxels(np.array([[0, 0], [1, 0], [0, 1]]), 0) @ affine[:3, :3].T
        orientation = nib.io_orientation(affine)
        assert (orientation[frame.col_axis, 0], orientation[frame.row_axis, 0]) == (right, down)
        assert (x_step - origin)[right] < 0
        assert (y_step - origin)[down] < 0


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SRA", "PIR", "ALI"])
def test_one_patient_looks_the_same_from_every_storage_order(codes):
    patient = np.random.default_rng(1).random((4, 5, 6))
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    stored = nib.apply_orientation(patient, turn)
    stored_affine = affine @ inv_ornt_aff(turn, patient.shape)
    for plane in PLANES:
        frame = SliceFrame.of_plane(stored.shape, stored_affine, plane)
        upright = SliceFrame.of_plane(patient.shape, affine, plane)
        same_place = nib.affines.apply_affine(np.linalg.inv(stored_affine) @ affine, [[1, 2, 3]])
        _, index = frame.to_pixels(same_place)
        _, wanted = upright.to_pixels(np.array([[1, 2, 3]]))
        np.testing.assert_array_equal(frame.extract(stored, index[0]), upright.extract(patient, wanted[0]))
        assert frame.pixel_spacing(nib.affines.voxel_sizes(stored_affine)) == upright.pixel_spacing((2, 3, 4))


def test_a_ras_axial_slice_has_anterior_up_and_right_on_the_left():
    volume = np.zeros((3, 4, 2))
    volume[2, 3, 0] = 1  # most right, most anterior
    assert SliceFrame.of_plane(volume.shape, np.eye(4), "axial").extract(volume, 0)[0, 0] == 1


def test_extract_is_a_view_and_keeps_colours():
    volume = np.zeros((3, 4, 2, 3), np.uint8)
    frame = SliceFrame.of_plane(volume.shape, np.diag([-1, -1, 1, 1]), "axial")
    frame.extract(volume, 1)[1, 2] = (7, 8, 9)
    assert tuple(volume[2, 1, 1]) == (7, 8, 9)


@pytest.mark.parametrize("index", [-1, 2])
def test_a_slice_outside_the_volume_is_refused(index):
    frame = SliceFrame.of_plane((3, 4, 2), np.eye(4), "axial")
    with pytest.raises(FrameError, match="0 to 1"):
        frame.extract(np.zeros((3, 4, 2)), index)


def test_wrong_planes_axes_and_shapes_are_refused():
    frame = SliceFrame.of_plane((3, 4, 2), np.eye(4), "axial")
    with pytest.raises(FrameError, match="axial"):
        SliceFrame.of_plane((3, 4, 2), np.eye(4), "transverse")
    with pytest.raises(FrameError, match="axis must be"):
        SliceFrame.along((3, 4, 2), np.eye(4), 3)
    with pytest.raises(FrameError, match="shape"):
        frame.extract(np.zeros((3, 4, 3)), 0)
    with pytest.raises(FrameError, match="picture"):
        frame.insert(np.zeros((3, 4, 2)), 0, np.zeros((3, 4)))
