"""Segmentations of 3D Slicer are read by segment, whatever layers and crops they come in."""

from __future__ import annotations

from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk

from bundle.data.datasets import read_layout
from bundle.data.grid import check_grid
from bundle.data.volume import Segment, Volume, VolumeError, read_label, read_segments, read_volume, write_volume


def save(path: Path, voxels: np.ndarray, segments: list[dict[str, object]], **fields: str) -> Path:
    """A file as Slicer writes it: (I, J, K), or (layers, I, J, K); 1, 2, 3 mm, from (10, 20, 30) in LPS."""
    is_list = voxels.ndim == 4
    directions = np.diag([1.0, 2, 3])
    header = {
        "space": "left-posterior-superior",
        "kinds": (["list"] if is_list else []) + ["domain"] * 3,
        "space directions": np.vstack([np.full((1, 3), np.nan), directions]) if is_list else directions,
        "space origin": [10, 20, 30],
        "Segmentation_MasterRepresentation": "Binary labelmap",
        **fields,
    }
    for number, segment in enumerate(segments):
        header |= {f"Segment{number}_{key}": str(value) for key, value in segment.items()}
    nrrd.write(str(path), voxels, header)
    return path


def layers() -> np.ndarray:
    voxels = np.zeros((2, 4, 5, 6), np.uint8)
    voxels[0, :2], voxels[0, 3], voxels[1, 1:3] = 1, 7, 1
    return voxels


def test_segments_of_one_layer_keep_their_values_names_and_colours(tmp_path):
    about = [
        {"ID": "a", "Name": "liver", "LabelValue": 7, "Color": "1 0 0.5"},
        {"ID": "b", "Name": "left kidney", "LabelValue": 1},
    ]
    path = save(tmp_path / "a.seg.nrrd", layers()[0], about)
    label = read_label(path)
    assert label.segments == (Segment("liver", 7, (1.0, 0.0, 0.5)), Segment("left kidney", 1))
    assert read_segments(path) == label.segments
    np.testing.assert_array_equal(label.array, layers()[0])
    np.testing.assert_allclose(label.affine, [[-1, 0, 0, -10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]])


def test_of_overlapping_segments_the_later_wins_and_the_overlap_is_said(tmp_path, caplog):
    about = [
        {"Name": "a", "LabelValue": 1, "Layer": 0},
        {"Name": "b", "LabelValue": 7, "Layer": 0},
        {"Name": "c", "LabelValue": 1, "Layer": 1},
    ]
    label = read_label(save(tmp_path / "a.seg.nrrd", layers(), about))
    assert {segment.name: segment.value for segment in label.segments} == {"a": 1, "b": 2, "c": 3}
    assert label.array[:, 0, 0].tolist() == [1, 3, 3, 2]
    assert "overlap in 30 voxels" in caplog.text


def test_voxels_of_no_segment_are_left_out_and_said(tmp_path, caplog):
    label = read_label(save(tmp_path / "a.seg.nrrd", layers()[0], [{"Name": "a", "LabelValue": 7}]))
    assert np.unique(label.array).tolist() == [0, 7]
    assert "60 voxels" in caplog.text


def test_two_segments_of_one_name_stay_apart(tmp_path):
    about = [{"Name": "lesion", "LabelValue": 1}, {"Name": "lesion", "LabelValue": 7}]
    assert [s.name for s in read_segments(save(tmp_path / "a.seg.nrrd", layers()[0], about))] == [
        "lesion (1)",
        "lesion (7)",
    ]


def test_the_content_decides_not_the_name(tmp_path):
    assert (
        read_label(save(tmp_path / "renamed.nrrd", layers(), [{"Name": "a", "LabelValue": 1, "Layer": 1}])).array.max()
        == 1
    )
    sitk.WriteImage(sitk.GetImageFromArray(np.full((3, 4, 5), 2, np.uint8)), str(tmp_path / "plain.seg.nrrd"))
    assert read_label(tmp_path / "plain.seg.nrrd").array.max() == 2
    assert read_segments(tmp_path / "plain.seg.nrrd") == ()


def test_a_file_whose_only_list_entry_is_one_layer_is_read(tmp_path):
    label = read_label(
        save(tmp_path / "a.seg.nrrd", layers()[:1], [{"Name": "a", "LabelValue": 7}, {"Name": "b", "LabelValue": 1}])
    )
    np.testing.assert_array_equal(label.array, layers()[0])


@pytest.mark.parametrize(
    ("voxels", "segment", "fields", "message"),
    [
        (layers(), {"LabelValue": 1, "Layer": 5}, {}, "layer 5"),
        (layers(), {"LabelValue": "one"}, {}, "cannot read"),
        (layers(), {"LabelValue": 1, "Tags": "TerminologyEntry:a~b"}, {}, "cannot read"),
        (layers().astype(np.float32), {"LabelValue": 1}, {}, "layers of label maps"),
        (layers(), {"LabelValue": 1}, {"Segmentation_MasterRepresentation": "Fractional labelmap"}, "fractional"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path, voxels, segment, fields, message):
    path = save(tmp_path / "a.seg.nrrd", voxels, [segment], **fields)
    with pytest.raises(VolumeError, match=message):
        read_label(path)


def test_voxels_in_another_file_are_refused(tmp_path):
    path = save(tmp_path / "a.seg.nrrd", layers()[0], [{"LabelValue": 1}])
    header, voxels = path.read_bytes().split(b"\n\n", 1)
    (tmp_path / "other.raw").write_bytes(voxels)
    path.write_bytes(header + b"\ndata file: other.raw\n\n")
    with pytest.raises(VolumeError, match="cannot read"):
        read_label(path)


def test_a_segmentation_is_no_image(tmp_path):
    with pytest.raises(VolumeError, match="give it as the label"):
        read_volume(save(tmp_path / "a.seg.nrrd", layers()[0], [{"LabelValue": 1}]))


def test_a_cropped_segmentation_lies_on_its_image_and_names_its_organs_in_a_studies_folder(tmp_path):
    affine = np.array([[-1, 0, 0, -8], [0, -2, 0, -18], [0, 0, 3, 24], [0, 0, 0, 1.0]])
    write_volume(Volume(np.zeros((9, 9, 9), np.int16), affine), tmp_path / "ct.nrrd")
    (tmp_path / "labels" / "final").mkdir(parents=True)
    about = [{"Name": "liver", "LabelValue": 1, "Layer": 0}, {"Name": "cyst", "LabelValue": 1, "Layer": 1}]
    save(tmp_path / "labels" / "final" / "ct.seg.nrrd", layers(), about)
    (item,) = read_layout("monai_label", tmp_path)
    assert item["labels"] == {"liver": 1, "cyst": 2}
    label = check_grid(read_volume(item["image"]), read_label(item["label"]))
    assert label.shape == (9, 9, 9)
    np.testing.assert_array_equal(np.argwhere(label.array == 1).min(axis=0), [2, 1, 2])
