"""Volume, axes and values of an object."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.batch.measures import object_measures
from bundle.data.volume import Volume


def ellipsoid(shape, spacing, half):
    """An ellipsoid with half axes in mm around the middle, on a grid of that spacing."""
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij"), axis=-1)
    distance = (grid - (np.array(shape) - 1) / 2) * spacing / half
    return (distance**2).sum(axis=-1) <= 1


def test_an_ellipsoid_has_its_volume_and_its_axes():
    spacing, half = np.array([1.0, 0.8, 2.0]), np.array([20.0, 12.0, 9.0])
    mask = ellipsoid((48, 40, 16), spacing, half)
    measured = object_measures(mask, Volume(np.where(mask, 60, -100).astype(np.int16), np.diag([*spacing, 1.0])))
    assert measured["ml"] == pytest.approx(4 / 3 * np.pi * half.prod() / 1000, rel=0.03)
    # Moments of a solid ellipsoid: the axis of length 2a has the variance a * a / 5.
    lengths = [measured[name] for name in ("major_mm", "minor_mm", "least_mm")]
    assert lengths == pytest.approx(4 * half / np.sqrt(5), rel=0.03)
    assert (measured["mean"], measured["std"]) == (60, 0)


def test_measures_do_not_depend_on_how_the_volume_is_stored():
    rng = np.random.default_rng(0)
    mask, image = rng.random((8, 9, 10)) > 0.7, rng.normal(size=(8, 9, 10)).astype(np.float32)
    turned = np.array([[0, 2.0, 0, 5], [-1.5, 0, 0, 3], [0, 0, 3.0, 0], [0, 0, 0, 1]])
    straight = np.diag([1.5, 2.0, 3.0, 1.0])
    assert object_measures(mask, Volume(image, turned)) == object_measures(mask, Volume(image, straight))


def test_an_object_on_one_slice_has_two_axes_and_an_empty_one_none():
    image = Volume(np.full((20, 20, 1, 3), 7, np.uint8), np.eye(4), "windowed")
    mask = np.zeros((20, 20, 1), bool)
    assert object_measures(mask, image) == dict(ml=0.0, major_mm=0.0, minor_mm=0.0, least_mm=0.0, mean=None, std=None)
    mask[2:12, 3:8] = True
    found = object_measures(mask, image)
    assert found["least_mm"] == 0 and found["major_mm"] > found["minor_mm"] > 0 and found["mean"] == 7
