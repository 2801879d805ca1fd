"""Tests of DICOM SEG as label maps, in and out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import change, numbered, write_enhanced, write_slice, write_stack

from bundle.data.formats.dicom_seg import read_segments
from bundle.data.grid import check_grid
from bundle.data.palette import color_of
from bundle.data.volume import Volume, read_label, read_volume, write_label
from bundle.errors import VolumeError

TILT = np.deg2rad(20)
TILTED = (1, 0, 0, 0, np.cos(TILT), -np.sin(TILT))
NAMES = {"liver": 1, "tumour": 2}


@pytest.fixture
def series(tmp_path):
    """Six slices from head to feet, every 3 mm, in a shuffled order of files."""
    return write_stack(tmp_path / "series", [(10, -20, -3 * k) for k in (3, 0, 5, 1, 4, 2)])


def two_segments(shape):
    labels = np.zeros(shape, np.uint8)
    labels[1:3, 1:3, 1], labels[3, 0:2, 3], labels[0, 3, 4] = 1, 2, 1
    return labels


def test_a_written_seg_reads_back_as_the_label_map(series, tmp_path):
    image = read_volume(series)
    labels = two_segments(image.shape)
    back = read_label(write_label(labels, image, tmp_path / "seg.dcm", names=NAMES))
    # Its grid reaches from the first slice that shows something to the last.
    np.testing.assert_array_equal(back.array, labels[:, :, 1:5])
    np.testing.assert_allclose(back.affine @ [0, 0, 0, 1], image.affine @ [0, 0, 1, 1])
    np.testing.assert_allclose(back.affine[:3, :3], image.affine[:3, :3])


def test_segments_have_names_and_colours_of_the_palette(series, tmp_path):
    image = read_volume(series)
    path = write_label(two_segments(image.shape), image, tmp_path / "seg.dcm", names=NAMES)
    liver, tumour = read_segments(path)
    assert (liver.name, liver.value, tumour.name, tumour.value) == ("liver", 1, "tumour", 2)
    np.testing.assert_allclose(liver.color, color_of(1), atol=1e-3)
    assert read_label(path).segments == (liver, tumour)
    assert pydicom.dcmread(path).SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Liver"


def test_a_seg_refers_to_the_slices_it_was_drawn_on(series, tmp_path):
    image = read_volume(series)
    seg = pydicom.dcmread(write_label(two_segments(image.shape), image, tmp_path / "seg.dcm", names=NAMES))
    files = {str(header.SOPInstanceUID): header for header in map(pydicom.dcmread, series.iterdir())}
    (referenced,) = seg.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == "1.2.3.4"
    assert {str(item.ReferencedSOPInstanceUID) for item in referenced.ReferencedInstanceSequence} == set(files)
    for frame in seg.PerFrameFunctionalGroupsSequence:
        uid = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        assert list(place) == list(files[str(uid)].ImagePositionPatient)
    assert (seg.StudyInstanceUID, seg.FrameOfReferenceUID) == ("1.2.3", "1.2.9")


def test_a_seg_of_a_tilted_series_lies_on_its_slices(tmp_path):
    folder = write_stack(tmp_path / "tilted", [(0, 0, 5 * k) for k in range(6)], orientation=TILTED)
    image = read_volume(folder)
    labels = two_segments(image.shape)
    back = read_label(write_label(labels, image, tmp_path / "seg.dcm", names=NAMES))
    np.testing.assert_array_equal(back.array, labels[:, :, 1:5])
    np.testing.assert_allclose(back.affine[:3, :3], image.affine[:3, :3], atol=1e-6)


@pytest.mark.parametrize("thickness", [None, 1.0])
def test_a_seg_of_one_slice_lies_on_that_slice_of_a_tilted_series(tmp_path, thickness):
    """Its step is that of the image, whatever the file says or does not say of it."""
    folder = write_stack(tmp_path / "tilted", [(0, 0, 5 * k) for k in range(6)], orientation=TILTED)
    image = read_volume(folder)
    labels = np.zeros(image.shape, np.uint8)
    labels[2:4, 1:3, 3] = 1
    path = write_label(labels, image, tmp_path / "seg.dcm", names=NAMES)
    seg = pydicom.dcmread(path)
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        if keyword in measures:
            delattr(measures, keyword)
    if thickness:
        measures.SliceThickness = thickness
    seg.save_as(path)
    back = check_grid(image, read_label(path))
    np.testing.assert_array_equal(back.array, labels)
    np.testing.assert_allclose(back.affine, image.affine)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii.gz"])
def test_other_formats_keep_a_sheared_grid(tmp_path, ending):
    folder = write_stack(tmp_path / "tilted", [(0, 0, 5 * k) for k in range(6)], orientation=TILTED)
    image = read_volume(folder)
    labels = two_segments(image.shape)
    back = read_label(write_label(labels, image, tmp_path / f"a{ending}"))
    np.testing.assert_array_equal(back.array, labels)
    np.testing.assert_allclose(back.affine, image.affine, atol=1e-5)


def test_a_seg_of_one_time_point_of_an_enhanced_file_refers_to_its_frames(tmp_path):
    content = [{"TemporalPositionIndex": 1 + number // 4} for number in range(8)]
    places = [(0, 0, 3 * (number % 4)) for number in range(8)]
    pixels = np.stack([numbered(number) for number in range(8)])
    image = read_volume(write_enhanced(tmp_path / "a.dcm", pixels, places, frame_content=content), series=":2")
    labels = np.zeros(image.shape, np.uint8)
    labels[1, 2, 1:3] = 1
    path = write_label(labels, image, tmp_path / "seg.dcm", names={"lesion": 1})
    np.testing.assert_array_equal(read_label(path).array, labels[:, :, 1:3])
    frames = [
        frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        for frame in pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
    ]
    assert frames == [6, 7]


def test_segments_are_numbered_without_gaps_with_a_warning(series, tmp_path, caplog):
    image = read_volume(series)
    labels = two_segments(image.shape) * 5
    back = read_label(write_label(labels, image, tmp_path / "seg.dcm"))
    assert [(segment.name, segment.value) for segment in back.segments] == [("label_5", 1), ("label_10", 2)]
    assert "5 -> 1, 10 -> 2" in caplog.text


def test_an_empty_label_map_is_a_seg_without_voxels(series, tmp_path):
    image = read_volume(series)
    back = read_label(write_label(np.zeros(image.shape, np.uint8), image, tmp_path / "seg.dcm", names=NAMES))
    assert not back.array.any() and [segment.name for segment in back.segments] == ["liver", "tumour"]


def test_an_image_that_is_no_dicom_gets_no_seg(tmp_path):
    image = Volume(np.zeros((4, 4, 3), np.int16), np.eye(4), source=tmp_path / "a.nii.gz")
    with pytest.raises(VolumeError, match=r"DICOM series it belongs to.*choose \.nii\.gz or \.nrrd"):
        write_label(np.ones(image.shape, np.uint8), image, tmp_path / "seg.dcm")


def test_an_image_without_a_place_gets_no_seg(tmp_path):
    image = read_volume(write_slice(tmp_path / "us.dcm", numbered(1), None))
    with pytest.raises(VolumeError, match="where it lies in the patient"):
        write_label(np.ones(image.shape, np.uint8), image, tmp_path / "seg.dcm")


def test_the_higher_segment_number_wins_where_segments_overlap(series, tmp_path, caplog):
    image = read_volume(series)
    path = write_label(two_segments(image.shape), image, tmp_path / "seg.dcm", names=NAMES)
    seg = pydicom.dcmread(path)
    place = seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient
    for frame in seg.PerFrameFunctionalGroupsSequence:
        frame.PlanePositionSequence[0].ImagePositionPatient = place
    seg.PixelData = b"\xff" * len(seg.PixelData)
    seg.save_as(path)
    back = read_label(path)
    assert back.shape == (5, 4, 1) and (back.array == 2).all()
    assert "segments overlap in 40 voxels" in caplog.text


def test_of_fractions_what_is_half_inside_counts(series, tmp_path):
    image = read_volume(series)
    path = write_label(two_segments(image.shape) == 1, image, tmp_path / "seg.dcm", names={"liver": 1})
    seg = pydicom.dcmread(path)
    values = np.zeros((int(seg.NumberOfFrames), 4, 5), np.uint8)
    values[:, 0, :3] = 49, 50, 100
    change(path, BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=values.tobytes(), SegmentationType="FRACTIONAL")
    change(path, MaximumFractionalValue=100, SegmentationFractionalType="PROBABILITY")
    assert read_label(path).array[:, 0, 0].tolist() == [0, 1, 1, 0, 0]


def test_a_label_map_seg_holds_its_segment_numbers(series, tmp_path):
    image = read_volume(series)
    path = write_label(two_segments(image.shape) == 1, image, tmp_path / "seg.dcm", names={"liver": 1})
    seg = pydicom.dcmread(path)
    for frame in seg.PerFrameFunctionalGroupsSequence:
        del frame.SegmentIdentificationSequence
    values = np.zeros((int(seg.NumberOfFrames), 4, 5), np.uint8)
    values[:, 1, 2] = 1
    seg.BitsAllocated, seg.BitsStored, seg.HighBit, seg.PixelData = 8, 8, 7, values.tobytes()
    seg.SegmentationType = "LABELMAP"
    seg.save_as(path)
    back = read_label(path)
    assert back.array[2, 1].tolist() == [1, 0, 0, 1] and np.count_nonzero(back.array) == 2


DCMQI = Path(sys.executable).with_name("segimage2itkimage")


@pytest.mark.skipif(not DCMQI.is_file(), reason="dcmqi is not installed (requirements-dcmqi.txt)")
def test_dcmqi_reads_what_was_written(series, tmp_path):
    image = read_volume(series)
    labels = two_segments(image.shape)
    path = write_label(labels, image, tmp_path / "seg.dcm", names=NAMES)
    command = [DCMQI, "--inputDICOM", path, "--outputDirectory", tmp_path]
    subprocess.run([*command, "--outputType", "nrrd"], check=True, capture_output=True)
    for value in (1, 2):
        other = sitk.ReadImage(str(tmp_path / f"{value}.nrrd"))
        voxels = np.argwhere(sitk.GetArrayFromImage(other))[:, ::-1]
        places = [other.TransformIndexToPhysicalPoint(voxel.tolist()) for voxel in voxels]
        ours = (np.c_[np.argwhere(labels == value), np.ones(len(voxels))] @ image.affine.T)[:, :3] * [-1, -1, 1]
        np.testing.assert_allclose(sorted(places), sorted(ours.tolist()), atol=1e-3)


@pytest.mark.real_data
def test_a_seg_of_another_program_lies_where_its_label_map_does(real_data):
    folder = real_data / "dcmqi-ct-3slice"
    labels, other = read_label(folder / "liver.dcm"), read_label(folder / "liver_seg.nrrd")
    np.testing.assert_array_equal(labels.array > 0, other.array > 0)
    np.testing.assert_allclose(labels.affine, other.affine, atol=1e-4)
    (liver,) = labels.segments
    assert liver.name == "Liver"
    np.testing.assert_allclose(np.multiply(liver.color, 255), [221, 130, 101], atol=0.5)  # 3D Slicer's liver
