"""Looks that no scanner has: the anatomy stays, its colours do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bundle.data.augmentation import random_view, randomize_intensity
from bundle.data.labelled_slices import LabelledSlice
from bundle.transforms.contract import View


def make_slice() -> LabelledSlice:
    """A bright organ (1), a dark one (2) and noise around them, in HU."""
    labels = np.zeros((64, 64), np.uint8)
    labels[8:28, 8:28], labels[36:56, 36:56] = 1, 2
    noise = np.random.default_rng(0).normal(0, 5, labels.shape)
    picture = (np.select([labels == 1, labels == 2], [150.0, -50.0], 40.0) + noise).astype(np.float32)
    return LabelledSlice(picture, labels, (1, 2), (View(-500, 1000),) * 3, "CT", (1.0, 1.0), "patient", "0")


def contrasts(pictures: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """How much brighter organ 1 is than organ 2."""
    return np.array([picture[labels == 1].mean() - picture[labels == 2].mean() for picture in pictures])


def test_randomized_slices_keep_their_labels_and_fill_the_grey_values():
    labelled = make_slice()
    for seed in range(20):
        changed = randomize_intensity(labelled, np.random.default_rng(seed))
        assert changed.picture.dtype == np.float32 and changed.picture.min() >= 0 and changed.picture.max() <= 255
        assert changed.labels is labelled.labels and changed.ids == labelled.ids and len(changed.intensity) == 3
        for view in changed.intensity:
            np.testing.assert_allclose(view.apply(changed.picture), changed.picture, atol=1e-4)


def test_randomized_organs_change_their_order_of_brightness():
    labelled = make_slice()
    assert contrasts([labelled.picture], labelled.labels) > 0
    changed = [randomize_intensity(labelled, np.random.default_rng(seed)).picture for seed in range(30)]
    difference = contrasts(changed, labelled.labels)
    assert 8 <= (difference > 0).sum() <= 22 and np.abs(difference).max() > 60


def test_what_is_not_labelled_follows_one_curve():
    labelled = replace(make_slice(), ids=(), labels=np.zeros((64, 64), np.uint8))
    grey = np.round(labelled.intensity[0].apply(labelled.picture)).astype(int)
    changed = randomize_intensity(labelled, np.random.default_rng(3)).picture
    assert all(np.ptp(changed[grey == value]) < 1e-3 for value in np.unique(grey))


def test_the_same_generator_gives_the_same_colours():
    one, other = (randomize_intensity(make_slice(), np.random.default_rng(5)).picture for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_colour_pictures_are_averaged_to_grey():
    labelled = make_slice()
    colour = replace(labelled, picture=np.repeat(labelled.picture[..., None], 3, axis=2))
    np.testing.assert_allclose(
        randomize_intensity(colour, np.random.default_rng(1)).picture,
        randomize_intensity(labelled, np.random.default_rng(1)).picture,
        atol=1,
    )


def test_a_random_view_of_a_flat_picture_is_no_division_by_zero():
    view = random_view(np.full((8, 8), 7.0), np.random.default_rng(0))[0]
    assert np.isfinite(view.apply(np.full((8, 8), 7.0))).all()
