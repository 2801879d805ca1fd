"""What is done to cubes along one axis after the other is what a pooling, an interpolation and a filter do."""

from __future__ import annotations

import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F

from bundle.training.batched.cube_augmentation import _THICK, _thickening, along, smooth

CUBES = torch.rand(3, 2, 12, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("place", range(len(_THICK)))
def test_thick_slices_are_averages_shown_in_steps_or_interpolated(place):
    averaged = F.avg_pool3d(CUBES, (_THICK[place], 1, 1), ceil_mode=True)
    steps, even = _thickening(12)[1 + 2 * place : 3 + 2 * place]
    assert torch.allclose(along(CUBES, steps.expand(3, -1, -1), 2), F.interpolate(averaged, (12,) * 3), atol=1e-6)
    expected = F.interpolate(averaged, (12,) * 3, mode="trilinear", align_corners=False)
    assert torch.allclose(along(CUBES, even.expand(3, -1, -1), 2), expected, atol=1e-6)


def test_cubes_are_smoothed_by_their_own_sigma_as_a_filter_does():
    sigmas = [0.0, 0.6, 1.0]
    for cube, found, sigma in zip(CUBES, smooth(CUBES, torch.tensor(sigmas)), sigmas, strict=True):
        for channel, answer in zip(cube, found, strict=True):
            expected = ndimage.gaussian_filter(channel.double().numpy(), sigma, mode="nearest", radius=3)
            assert torch.allclose(answer, torch.from_numpy(expected).float(), atol=1e-5)
