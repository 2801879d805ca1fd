"""Pseudo-objects from pictures without labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from training_room import make_pool, make_slice

from bundle.data.synthetic.regions import grey_regions, region_pool


def picture() -> np.ndarray:
    """Two bright structures, a frame, a large and a small block on black."""
    grey = np.zeros((96, 96), np.float32)
    grey[10:30, 10:30] = 200
    grey[40:60, 10:40] = 120
    grey[62:92, 50:90] = 160
    grey[66:88, 54:86] = 0  # only a frame is left
    grey[5:9, 80:84] = 255
    return grey


def test_structures_become_regions():
    regions = grey_regions(picture(), scale=60.0)
    first, second = regions[20, 20], regions[50, 25]
    assert first and second and first != second
    assert 200 < (regions == first).sum() <= 400 + 80  # a smooth edge is a region of its own


def test_what_cannot_be_a_structure_is_left_out():
    regions = grey_regions(picture(), scale=60.0)
    assert regions[2, 2] == 0  # the background: large and dark
    assert regions[76, 70] == 0  # dark
    assert regions[64, 52] == 0  # a frame fills little of its box
    assert not regions[5:9, 80:84].all()  # 16 pixels are too few


def test_large_regions_are_left_out():
    grey = np.full((64, 64), 100.0, np.float32)
    assert not grey_regions(grey, scale=60.0).any()


def test_a_pool_of_regions_names_what_it_shows():
    for part in region_pool(make_pool((3,)), step=1):
        assert part.ids == tuple(int(i) for i in np.unique(part.labels) if i)
        assert part.key.endswith("-regions") and part.patient == "p0"


def test_every_second_slice_and_no_colour():
    colour = replace(make_slice(0), picture=np.zeros((48, 48, 3), np.uint8))
    assert region_pool([colour]) == []
    assert len(region_pool(make_pool((4,)), step=2)) <= 2
