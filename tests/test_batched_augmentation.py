"""The augmentation of a whole batch: what each change does, and that it depends on its key alone."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bundle.data.hounsfield import AIR_HU, FAT, OUTSIDE, SOFT_TISSUE_HU
from bundle.training.batched.augmentation import (
    AugmentationRates,
    BatchRandom,
    apply_views,
    guess_hounsfield,
    randomize_intensity,
    randomize_views,
    simulate_scanner,
    smooth,
)
from bundle.training.batched.colors import jitter_colors
from bundle.training.batched.cube_training import CubeRecipe
from bundle.training.batched.geometry import corners
from bundle.transforms.contract import View

NOTHING = AugmentationRates(0, 0, 0, 0, 0, 0, 0, 0, 0)
COUNT, SIZE = 4, 16
VIEWS = torch.tensor([[0.0, 255.0], [40.0, 90.0]]).expand(COUNT, -1, -1)


def randomness(*key: int, count: int = COUNT) -> BatchRandom:
    return BatchRandom.from_key("cpu", count, *key)


def look(picture: np.ndarray, x: torch.Tensor, y: torch.Tensor, *, kinds=None, back=False) -> torch.Tensor:
    """What two views show of a picture at places of a batch."""
    height, width = (torch.tensor(size).view(1, 1, 1) for size in picture.shape)
    indices, weights = corners(x, y, height, width)
    pixels = torch.from_numpy(picture.astype(np.int16)).flatten()
    kinds = torch.zeros(len(pixels), dtype=torch.uint8) if kinds is None else torch.from_numpy(kinds).flatten()
    guess = guess_hounsfield(torch.full((COUNT,), 100.0), randomness(3))
    back, grain = torch.full((COUNT,), back), torch.zeros(COUNT, *x.shape[1:])
    views = torch.tensor([[-1100.0, 1000.0]]).expand(COUNT, 1, 2) if bool(back[0]) else VIEWS
    return apply_views(pixels, kinds, indices, weights, guess, back, grain, views)


@pytest.fixture
def grid() -> tuple[torch.Tensor, torch.Tensor]:
    place = torch.arange(SIZE, dtype=torch.float32)
    y, x = torch.meshgrid(place, place, indexing="ij")
    return x.expand(COUNT, -1, -1), y.expand(COUNT, -1, -1)


PICTURES = torch.rand(COUNT, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def half_randomized(random: BatchRandom) -> torch.Tensor:
    labels = (PICTURES[:, 0] > 0.5).long()
    return randomize_intensity(
        PICTURES, labels, torch.ones(COUNT, dtype=torch.bool), AugmentationRates(random_intensity=0.5), random
    )


def scanned_fully(random: BatchRandom) -> torch.Tensor:
    return simulate_scanner(PICTURES, AugmentationRates(gamma=1, blur=1, bias=1, noise=1, metal=1), random)


def test_at_whole_pixels_the_views_show_what_the_contracts_views_show(grid):
    picture = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE))
    found = look(picture, *grid)[0]
    for channel, (low, high) in zip(found, VIEWS[0].tolist(), strict=True):
        np.testing.assert_allclose(channel, View(low, high).apply(picture) / 255, atol=1e-5)


def test_between_pixels_the_views_are_interpolated_after_clipping(grid):
    picture = np.tile([0, 200], (SIZE, SIZE // 2))
    found = look(picture, grid[0] + 0.5, grid[1])[0, 1, :, :-1]
    assert torch.allclose(found, torch.tensor(0.5))  # black and white of the view 40 to 90


def test_anywhere_the_views_are_interpolated_as_torch_does():
    picture = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE + 4))
    x, y = (randomness(axis).uniform(-2, size + 2, 9, 9) for axis, size in ((0, SIZE + 4), (1, SIZE)))
    clipped = torch.from_numpy(np.stack([View(low, high).apply(picture) for low, high in VIEWS[0].tolist()])) / 255
    grid = torch.stack([(2 * x + 1) / (SIZE + 4) - 1, (2 * y + 1) / SIZE - 1], dim=-1)
    batch = clipped.expand(COUNT, -1, -1, -1)
    expected = F.grid_sample(batch, grid, mode="bilinear", padding_mode="border", align_corners=False)
    torch.testing.assert_close(look(picture, x, y), expected, atol=1e-4, rtol=0)


def test_soft_tissue_lands_where_soft_tissue_is_and_black_becomes_what_it_may_be(grid):
    picture, kinds = np.full((SIZE, SIZE), 100), np.zeros((SIZE, SIZE), np.uint8)
    kinds[0], kinds[1] = OUTSIDE, FAT
    hounsfield = look(picture, *grid, kinds=kinds, back=True)[:, 0] * 2100 - 1100
    assert torch.allclose(hounsfield[:, 0], torch.tensor(AIR_HU), atol=0.1)
    assert (hounsfield[:, 1] < -60).all()
    assert (hounsfield[:, 2:] > SOFT_TISSUE_HU[0] - 1).all() and (hounsfield[:, 2:] < SOFT_TISSUE_HU[1] + 1).all()


def test_without_smoothing_nothing_changes_and_a_flat_picture_never_does():
    images = torch.rand(COUNT, 3, SIZE, SIZE)
    torch.testing.assert_close(smooth(images, torch.zeros(COUNT)), images)
    flat = torch.full((COUNT, 3, SIZE, SIZE), 0.4)
    torch.testing.assert_close(smooth(flat, torch.full((COUNT,), 1.5)), flat)


def test_smoothing_takes_each_samples_own_sigma():
    images = F.pad(torch.ones(2, 1, 1, 1), (8, 8, 8, 8))
    little, much = smooth(images, torch.tensor([0.5, 2.0]))[:, 0, 8, 8]
    assert little > 3 * much


def test_views_move_little_or_become_one_window():
    views, quantiles = VIEWS[:, :1].expand(-1, 3, -1), torch.linspace(0, 255, 41).expand(COUNT, -1)
    assert torch.equal(randomize_views(views, quantiles, NOTHING, randomness(1)), views)
    moved = randomize_views(views, quantiles, AugmentationRates(random_window=0), randomness(1))
    assert (moved != views).any() and (moved - views).abs().max() <= 0.15 * 255
    one = randomize_views(views, quantiles, AugmentationRates(random_window=1), randomness(1))
    assert (one == one[:, :1]).all()


def test_pictures_are_recoloured_by_their_share_and_drawn_shapes_always():
    images, labels = torch.rand(COUNT, 3, SIZE, SIZE), torch.zeros(COUNT, SIZE, SIZE, dtype=torch.long)
    labels[:, 4:12, 4:12] = 3
    has_image = torch.tensor([True, True, False, False])
    found = randomize_intensity(images, labels, has_image, NOTHING, randomness(2))
    assert torch.equal(found[:2], images[:2])
    assert (found[2:] == found[2:, :1]).all() and not torch.equal(found[2:], images[2:])
    middle, edge = found[2:, 0, 6:10, 6:10].mean(dim=(1, 2)), found[2:, 0, :3].mean(dim=(1, 2))
    assert ((middle - edge).abs() > 1e-3).all()


def test_a_scanned_picture_keeps_shape_and_range():
    everything = AugmentationRates(gamma=1, blur=1, bias=1, noise=1, metal=1)
    found = simulate_scanner(torch.rand(COUNT, 3, 32, 32), everything, randomness(4))
    assert found.shape == (COUNT, 3, 32, 32) and found.min() >= 0 and found.max() <= 1


def test_without_shares_a_scan_changes_nothing():
    images = torch.rand(COUNT, 3, 32, 32).clamp(min=0.01)
    torch.testing.assert_close(simulate_scanner(images, NOTHING, randomness(4)), images)


@pytest.mark.parametrize("change", [half_randomized, scanned_fully])
def test_the_same_key_changes_pictures_alike(change):
    assert torch.equal(change(randomness(6)), change(randomness(6)))
    assert not torch.equal(change(randomness(6)), change(randomness(7)))


def test_random_numbers_depend_on_the_key_alone():
    assert torch.equal(randomness(1, 2).normal(5), randomness(1, 2).normal(5))
    assert not torch.equal(randomness(1, 2).normal(5), randomness(2, 1).normal(5))


COLORED = torch.tensor([True, True, False, True])


def test_colours_vary_only_where_there_are_any():
    varied = jitter_colors(PICTURES, COLORED, AugmentationRates(color=1.0), randomness(1))
    assert torch.equal(varied[2], PICTURES[2]) and varied.min() >= 0 and varied.max() <= 1
    assert all((varied[i] - PICTURES[i]).abs().max() > 0.05 for i in (0, 1, 3))
    assert torch.equal(
        jitter_colors(PICTURES, COLORED, AugmentationRates(color=0.0, grey=0.0), randomness(1)), PICTURES
    )


def test_some_colour_pictures_are_shown_in_grey():
    varied = jitter_colors(PICTURES, COLORED, AugmentationRates(color=0.0, grey=1.0), randomness(1))
    torch.testing.assert_close(varied[COLORED], PICTURES.mean(dim=1, keepdim=True).expand_as(PICTURES)[COLORED])
    assert torch.equal(varied[~COLORED], PICTURES[~COLORED])


def test_a_grey_picture_in_three_channels_keeps_them_equal():
    grey = PICTURES[:, :1].expand(-1, 3, -1, -1)
    varied = jitter_colors(grey, COLORED, AugmentationRates(color=1.0), randomness(2))
    torch.testing.assert_close(varied[:, :1].expand_as(varied), varied)


def test_the_hue_turns_by_a_tenth_of_a_turn_at_most_and_keeps_the_mean():
    red = torch.full((64, 3, 2, 2), 0.4)
    red[:, 0] = 0.6
    random = BatchRandom.from_key("cpu", 64, 5)
    varied = jitter_colors(red, torch.ones(64, dtype=torch.bool), AugmentationRates(color=1.0, grey=0.0), random)
    chroma = (varied - varied.mean(dim=1, keepdim=True))[:, :, 0, 0]
    before = (red - red.mean(dim=1, keepdim=True))[:, :, 0, 0]
    turned = torch.rad2deg(torch.acos(F.cosine_similarity(chroma, before).clamp(-1, 1)))
    assert turned.max() <= 36.01 and turned.max() > 20
    brightness = varied.mean(dim=(1, 2, 3)) / red.mean(dim=(1, 2, 3))
    assert brightness.min() > 0.59 and brightness.max() < 1.41


def test_the_recipes_say_every_number_of_the_augmentation(repository):
    """What a recipe does not say, such as colours in cubes, changes nothing in it."""
    slices = json.loads((repository / "configs/recipes/shipped/batched.json").read_text("utf-8"))["augmentation_rates"]
    names = {one.name for one in fields(AugmentationRates)}
    assert set(slices) == names - {"stretch_range"}
    for recipe in ("train", "continue"):
        cubes = CubeRecipe.read(repository / "configs" / "recipes" / "volumes" / f"{recipe}.json").samples["rates"]
        assert set(cubes) == names - {"hounsfield", "metal", "color", "grey", "shear_range"}


def test_the_ranges_are_those_that_are_drawn():
    """A range of one value changes by it alone: here every picture is turned into its square."""
    rates = replace(NOTHING, gamma=1.0, gamma_range=(2.0, 2.0))
    images = torch.rand(2, 3, 8, 8)
    assert torch.allclose(simulate_scanner(images, rates, BatchRandom.from_key("cpu", 2, 0)), images**2, atol=1e-4)
