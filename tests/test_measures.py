"""Volume, axes and values of an object."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.data.volume import Volume
from bundle.interactive.measures import object_measures


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
    nothing = object_measures(mask, image)
    assert {name for name, value in nothing.items() if value is None} == {"slice", "mean", "std"}
    assert all(nothing[name] == 0 for name in nothing if name == "ml" or name.endswith("_mm"))
    mask[2:12, 3:8] = True
    found = object_measures(mask, image)
    assert found["least_mm"] == 0 and found["major_mm"] > found["minor_mm"] > 0 and found["mean"] == 7


def axes(mask, affine=None, axis=2):
    image = Volume(np.zeros(mask.shape, np.int16), np.diag([2.0, 2.0, 3.0, 1.0]) if affine is None else affine)
    found = object_measures(mask, image, axis=axis)
    return found["slice"], found["long_axis_mm"], found["short_axis_mm"]


def test_long_and_short_axis_are_those_of_the_slice_of_the_largest_diameter():
    mask = ellipsoid((60, 60, 21), np.array([2.0, 2.0, 3.0]), np.array([40.0, 24.0, 20.0]))
    assert axes(mask) == (10, pytest.approx(80, abs=2), pytest.approx(48, abs=2))
    mask[:, :, 10] = False
    assert axes(mask)[0] in (9, 11)
    assert axes(mask, axis=0)[1:] == (pytest.approx(48, abs=2), pytest.approx(40, abs=3))


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90])
def test_an_oblique_lesion_is_measured_along_itself(degrees):
    x, y = np.mgrid[:80, :80] - 39.5
    turn = np.deg2rad(degrees)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    mask = ((u / 30) ** 2 + (v / 10) ** 2 <= 1)[:, :, None]
    assert axes(mask) == (0, pytest.approx(120, rel=0.03), pytest.approx(40, rel=0.06))


def test_one_voxel_reaches_from_face_to_face():
    mask = np.zeros((4, 4, 4), bool)
    mask[1, 2, 3] = True
    assert axes(mask) == (3, 2.0, 2.0)
    mask[1:4, 2, 3] = True
    assert axes(mask) == (3, 6.0, 2.0)


def test_axes_in_a_sheared_volume_are_those_in_the_patient():
    mask = np.zeros((30, 30, 1), bool)
    mask[5:25, 15] = True
    along_j = np.array([[1.0, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert axes(mask, along_j)[1] == 20.0
    assert axes(mask.transpose(1, 0, 2), along_j)[1] == pytest.approx(20 * np.hypot(0.5, 1), abs=0.01)
