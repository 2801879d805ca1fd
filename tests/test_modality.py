"""CT is known by its air; what was guessed is said."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy import ndimage

from bundle.data.modality import guess_modality
from bundle.data.volume import read_label, read_volume

SHAPE = (40, 40, 20)


def body(outside: float, noise: float = 8.0) -> np.ndarray:
    """A cylinder of soft tissue and fat with something around it."""
    i, j, _ = np.indices(SHAPE)
    inside = (i - 20) ** 2 + (j - 20) ** 2 < 330
    tissue = np.where((i - 20) ** 2 + (j - 20) ** 2 < 200, 60, -100)
    return np.where(inside, tissue, outside) + np.random.default_rng(0).normal(0, noise, SHAPE)


@pytest.mark.parametrize("noise", [5, 40])
def test_air_around_the_body_means_ct_padded_or_not(tmp_path, noise):
    air = body(-1000, noise)
    padded = {value: np.where(np.indices(SHAPE)[0] < 8, value, air) for value in (-1024, -2000, -2048, -3024, -32768)}
    for array in (air, *padded.values(), air.clip(-1000, 1000), air.clip(-1024, 3071)):
        assert guess_modality(array.astype(np.int16), None, tmp_path) == "CT"


def test_a_little_gas_inside_is_enough_and_none_is_not(tmp_path, caplog):
    array = body(-100)
    assert guess_modality(array, None, tmp_path) == "other"
    array[:10, :10, :6] = -950
    assert guess_modality(array, None, tmp_path) == "CT"
    array[:10, :10, 1:6] = -850
    assert guess_modality(array, None, tmp_path) == "other"
    assert "not taken for CT" in caplog.text


@pytest.mark.parametrize("top", [3000, 10000, 30000])
def test_overshoot_of_splines_is_no_air(tmp_path, top):
    head = np.zeros((20, 20, 10))
    head[5:15, 5:15, 2:8] = top * (0.9 + 0.1 * np.random.default_rng(0).random((10, 10, 6)))
    assert guess_modality(ndimage.zoom(head, (2, 2, 1), order=3), None, tmp_path) == "other"


@pytest.mark.parametrize("array", [body(0) + 200, body(-1000) / 1000, (body(-1000) + 1024).clip(0)])
def test_values_above_air_are_other(tmp_path, array):
    assert guess_modality(array, None, tmp_path) == "other"


def test_what_the_file_says_counts_except_of_colours(tmp_path):
    assert guess_modality(body(-1000), "other", tmp_path) == "other"
    assert guess_modality(np.zeros((2, 2, 2, 3), np.uint8), "other", tmp_path) == "windowed"


def test_a_guess_of_ct_is_a_line_of_the_log(tmp_path, caplog):
    caplog.set_level(logging.INFO, "bundle.data.modality")
    guess_modality(body(-1000), None, tmp_path / "ct.nii")
    assert "ct.nii is taken for CT" in caplog.text


@pytest.mark.real_data
def test_real_ct_and_mr_are_told_apart(real_data):
    ct = read_volume(real_data / "flare22-style/images/FLARE22_Tr_0001_0000.nii.gz")
    mr = read_volume(real_data / "totalsegmentator-ct/example_mr_sm.nii.gz")
    assert (ct.modality, mr.modality) == ("CT", "other")
    for top in (3000, 30000):
        resampled = ndimage.zoom(mr.array * (top / np.percentile(mr.array, 99.5)), (1.5, 1.5, 1.5), order=3)
        assert guess_modality(resampled, None, real_data) == "other"
    assert guess_modality(mr.array * 4.0 - 4096, None, real_data) == "other"
    label = read_label(next((real_data / "flare22-style/labels").iterdir())).array
    liver = ndimage.find_objects((label == 1).astype(np.uint8))[0]
    assert guess_modality(ct.array[liver], None, real_data) == "CT"
