"""A label that is uploaded must lie on its image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_grid import TURNS, turned
from test_seg_nrrd import save

from bundle.data.grid import check_grid
from bundle.data.volume import Volume, read_label, read_volume, write_label, write_volume
from monailabel_app.errors import RequestError
from monailabel_app.server.uploads import check_label_fits

AFFINE = np.array([[-1, 0, 0, -8], [0, -2, 0, -18], [0, 0, 3, 24], [0, 0, 0, 1.0]])


@pytest.fixture
def image(tmp_path) -> Path:
    return write_volume(Volume(np.zeros((9, 8, 7), np.int16), AFFINE), tmp_path / "ct.nii.gz")


def label() -> Volume:
    return Volume(np.random.default_rng(0).integers(0, 3, (9, 8, 7)).astype(np.uint8), AFFINE)


@pytest.mark.parametrize("turn", TURNS[::7])
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_a_label_in_another_order_of_axes_is_taken_and_means_the_same_to_its_readers(tmp_path, image, turn, ending):
    sent = turned(label(), *turn)
    path = write_label(np.ascontiguousarray(sent.array), sent, tmp_path / f"label{ending}")
    check_label_fits(path, image)
    np.testing.assert_array_equal(check_grid(read_volume(image), read_label(path)).array, label().array)


def test_a_label_that_was_moved_or_mirrored_in_place_is_refused(tmp_path, image):
    for name, change in {"moved": np.eye(4), "mirrored": np.diag([-1.0, 1, 1, 1])}.items():
        affine = change @ AFFINE
        affine[0, 3] += 100
        path = write_label(label().array, Volume(label().array, affine), tmp_path / f"{name}.nii.gz")
        with pytest.raises(RequestError, match=r"not saved: label map \w+.nii.gz lies up to .* mm off"):
            check_label_fits(path, image)


def test_a_segmentation_of_slicer_is_checked_as_well(tmp_path, image):
    voxels = np.ones((2, 2, 2), np.uint8)
    check_label_fits(save(tmp_path / "a.seg.nrrd", voxels, [{"Name": "a", "LabelValue": 1}]), image)
    elsewhere = AFFINE.copy()
    elsewhere[0, 3] = 500
    far = write_volume(Volume(np.zeros((9, 8, 7), np.int16), elsewhere), tmp_path / "far.nii.gz")
    with pytest.raises(RequestError, match="lies outside of its image"):
        check_label_fits(tmp_path / "a.seg.nrrd", far)
