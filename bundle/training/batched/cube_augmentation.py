"""Augmentation of cubes of volumes, on the device that trains; what ``augmentation`` does to slices, in 3D.

Images are (B, C, S, S, S) float32 in 0..1; each sample draws for itself whether and how much it is changed.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from bundle.training.batched.augmentation import AugmentationRates, BatchRandom

SHADES = 512  # label values that are told apart when they are coloured
_REACH = 3  # cells to each side that smoothing sees
_KNOTS = 6  # of a curve of grey values
_THICK = (2, 3, 4)  # cells of a thick slice


def wide(values: Tensor) -> Tensor:
    """(B,) to (B, 1, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1, 1)


def field(random: BatchRandom, channels: int, cells: int, size: int) -> Tensor:
    """(B, channels, S, S, S) smooth noise with ``cells`` structures along a side."""
    coarse = random.normal(channels, *(cells + 2,) * 3)
    return F.interpolate(coarse, (size,) * 3, mode="trilinear", align_corners=False)


def texture(random: BatchRandom, size: int) -> Tensor:
    """(B, 1, S, S, S) noise of three scales, unit standard deviation."""
    return sum(field(random, 1, max(1, size // part), size) for part in (2, 6, 16)) / 3**0.5


def smooth(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian smoothing by a sigma in cells for each sample; 0 leaves it as it is."""
    weights = _smoothing(sigma, images.shape[-1])
    for axis in (2, 3, 4):
        images = along(images, weights, axis)
    return images


def along(images: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Each sample's (S, S) matrix of (B, S, S) applied to one axis of (B, C, S, S, S): one matrix product a sample."""
    moved = images.movedim(axis, 1)
    return torch.bmm(weights, moved.flatten(2)).view(moved.shape).movedim(1, axis)


def _smoothing(sigma: Tensor, size: int) -> Tensor:
    """(B, S, S) matrices that smooth by a sigma in cells; the last cell goes on beyond the faces."""
    places = torch.arange(-_REACH, size + _REACH, device=sigma.device)
    away = places - torch.arange(size, device=sigma.device)[:, None]  # (S, S + 2 reach)
    weights = torch.exp(-(away**2) / (2 * sigma.clamp(min=1e-3).view(-1, 1, 1) ** 2)) * (away.abs() <= _REACH)
    weights = weights / weights.sum(dim=2, keepdim=True)
    inner = weights[:, :, _REACH : _REACH + size].clone()
    inner[:, :, 0] += weights[:, :, :_REACH].sum(dim=2)
    inner[:, :, -1] += weights[:, :, _REACH + size :].sum(dim=2)
    return inner


def show(values: Tensor, views: Tensor, rates: AugmentationRates, random: BatchRandom) -> Tensor:
    """Intensities through three views whose ends move, or through one window between random quantiles.

    Args:
        values: (B, 1, S, S, S).
        views: (B, 3, 2) low and high ends.
        rates: of the changes.
        random: draws them.

    Returns:
        (B, 3, S, S, S) in 0..1.
    """
    views = views + rates.window_jitter * (views[..., 1:] - views[..., :1]) * random.uniform(-1, 1, 3, 2)
    low, high = (views[..., end].view(-1, 3, 1, 1, 1) for end in (0, 1))
    shown = ((values - low) / (high - low)).clamp(0, 1)
    some = values.flatten(1)[:, :: max(1, values[0].numel() // 4096)]
    ends = torch.quantile(some, torch.tensor([0.02, 0.2, 0.75, 0.98], device=values.device), dim=1)
    low = ends[0] + (ends[1] - ends[0]) * random.uniform(0, 1)
    high = torch.maximum(ends[2] + (ends[3] - ends[2]) * random.uniform(0, 1), low + 20)
    window = ((values - wide(low)) / wide(high - low)).clamp(0, 1)
    window = torch.where(wide(random.bernoulli(0.5)), 1 - window, window)
    return torch.where(wide(random.bernoulli(rates.random_window)), window.expand_as(shown), shown)


def recolour(images: Tensor, labels: Tensor, rates: AugmentationRates, random: BatchRandom) -> Tensor:
    """The same anatomy as another modality might show it, in some samples; see ``randomize_intensity``.

    Args:
        images: (B, 3, S, S, S) in 0..1.
        labels: (B, 1, S, S, S) label maps.
        rates: of the changes.
        random: draws them.
    """
    grey = images[:, 1:2]
    knots = random.uniform(0, 1, _KNOTS)
    place = (grey * (_KNOTS - 1)).flatten(1)
    before = place.long().clamp(max=_KNOTS - 2)
    left, right = knots.gather(1, before), knots.gather(1, before + 1)
    grey = (left + (place - before) * (right - left)).view_as(grey)
    drawn = paint(grey, labels, wide(random.uniform(0, 0.8)) * (labels > 0), random)
    return torch.where(wide(random.bernoulli(rates.random_intensity)), drawn.expand_as(images), images)


def paint(grey: Tensor, labels: Tensor, share: Tensor | float, random: BatchRandom) -> Tensor:
    """Each labelled structure drawn towards a shade and grain of its own by a share; (B, 1, S, S, S) in 0..1."""
    place = labels.long().remainder(SHADES).flatten(1)
    shades = random.uniform(0, 1, SHADES).gather(1, place).view_as(grey)
    grain = random.uniform(0, 0.12, SHADES).gather(1, place).view_as(grey)
    return (grey + share * (shades - grey) + share * grain * texture(random, grey.shape[-1])).clamp(0, 1)


def simulate_scanner(images: Tensor, rates: AugmentationRates, random: BatchRandom) -> Tensor:
    """As other scanners would give it: contrast, shading, low resolution, thick slices and grain."""
    size = images.shape[-1]
    gamma = torch.where(random.bernoulli(rates.gamma), random.log_uniform(*rates.gamma_range), 1.0)
    images = images.clamp(min=1e-4) ** wide(gamma)
    shading = torch.where(random.bernoulli(rates.bias), random.uniform(0, rates.bias_range), 0.0)
    images = images * (wide(shading) * field(random, 1, 2, size)).exp()
    images = smooth(images, torch.where(random.bernoulli(rates.blur), random.log_uniform(*rates.blur_range), 0.0))
    images = _thick_slices(images, random)
    grain = torch.where(
        wide(random.bernoulli(0.5)), random.normal(1, size, size, size), field(random, 1, size // 2, size)
    )
    strength = torch.where(random.bernoulli(rates.noise), random.uniform(0, rates.noise_range), 0.0)
    return (images + wide(strength) * grain).clamp(0, 1)


def _thick_slices(images: Tensor, random: BatchRandom) -> Tensor:
    """A third of the samples as slices of several cells along their first axis, interpolated or in steps."""
    thick = random.bernoulli(0.35)
    which = random.uniform(0, len(_THICK)).long().clamp(max=len(_THICK) - 1)
    which = 1 + 2 * which + random.bernoulli(0.7)
    weights = _thickening(images.shape[-1]).to(images.device)
    return along(images, weights[torch.where(thick, which, 0)], 2)


@cache
def _thickening(size: int) -> Tensor:
    """(1 + 2 len(_THICK), S, S) matrices: nothing, then slices of each thickness in steps, and interpolated."""
    cells = torch.eye(size)[None]  # (1, S, S): what becomes of each cell, in columns of the transposed matrix
    found = [cells]
    for thickness in _THICK:
        averaged = F.avg_pool1d(cells, thickness, ceil_mode=True)
        found += [F.interpolate(averaged, size, mode=mode) for mode in ("nearest", "linear")]
    return torch.cat(found).mT.contiguous()
