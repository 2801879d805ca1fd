"""Back from a windowed picture to approximate Hounsfield units."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.data.hounsfield import AIR_HU, FAT_HU, SOFT_TISSUE_HU, estimate_hounsfield


def body_picture() -> np.ndarray:
    """A disc of soft tissue (grey 120) in air, with a black sheet of fat, a black gas bubble and bright bone."""
    rows, columns = np.mgrid[:128, :128]
    radius = np.hypot(rows - 64, columns - 64)
    picture = np.where(radius < 55, 120, 0).astype(np.uint8)
    picture[(radius > 49) & (radius < 51)] = 0
    picture[np.hypot(rows - 50, columns - 64) < 9] = 0
    picture[np.hypot(rows - 90, columns - 64) < 6] = 250
    return picture


@pytest.fixture(params=range(4))
def estimate(request) -> np.ndarray:
    return estimate_hounsfield(body_picture(), np.random.default_rng(request.param))


def test_soft_tissue_lands_between_muscle_and_enhanced_liver(estimate):
    assert SOFT_TISSUE_HU[0] - 1 <= np.median(estimate[64, 20:30]) <= SOFT_TISSUE_HU[1] + 1


def test_outside_of_the_body_is_air(estimate):
    assert (estimate[:5, :5] == AIR_HU).all()


def test_a_thin_black_sheet_inside_is_fat(estimate):
    assert FAT_HU[0] - 40 < estimate[64, 14] < FAT_HU[1] + 40


def test_a_compact_black_region_is_fat_or_gas():
    middles = [estimate_hounsfield(body_picture(), np.random.default_rng(i))[50, 64] for i in range(12)]
    assert {value < -500 for value in middles} == {True, False}


def test_brighter_stays_brighter(estimate):
    assert estimate[90, 64] > estimate[64, 30]


def test_the_same_generator_gives_the_same_units():
    first, second = (estimate_hounsfield(body_picture(), np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, second) and first.dtype == np.float32


def test_an_empty_picture_is_air():
    assert (estimate_hounsfield(np.zeros((32, 32), np.uint8), np.random.default_rng(0)) == AIR_HU).all()
