"""Augmentation of colour pictures in whole batches, on the device that trains."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bundle.training.batched.augmentation import AugmentationRates, BatchRandom, wide

_COLOR, _HUE = 0.4, 0.1  # see jitter_colors


def jitter_colors(images: Tensor, colored: Tensor, rates: AugmentationRates, random: BatchRandom) -> Tensor:
    """Other stains, lamps and cameras: brightness, contrast, saturation and hue of colour pictures vary; some are grey.

    The ranges are those of MoCo v2 (Chen et al. 2020, arXiv 2003.04297), 0.4, 0.4, 0.4 and 0.1 of a turn, and so are
    the default shares of pictures. The hue is turned around the grey axis, which keeps the mean of a pixel's colours.

    Args:
        images: (B, 3, S, S) in 0..1.
        colored: (B,) bool, the colour pictures; the others stay as they are.
        rates: of the changes.
        random: draws them.
    """
    brightness, contrast, saturation = random.uniform(1 - _COLOR, 1 + _COLOR, 3).unbind(dim=1)
    angle = 2 * math.pi * random.uniform(-_HUE, _HUE)
    varied = (images * wide(brightness)).clamp(0, 1)
    middle = varied.mean(dim=(1, 2, 3), keepdim=True)
    varied = (middle + wide(contrast) * (varied - middle)).clamp(0, 1)
    grey = varied.mean(dim=1, keepdim=True)
    chroma = varied - grey
    across = (chroma.roll(1, dims=1) - chroma.roll(-1, dims=1)) / 3**0.5  # grey axis x chroma
    turned = wide(angle.cos()) * chroma + wide(angle.sin()) * across
    varied = (grey + wide(saturation) * turned).clamp(0, 1)
    images = torch.where(wide(colored & random.bernoulli(rates.color)), varied, images)
    grey = images.mean(dim=1, keepdim=True).expand_as(images)
    return torch.where(wide(colored & random.bernoulli(rates.grey)), grey, images)
