"""Intensity augmentation of whole batches, on the device that trains.

What ``bundle.data.augmentation``, ``bundle.data.hounsfield`` and MONAI's intensity transforms do to one slice.
Images are (B, C, S, S) float32 in 0..1; each sample draws for itself whether and how much it is changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bundle import _moved
from bundle.data.hounsfield import AIR_HU, BLACK_HU, FAT, FAT_GRAIN_HU, FAT_HU, GAS, GAS_HU, OUTSIDE, SOFT_TISSUE_HU

Blur = Callable[[Tensor, Tensor], Tensor]
SHADES = 1024  # label values that are told apart when they are coloured
_KNOTS = 5  # of a curve of grey values
_REACH = 4  # pixels to each side that smoothing sees
_EDGE_SIGMA = 0.7  # pixels; no scanner draws a structure with a hard edge


@dataclass(frozen=True)
class AugmentationRates:
    """Which share of the samples is changed how, and how much; of slices and of cubes of volumes.

    Where the numbers come from stands in configs/recipes/shipped/README.md.

    Attributes:
        hounsfield: windowed CT images that are taken back to approximate HU and through the CT contract.
        random_window: one window between random quantiles in all views, inverted in half of them.
        random_intensity: grey values and labelled structures get random shades (``randomize_intensity``).
        gamma, blur, bias, noise, metal: contrast, low resolution, smooth shading, grain, streaks around a bright spot.
        color, grey: of the colour pictures, those whose colours vary, and those that are shown in grey
            (``colors.jitter_colors``).
        rotation, bend: samples that are turned, and that are bent.
        window_jitter: the ends of every view move by up to this part of its width.
        gamma_range: lowest and highest exponent.
        blur_range: lowest and highest sigma in pixels or cells.
        bias_range, noise_range: strongest shading (of the logarithm) and grain, of 1.
        rotation_range: largest angle in rad.
        stretch_range: lowest and highest factor of each side of a cube; slices are sheared instead.
        shear_range: largest shift of a row per row.
        bend_range: standard deviation of the shift, as a share of the side that is shown.
    """

    hounsfield: float = 0.6
    random_window: float = 0.2
    random_intensity: float = 0.25
    gamma: float = 0.3
    blur: float = 0.3
    bias: float = 0.2
    noise: float = 0.35
    metal: float = 0.03
    window_jitter: float = 0.15
    color: float = 0.8
    grey: float = 0.2
    rotation: float = 0.8
    bend: float = 0.4
    gamma_range: Sequence[float] = (0.7, 1.5)
    blur_range: Sequence[float] = (0.4, 2.0)
    bias_range: float = 0.35
    noise_range: float = 0.06
    rotation_range: float = 0.4
    stretch_range: Sequence[float] = (1.0, 1.0)
    shear_range: float = 0.1
    bend_range: float = 0.025


class BatchRandom:
    """Random numbers for a batch.

    Args:
        generator: on the device of the batch.
        count: B.
    """

    def __init__(self, generator: torch.Generator, count: int) -> None:
        self.generator, self.count = generator, count

    @classmethod
    def from_key(cls, device: torch.device | str, count: int, *key: int) -> BatchRandom:
        """Numbers that depend on the key alone."""
        seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1  # torch's are signed
        return cls(torch.Generator(device).manual_seed(seed), count)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(B, *shape) between ``low`` and ``high``."""
        drawn = torch.rand(self.count, *shape, generator=self.generator, device=self.generator.device)
        return low + (high - low) * drawn

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(B, *shape) between ``low`` and ``high``, half of them below their geometric mean."""
        return self.uniform(math.log(low), math.log(high), *shape).exp()

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) of unit standard deviation."""
        return torch.randn(self.count, *shape, generator=self.generator, device=self.generator.device)

    def bernoulli(self, share: float) -> Tensor:
        """(B,) bool, true in this share of the samples."""
        return self.uniform(0, 1) < share

    def field(self, channels: int, cells: int, size: int) -> Tensor:
        """(B, channels, size, size) smooth noise with ``cells`` structures along a side."""
        coarse = self.normal(channels, cells + 2, cells + 2)
        return F.interpolate(coarse, (size, size), mode="bicubic", align_corners=False)


class Guess(NamedTuple):
    """The HU of windowed images, as ``hounsfield.estimate_hounsfield`` guesses them; (B,) each.

    Attributes:
        black, slope: HU of the grey value 0, and of one grey level.
        fat, gas: what lies where the window made the body black; some images have no gas, but fat.
    """

    black: Tensor
    slope: Tensor
    fat: Tensor
    gas: Tensor


