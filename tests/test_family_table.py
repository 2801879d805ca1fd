"""The table of families: the slice that each of them is asked on."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.commands.family_table import find_slice
from bundle.data.volume import Volume, write_label, write_volume
from bundle.errors import OptionError


@pytest.fixture
def files(tmp_path):
    volume = Volume(np.zeros((8, 9, 5), np.int16), np.eye(4), "CT")
    labels = np.zeros(volume.shape, np.uint8)
    labels[2:5, 3:6, 3] = 1
    write_volume(volume, tmp_path / "ct.nii.gz")
    write_label(labels, volume, tmp_path / "organ.nii.gz")
    write_label(labels * 4, volume, tmp_path / "other.nii.gz")
    return tmp_path


def test_the_slice_is_the_one_with_most_of_the_organ(files):
    found = find_slice(files / "ct.nii.gz", files / "organ.nii.gz")
    assert (found.index, int(found.mask.sum())) == (3, 9)


def test_a_label_without_the_organ_is_refused_in_a_sentence(files):
    with pytest.raises(OptionError, match=r"other.nii.gz has no voxel of value 1"):
        find_slice(files / "ct.nii.gz", files / "other.nii.gz")
