"""The TinyViT encoder at every size of its grid."""

from __future__ import annotations

import pytest
import torch

from bundle.families.builders import sam_tiny_vit


@pytest.mark.parametrize(("size", "grid"), [(64, 4), (64, 8), (64, 16), (128, 16)])
def test_tiny_vit_pyramid_embeds_at_every_grid(size, grid):
    network = sam_tiny_vit(image_size=size, grid=grid, neck="pyramid", window_sizes=(8, 16, 8)).eval()
    assert network.prepare(torch.zeros(1, 3, size, size)).tensors["embedding"].shape == (1, 256, grid, grid)


@pytest.mark.parametrize(("stem", "size"), [("strided", 128), ("pointwise", 32)])
def test_tiny_vit_with_sams_neck_embeds_at_the_last_stage(stem, size):
    network = sam_tiny_vit(image_size=size, grid=8, stem=stem).eval()
    assert network.prepare(torch.zeros(1, 3, size, size)).tensors["embedding"].shape == (1, 256, 8, 8)