def guess_hounsfield(peak: Tensor, random: BatchRandom) -> Guess:
    """Draw the unknowns of images whose soft tissue has the grey value ``peak`` (B,)."""
    black = random.uniform(*BLACK_HU)
    slope = (random.uniform(*SOFT_TISSUE_HU) - black) / peak.clamp(min=1)
    fat, gas = random.uniform(*FAT_HU), random.uniform(*GAS_HU)
    return Guess(black, slope, fat, torch.where(random.bernoulli(0.5), gas, fat))


def apply_views(
    pixels: Tensor,
    kinds: Tensor,
    indices: Tensor,
    weights: Tensor,
    guess: Guess,
    back: Tensor,
    grain: Tensor,
    views: Tensor,
    planes: Tensor | None = None,
) -> Tensor:
    """The views applied to each pixel: (B, C, S, S) in 0..1, interpolated between its four neighbours.

    Every neighbour goes through the views first, as in use, where clipping comes before resizing.

    Args:
        pixels, kinds: flat, as ``SliceTensors`` has them.
        indices, weights: (B, 4, S, S) where the neighbours lie in ``pixels``, and their bilinear weights.
        guess: what windowed images become ...
        back: (B,) bool, ... in those samples that are taken back to HU.
        grain: (B, S, S) noise of fat that the window had made black, unit standard deviation.
        views: (B, C, 2) low and high ends.
        planes: (B,) how far in ``pixels`` it is from a colour to the next; 0 in grey pictures, which all views show.
            None where there is no colour at all.
    """
    values, what = pixels[indices].float(), kinds[indices]
    fat = wide(guess.fat) + FAT_GRAIN_HU * grain[:, None]
    hounsfield = wide(guess.black) + wide(guess.slope) * values
    hounsfield = torch.where(what == FAT, fat, hounsfield)
    hounsfield = torch.where(what == GAS, torch.where(wide(guess.gas == guess.fat), fat, wide(guess.gas)), hounsfield)
    values = torch.where(wide(back), torch.where(what == OUTSIDE, AIR_HU, hounsfield), values)
    channels = []
    for number, view in enumerate(views.unbind(dim=1)):
        low, high = (wide(end) for end in view.unbind(dim=1))
        if planes is not None and number:
            color = pixels[indices + number * wide(planes)].float()
            values = torch.where(wide(planes > 0), color, values)
        channels.append((((values - low) / (high - low)).clamp(0, 1) * weights).sum(dim=1))
    return torch.stack(channels, dim=1)


def randomize_views(views: Tensor, quantiles: Tensor, rates: AugmentationRates, random: BatchRandom) -> Tensor:
    """Move the ends of the views, and replace some by one window between random quantiles.

    Args:
        views: (B, 3, 2) low and high ends.
        quantiles: (B, Q) of the picture that they show.
        rates: of the changes.
        random: draws them.
    """
    width = views[..., 1:] - views[..., :1]
    moved = views + rates.window_jitter * width * random.uniform(-1, 1, 3, 2)
    last = quantiles.shape[1] - 1
    indices = torch.stack([random.uniform(0, 0.4 * last), random.uniform(0.75 * last, last)], dim=1).round().long()
    low, high = quantiles.gather(1, indices).unbind(dim=1)
    window = torch.stack([low, torch.maximum(high, low + 1)], dim=1)
    window = torch.where(random.bernoulli(0.5)[:, None], window.flip(1), window)
    return torch.where(random.bernoulli(rates.random_window)[:, None, None], window[:, None], moved)


