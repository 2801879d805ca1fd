"""What a box gives without learning."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.data.datasets import msd
from bundle.data.labelled_slices import read_pool
from bundle.evaluation.baselines import BASELINES, ellipse
from bundle.evaluation.metrics import dice
from bundle.families.family import load_family
from bundle.prompts.simulation import shift_box, tight_box


def blob(shape=(96, 96), centre=(50, 40), radii=(20, 14)):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    truth = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 <= 1
    noise = np.random.default_rng(0).normal(0, 6, shape)
    return truth, (np.where(truth, 150, 70) + noise).clip(0, 255).astype(np.uint8)


def test_the_ellipse_touches_the_sides_of_its_box():
    truth, picture = blob()
    box = tight_box(truth)
    assert tight_box(ellipse(picture, box)).tolist() == box.tolist()
    assert dice(ellipse(picture, box), truth) > 0.95


@pytest.mark.parametrize("name", ["otsu", "grab_cut", "random_walker"])
def test_a_baseline_that_looks_finds_a_bright_object_in_a_loose_box(name):
    truth, picture = blob()
    box = shift_box(tight_box(truth), 5, truth.shape)
    assert dice(BASELINES[name](picture, box), truth) > 0.97


def test_otsu_finds_a_dark_object_as_well():
    truth, picture = blob()
    assert dice(BASELINES["otsu"](255 - picture, tight_box(truth)), truth) > 0.95


@pytest.mark.parametrize("name", BASELINES)
@given(x=st.tuples(st.integers(0, 39), st.integers(0, 39)), y=st.tuples(st.integers(0, 29), st.integers(0, 29)))
@settings(max_examples=15, deadline=None)
def test_any_box_gives_a_mask_inside_it(name, x, y):
    picture = np.random.default_rng(1).integers(0, 255, (30, 40), dtype=np.uint8)
    box = np.array([min(x), min(y), max(x), max(y)], dtype=np.float32)
    mask = BASELINES[name](picture, box)
    assert mask.shape == picture.shape and mask.dtype == bool and mask.any()
    inside = tight_box(mask)
    assert (inside[:2] >= box[:2]).all() and (inside[2:] <= box[2:]).all()


@pytest.mark.parametrize("name", BASELINES)
def test_a_picture_without_contrast_is_no_trouble(name):
    assert BASELINES[name](np.full((20, 20), 7, np.uint8), np.array([3, 3, 12, 15])).any()


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_repeats_itself(name):
    truth, picture = blob()
    box = tight_box(truth)
    assert (BASELINES[name](picture, box) == BASELINES[name](picture, box)).all()


@pytest.mark.real_data
def test_an_ellipse_is_a_poor_liver(real_data):
    items = [
        item for item in msd(real_data / "abdomen-ct-2d", datalist="datalist.json") if item["split"] == "validation"
    ]
    slices = read_pool(items[:6], contract=load_family("default").contract, max_side=256)
    scores = [dice(ellipse(item.labels, tight_box(item.labels == 1)), item.labels == 1) for item in slices]
    assert 0.5 < np.mean(scores) < 0.9
