"""Tests of where DICOM slices lie; places are those that the tags say, by PS3.3 C.7.6.2.1.1."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from dicom_files import AXIAL, change, numbered, write_enhanced, write_slice, write_stack
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from bundle.data.volume import read_volume
from bundle.errors import VolumeError

LPS_TO_RAS = np.array([-1, -1, 1])


@st.composite
def stacks(draw):
    """An even stack: rotation, pixel spacing, first position, a step not along the normal, an order of files."""
    number = st.floats(-1, 1)
    angles = draw(st.tuples(*[st.floats(0, 360)] * 3))
    rows, columns, _ = Rotation.from_euler("zyx", angles, degrees=True).as_matrix().T
    normal = np.cross(rows, columns)
    count = draw(st.integers(2, 6))
    step = draw(st.floats(0.3, 8)) * (normal + draw(number) * rows + draw(number) * columns)
    first = 200 * np.array(draw(st.tuples(number, number, number)))
    spacing = draw(st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)))
    order = draw(st.permutations(range(count)))
    return np.concatenate([rows, columns]), spacing, first + np.outer(np.arange(count), step), order


def check_places(volume, orientation, spacing, positions):
    """Each slice holds the number of the position that it was written with; every corner lies where its tags say."""
    for k in range(volume.shape[2]):
        position = positions[int(volume.array[0, 0, k])]
        for i, j in ((0, 0), (4, 3)):
            said = position + orientation[:3] * spacing[1] * i + orientation[3:] * spacing[0] * j
            np.testing.assert_allclose((volume.affine @ [i, j, k, 1])[:3], said * LPS_TO_RAS, atol=1e-3)


def text(numbers):
    return [f"{number:.8f}"[:16] for number in numbers]


@settings(max_examples=15)
@given(stacks())
def test_every_voxel_of_a_folder_of_slices_lies_where_the_tags_say(stack):
    orientation, spacing, positions, order = stack
    with tempfile.TemporaryDirectory() as folder:
        for turn, number in enumerate(order):
            tags = {"orientation": text(orientation), "PixelSpacing": text(spacing), "InstanceNumber": turn + 1}
            write_slice(Path(folder, f"{turn}.dcm"), numbered(number), text(positions[number]), **tags)
        volume = read_volume(folder)
    assert sorted(volume.array[0, 0].tolist()) == list(range(len(positions)))
    check_places(volume, orientation, spacing, positions)


@settings(max_examples=25)
@given(stacks())
def test_every_voxel_of_an_enhanced_file_lies_where_its_functional_groups_say(stack):
    orientation, spacing, positions, order = stack
    pixels = np.stack([numbered(number) for number in order])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "enhanced.dcm")
        geometry = {"orientation": text(orientation), "spacing": text(spacing)}
        write_enhanced(path, pixels, [text(positions[number]) for number in order], **geometry)
        volume = read_volume(path)
    assert sorted(volume.array[0, 0].tolist()) == list(range(len(positions)))
    check_places(volume, orientation, spacing, positions)


def test_slices_are_counted_along_the_normal_from_feet_to_head(tmp_path):
    volume = read_volume(write_stack(tmp_path, [(0, 0, -3 * k) for k in range(4)]))
    assert volume.array[0, 0].tolist() == [3, 2, 1, 0]
    np.testing.assert_allclose(volume.affine[:3, 2], [0, 0, 3])


def test_gantry_tilt_gives_a_sheared_affine(tmp_path):
    tilt = np.deg2rad(20)
    places = [(0, 0, 5 * k) for k in range(8)]
    volume = read_volume(write_stack(tmp_path, places, orientation=(1, 0, 0, 0, np.cos(tilt), -np.sin(tilt))))
    np.testing.assert_allclose(volume.affine[:3, 2], [0, 0, 5])
    np.testing.assert_allclose(abs(np.linalg.det(volume.affine)), 5 * np.cos(tilt))


def test_one_slice_is_as_thick_as_its_tag_says(tmp_path):
    write_slice(tmp_path / "a.dcm", numbered(1), SpacingBetweenSlices=0)
    np.testing.assert_allclose(read_volume(tmp_path).spacing, [1, 1, 3])


@pytest.mark.parametrize(
    ("heights", "said"),
    [
        ((0, 3, 6, 12, 15), "1 slice is missing between 2.dcm and 3.dcm"),
        ((0, 12, 15, 18, 21), "3 slices are missing between 0.dcm and 1.dcm"),
        ((0, 3, 6, 7.5, 10.5), "the one from 2.dcm to 3.dcm is another"),
    ],
)
def test_uneven_slices_are_refused_and_named(tmp_path, heights, said):
    write_stack(tmp_path, [(0, 0, z) for z in heights])
    with pytest.raises(VolumeError, match=said):
        read_volume(tmp_path)


def test_steps_of_one_length_and_several_directions_are_refused(tmp_path):
    write_stack(tmp_path, [((k % 2) * 2, 0, 3 * k) for k in range(6)])
    with pytest.raises(VolumeError, match="evenly spaced"):
        read_volume(tmp_path)


def test_rounded_positions_are_even(tmp_path):
    volume = read_volume(write_stack(tmp_path, [(0, 0, round(0.625 * k, 1)) for k in range(9)]))
    np.testing.assert_allclose(volume.spacing[2], 0.625)


def test_rows_and_columns_at_another_than_a_right_angle_are_refused(tmp_path):
    write_slice(tmp_path / "a.dcm", numbered(1), orientation=(1, 0, 0, 0.5, 0.5, 0))
    with pytest.raises(VolumeError, match=r"a\.dcm must be at right angles"):
        read_volume(tmp_path)


def test_frames_without_a_place_are_stacked_as_stored_with_a_warning(tmp_path, caplog):
    pixels = np.stack([numbered(number) for number in (2, 0, 1)])
    write_slice(tmp_path / "us.dcm", pixels, None, NumberOfFrames=3, Modality="US")
    volume = read_volume(tmp_path / "us.dcm")
    assert volume.array[0, 0].tolist() == [2, 0, 1]
    assert "does not say where its 3 frames lie" in caplog.text


def test_a_reconstructed_nuclear_scan_counts_its_slices_from_the_first(tmp_path):
    from pydicom.dataset import Dataset

    detector = Dataset()
    detector.ImagePositionPatient, detector.ImageOrientationPatient = [-10, -20, 5], list(AXIAL)
    pixels = np.stack([numbered(number) for number in range(3)])
    tags = {"NumberOfFrames": 3, "SliceVector": [1, 2, 3], "SpacingBetweenSlices": 4, "PixelSpacing": [2, 2]}
    write_slice(tmp_path / "nm.dcm", pixels, None, Modality="NM", DetectorInformationSequence=[detector], **tags)
    volume = read_volume(tmp_path / "nm.dcm")
    np.testing.assert_allclose((volume.affine @ [0, 0, 2, 1])[:3], [10, 20, 13])
    np.testing.assert_allclose(volume.spacing, [2, 2, 4])


def test_a_pixel_without_a_size_in_mm_keeps_its_shape(tmp_path):
    path = write_slice(tmp_path / "a.dcm", numbered(1), None, PixelAspectRatio=[3, 2])  # vertical, horizontal
    np.testing.assert_allclose(read_volume(path).spacing, [1, 1.5, 1])
    with pytest.raises(VolumeError, match=r"aspect ratio of a\.dcm must be positive"):
        read_volume(change(path, PixelAspectRatio=[0, 1]))
