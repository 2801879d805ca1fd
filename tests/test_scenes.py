"""Drawn scenes: a picture with the object that is meant, hard in the way that its name says."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from bundle.data.synthetic.scenes import KINDS, draw_scene, scene_pool
from bundle.training.batched.slices import gather_slices

SIZE = 96


def scenes(kind: str, count: int = 4) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    return [draw_scene(kind, SIZE, np.random.default_rng((3, number))) for number in range(count)]


def pieces_of(mask: np.ndarray) -> int:
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_is_an_8_bit_picture_with_objects_of_a_useful_size(kind):
    for picture, maps in scenes(kind):
        assert picture.shape == (SIZE, SIZE) and picture.dtype == np.uint8 and np.ptp(picture) > 30
        assert 1 <= len(maps) <= 2 and all(60 <= mask.sum() <= 0.5 * mask.size for mask in maps)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_generator_draws_the_same_scene(kind):
    (first, maps), (again, others) = (draw_scene(kind, SIZE, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(first, again) and all(map(np.array_equal, maps, others))


@pytest.mark.parametrize(("kind", "nested"), [("rim", True), ("necrosis", True), ("tree", True), ("ring", False)])
def test_a_point_has_several_meanings(kind, nested):
    pairs = [maps for _, maps in scenes(kind, 8) if len(maps) == 2]
    assert pairs
    for outer, inner in pairs:
        assert not (inner & ~outer).any() if nested else not (inner & outer).any()


def test_what_lies_between_two_pieces_is_not_meant():
    several = [maps[0] for _, maps in scenes("pieces", 8)]
    assert sum(pieces_of(mask) >= 2 for mask in several) >= 6


def test_a_weak_border_is_less_steep_in_places():
    def steepness(kind: str) -> float:
        """The tenth percentile of the gradient along the outline, in shares of its median."""
        shares = []
        for picture, (mask, *_) in scenes(kind, 8):
            smooth = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 1.5)
            edge = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
            low, middle = np.percentile(
                edge[mask & ~cv2.erode(mask.astype(np.uint8), np.ones((3, 3))).astype(bool)], (10, 50)
            )
            shares.append(low / middle)
        return float(np.mean(shares))

    assert steepness("weak_border") < steepness("ribs")


def test_a_pool_has_a_slice_for_each_meaning_and_its_pictures_are_stored_once():
    pool = scene_pool(len(KINDS), size=SIZE)
    assert {part.patient.rpartition("-")[0] for part in pool} == set(KINDS) and len(pool) > len(KINDS)
    assert len({part.key for part in pool}) == len(pool)
    tensors = gather_slices({"scenes": pool}, instances=["scenes"], never_ct=["scenes"])
    assert len(tensors.pixels) == len(KINDS) * SIZE**2 and not tensors.peak.any()
