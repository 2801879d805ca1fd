"""Tests of telling apart the scans that share a DICOM series."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from dicom_files import MR, change, numbered, write_enhanced, write_slice, write_stack

from bundle.data.volume import read_volume
from bundle.errors import SeriesError, VolumeError

THREE = [(0, 0, 3 * k) for k in range(3)]


def refusal(place):
    with pytest.raises(SeriesError) as caught:
        read_volume(place)
    return str(caught.value)


def numbers(place, series):
    """The number in each slice of one scan."""
    return read_volume(place, series=series).array[0, 0].tolist()


def write_frames(folder, marks, places=THREE, **common):
    """One file for each position and each entry of marks; a file holds its number, positions change slowest."""
    for number, ((index, place), mark) in enumerate(product(enumerate(places), marks)):
        write_slice(folder / f"{number}.dcm", numbered(number), place, InstanceNumber=number + 1, **common, **mark)
        assert index == number // len(marks)


@pytest.mark.parametrize(
    ("keyword", "values", "said"),
    [
        ("TemporalPositionIdentifier", [1, 2], "2 time points at 3 positions"),
        ("TriggerTime", [0, 40], "2 cardiac phases at 3 positions"),
        ("EchoTime", [5, 80], "2 echoes at 3 positions"),
        ("ImageType", ["ORIGINAL\\PRIMARY\\M", "ORIGINAL\\PRIMARY\\P"], "2 image types at 3 positions"),
        ("AcquisitionNumber", [1, 2], "2 acquisitions at 3 positions"),
        ("AcquisitionTime", ["101500", "102000"], "2 time points at 3 positions"),
    ],
)
def test_scans_at_the_same_positions_are_told_apart_by_what_differs(tmp_path, keyword, values, said):
    write_frames(tmp_path, [{keyword: value} for value in values], sop=MR)
    assert said in refusal(tmp_path)
    assert numbers(tmp_path, ":1") == [0, 2, 4]
    assert numbers(tmp_path, ":2") == [1, 3, 5]


def test_tags_that_change_from_slice_to_slice_do_not_hide_the_one_that_tells_the_scans_apart(tmp_path):
    write_frames(tmp_path, [{"EchoTime": 5}, {"EchoTime": 80}])
    for number in range(6):
        write_slice(tmp_path / f"{number}.dcm", numbered(number), THREE[number // 2], ContentTime=f"10{number}000")
    assert "2 images at 3 positions" in refusal(tmp_path)


def test_a_missing_slice_of_one_echo_is_not_filled_from_another(tmp_path):
    write_frames(tmp_path, [{"EchoTime": 80}, {"EchoTime": 5}], [*THREE, (0, 0, 9)], sop=MR)
    (tmp_path / "2.dcm").unlink()
    assert "2 echoes at 4 positions" in refusal(tmp_path)
    assert numbers(tmp_path, ":1") == [1, 3, 5, 7]
    with pytest.raises(VolumeError, match=r"1 slice is missing between 0\.dcm and 4\.dcm"):
        numbers(tmp_path, ":2")


def test_frames_that_nothing_tells_apart_are_not_sorted_into_scans_if_one_is_missing(tmp_path):
    write_frames(tmp_path, [{}, {}])
    (tmp_path / "2.dcm").unlink()
    with pytest.raises(VolumeError, match=r"0\.dcm and 1\.dcm both at \(0, 0, 0\) mm"):
        read_volume(tmp_path)


def test_two_tags_together_tell_scans_apart(tmp_path):
    write_frames(tmp_path, [{"TemporalPositionIdentifier": t, "EchoTime": e} for t, e in product((1, 2), (5, 80))])
    assert "4 scans that differ in time point and echo at 3 positions" in refusal(tmp_path)
    assert numbers(tmp_path, ":2") == [1, 5, 9]


def test_a_cine_is_so_many_images_at_one_position(tmp_path):
    write_stack(tmp_path, [(0, 0, 0)] * 6)
    assert "6 images at 1 position" in refusal(tmp_path)
    assert numbers(tmp_path, ":4") == [3]


def test_copies_are_called_copies(tmp_path):
    write_stack(tmp_path, THREE)
    for number, place in enumerate(THREE):
        write_slice(tmp_path / f"{number} (1).dcm", numbered(number), place, InstanceNumber=number + 1)
    assert "2 copies at 3 positions" in refusal(tmp_path)
    assert numbers(tmp_path, ":1") == [0, 1, 2]


def test_the_time_points_of_an_enhanced_file_are_told_apart(tmp_path):
    pixels = np.stack([numbered(number) for number in range(6)])
    content = [{"TemporalPositionIndex": 1 + number // 3} for number in range(6)]
    path = write_enhanced(tmp_path / "a.dcm", pixels, THREE * 2, frame_content=content)
    assert "2 time points at 3 positions" in refusal(path)
    assert numbers(path, ":2") == [3, 4, 5]
    assert numbers(path, "1.2.3.4:1") == [0, 1, 2]


def test_frames_at_one_position_without_any_other_difference_are_counted(tmp_path):
    path = write_enhanced(tmp_path / "a.dcm", np.stack([numbered(number) for number in range(6)]), THREE * 2)
    assert "2 images at 3 positions" in refusal(path)
    assert numbers(path, ":2") == [3, 4, 5]


def test_stacks_in_different_places_are_told_apart(tmp_path):
    places = [*THREE, *[(50, 0, 100 + 5 * k) for k in range(3)]]
    content = [{"StackID": str(1 + number // 3)} for number in range(6)]
    path = write_enhanced(tmp_path / "a.dcm", np.stack([numbered(n) for n in range(6)]), places, frame_content=content)
    assert "2 stacks" in refusal(path)
    np.testing.assert_allclose(read_volume(path, series=":2").spacing, [1, 1, 5])


def test_a_localizer_is_told_apart_by_size_and_orientation(tmp_path):
    write_stack(tmp_path, THREE)
    write_slice(tmp_path / "scout.dcm", numbered(9, (7, 6)), (0, 0, 0), orientation=(0, 1, 0, 0, 0, -1))
    said = refusal(tmp_path)
    assert "2 scans that differ in size and orientation" in said and "1 slice (scout.dcm)" in said
    assert numbers(tmp_path, ":1") == [0, 1, 2]


@pytest.mark.parametrize(
    ("tags", "said"),
    [({"PixelSpacing": [2, 2]}, "pixel spacing"), ({"orientation": (0, 1, 0, 0, 0, -1)}, "orientation")],
)
def test_slices_of_another_spacing_or_orientation_are_no_slices_of_the_scan(tmp_path, tags, said):
    write_stack(tmp_path, THREE)
    write_slice(tmp_path / "odd.dcm", numbered(9), (0, 0, 9), **tags)
    assert f"differ in {said}" in refusal(tmp_path) and "odd.dcm" in refusal(tmp_path)


def test_pictures_without_a_place_are_chosen_one_by_one(tmp_path):
    for name in ("ap", "lateral"):
        write_slice(tmp_path / f"{name}.dcm", numbered(len(name)), None, Modality="DX")
    assert "2 scans that differ in place" in refusal(tmp_path)
    assert numbers(tmp_path, ":2") == [7]


def test_a_number_that_no_scan_has_is_refused(tmp_path):
    write_stack(tmp_path, THREE)
    with pytest.raises(SeriesError, match="no scan number 2, choose one with series=: :1"):
        read_volume(tmp_path, series=":2")


def test_another_modality_in_the_series_is_another_scan(tmp_path):
    folder = write_stack(tmp_path / "a", [(0, 0, 3 * k) for k in range(4)])
    change(sorted(folder.iterdir())[3], Modality="PT")
    with pytest.raises(SeriesError, match="2 scans that differ in modality"):
        read_volume(folder)
    assert read_volume(folder, series=":1").shape[2] == 3