def randomize_intensity(
    images: Tensor, labels: Tensor, has_image: Tensor, rates: AugmentationRates, random: BatchRandom
) -> Tensor:
    """The same anatomy as another modality might show it; drawn shapes get their only colours here.

    After SynthSeg (Billot et al. 2023), on real texture: one view goes through a random curve that may rise and fall,
    and each labelled structure is drawn towards a shade of its own.

    Args:
        images: (B, 3, S, S) in 0..1.
        labels: (B, S, S) label maps.
        has_image: (B,) bool, false where there is no picture, only labels.
        rates: of the changes.
        random: draws them.
    """
    size = images.shape[-1]
    chosen = random.uniform(0, 3).long().clamp(max=2)
    grey = images[torch.arange(len(images), device=images.device), chosen]
    grey = _curved(grey, random)
    place = labels.long().remainder(SHADES).flatten(1)
    middle, spread = random.uniform(0.2, 0.8, 1), random.uniform(0.15, 1, 1)
    shades = (middle + spread * (random.uniform(0, 1, SHADES) - middle)).gather(1, place).view_as(grey)
    share = torch.where(has_image, random.uniform(0, 0.8), 1.0)[:, None, None]
    share = torch.where(has_image[:, None, None] & (labels == 0), 0.0, share.expand_as(grey))
    edges = torch.full_like(middle[:, 0], _EDGE_SIGMA)
    shades, share = smooth(torch.stack([shades, share], dim=1), edges).unbind(dim=1)
    drawn = grey + share * (shades - grey)
    texture = sum(random.field(1, cells, size)[:, 0] for cells in (size // 2, size // 6, size // 20)) / 3**0.5
    grain = random.uniform(0, 0.12, SHADES).gather(1, place).view_as(grey)
    drawn = (drawn + share * grain * texture).clamp(0, 1)
    changed = random.bernoulli(rates.random_intensity) | ~has_image
    return torch.where(wide(changed), drawn[:, None], images)


def simulate_scanner(
    images: Tensor, rates: AugmentationRates, random: BatchRandom, *, blur: Blur | None = None
) -> Tensor:
    """As other scanners would give it: contrast, shading, metal, low resolution and grain; (B, 3, S, S) in 0..1.

    Args:
        images: in 0..1.
        rates: of the changes.
        random: draws them.
        blur: ``smooth``, or a compiled one.
    """
    size = images.shape[-1]
    gamma = torch.where(random.bernoulli(rates.gamma), random.log_uniform(*rates.gamma_range), 1.0)
    images = images.clamp(min=1e-4) ** wide(gamma)
    shading = torch.where(random.bernoulli(rates.bias), random.uniform(0, rates.bias_range), 0.0)
    images = images * (wide(shading) * random.field(1, 2, size)).exp()
    images = images + wide(random.bernoulli(rates.metal)) * _streaks(size, random)
    sigma = torch.where(random.bernoulli(rates.blur), random.log_uniform(*rates.blur_range), 0.0)
    images = (blur or smooth)(images, sigma)
    noise = torch.where(
        random.bernoulli(0.5)[:, None, None, None], random.normal(1, size, size), random.field(1, size // 2, size)
    )
    strength = torch.where(random.bernoulli(rates.noise), random.uniform(0, rates.noise_range), 0.0)
    return (images + wide(strength) * noise).clamp(0, 1)


def _curved(grey: Tensor, random: BatchRandom) -> Tensor:
    """(B, S, S) through straight lines between random values that reach from 0 to 1; three values in half of them."""
    knots = random.uniform(0, 1, _KNOTS)
    few = torch.stack(
        [knots[:, 0], knots[:, [0, 2]].mean(1), knots[:, 2], knots[:, [2, 4]].mean(1), knots[:, 4]], dim=1
    )
    knots = torch.where(random.bernoulli(0.5)[:, None], few, knots)
    low = knots.amin(dim=1, keepdim=True)
    knots = (knots - low) / (knots.amax(dim=1, keepdim=True) - low).clamp(min=1e-3)
    place = (grey * (_KNOTS - 1)).flatten(1)
    before = place.long().clamp(max=_KNOTS - 2)
    left, right = knots.gather(1, before), knots.gather(1, before + 1)
    return (left + (place - before) * (right - left)).view_as(grey)


def _streaks(size: int, random: BatchRandom) -> Tensor:
    """(B, 1, S, S) a bright spot somewhere, with streaks that fade away from it."""
    place = torch.arange(size, device=random.generator.device, dtype=torch.float32)
    x = place.view(1, 1, size) - random.uniform(0, size, 1, 1)
    y = place.view(1, size, 1) - random.uniform(0, size, 1, 1)
    away = torch.hypot(x, y)
    rays = random.normal(64)
    around = (torch.atan2(y, x) / (2 * math.pi) + 0.5) * 63.99
    strength = rays.gather(1, around.long().flatten(1)).view_as(away)
    spot = (away < random.uniform(2, 6, 1, 1)).float()
    return (spot + random.uniform(0, 0.4, 1, 1) * strength * torch.exp(-away / (size / 4)))[:, None]


def smooth(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian smoothing of (B, C, S, S), by a sigma in pixels for each sample; 0 leaves it as it is."""
    distance = torch.arange(-_REACH, _REACH + 1, device=images.device)
    weights = torch.exp(-(distance**2) / (2 * sigma.clamp(min=1e-3)[:, None] ** 2))
    weights = weights / weights.sum(dim=1, keepdim=True)
    for axis in (-1, -2):
        padded = F.pad(images, (_REACH, _REACH, 0, 0) if axis == -1 else (0, 0, _REACH, _REACH), mode="replicate")
        size = images.shape[axis]
        images = sum(padded.narrow(axis, k, size) * wide(weights[:, k]) for k in range(2 * _REACH + 1))
    return images


def wide(values: Tensor) -> Tensor:
    """(B,) to (B, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


__getattr__ = _moved.renamed(__name__)  # former names
