"""The decoder that sees finer features of the image than the grid of its embedding."""

from __future__ import annotations

import pytest
import torch
from training_room import GRID, SIZE, make_network

from bundle.networks.build import sam_tiny_vit
from bundle.networks.mask_decoder import FineMaskDecoder
from bundle.networks.promptable_sam import PromptBatch

BOXES = PromptBatch(boxes=torch.tensor([[10.0, 12.0, 40.0, 44.0], [3.0, 5.0, 60.0, 50.0]]))


@pytest.fixture(scope="module")
def fine():
    network = make_network(fine=True).eval()
    for name, parameter in network.mask_decoder.named_parameters():
        if name.startswith("fine"):
            torch.nn.init.normal_(parameter, std=0.1)
    return network


def test_fresh_fine_features_change_nothing():
    network, plain = make_network(fine=True).eval(), make_network().eval()
    plain.load_state_dict(network.state_dict(), strict=False)
    torch.manual_seed(0)
    image = torch.randn(1, 3, SIZE, SIZE)
    torch.testing.assert_close(
        network.decode(network.encode(image), BOXES).logits, plain.decode(plain.encode(image), BOXES).logits
    )


def test_an_embedding_with_fine_features_is_one_tensor(fine):
    embedding = fine.encode(torch.zeros(1, 3, SIZE, SIZE))
    assert isinstance(fine.mask_decoder, FineMaskDecoder)
    assert embedding.shape == (1, fine.mask_decoder.image_channels, GRID, GRID) == (1, 512, GRID, GRID)
    assert fine.decode(embedding, BOXES, multimask=True).logits.shape == (2, 3, 4 * GRID, 4 * GRID)


def test_the_finer_features_reach_the_mask(fine):
    torch.manual_seed(0)
    embedding = fine.encode(torch.randn(1, 3, SIZE, SIZE))
    before = fine.decode(embedding, BOXES).logits
    for channels in (slice(256, 384), slice(384, 512)):
        changed = embedding.clone()
        changed[:, channels] += 1
        assert not torch.allclose(fine.decode(changed, BOXES).logits, before)


def test_a_fine_cell_changes_only_the_mask_around_it(fine):
    torch.manual_seed(0)
    embedding = fine.encode(torch.randn(1, 3, SIZE, SIZE))
    changed = embedding.clone()
    changed[:, 384:, 2, 5] += 1  # one cell of the grid holds 4 x 4 cells of the mask
    difference = (fine.decode(changed, BOXES).logits - fine.decode(embedding, BOXES).logits).abs().amax(dim=(0, 1))
    rows, columns = (difference > 1e-5).nonzero().unbind(1)
    assert rows.min() >= 7 and rows.max() <= 12 and columns.min() >= 19 and columns.max() <= 24  # 3 x 3 kernel


def test_without_fine_features_the_decoder_is_sams(fine):
    plain, names = make_network(), set(fine.state_dict())
    added = {name for name in names - set(plain.state_dict())}
    assert all(".fine" in name for name in added) and plain.mask_decoder.image_channels == 256


@pytest.mark.parametrize(("grid", "stem"), [(4, "strided"), (8, "strided"), (16, "strided"), (16, "pointwise")])
def test_fine_features_exist_at_every_grid(grid, stem):
    network = sam_tiny_vit(image_size=64, grid=grid, neck="pyramid", stem=stem, window_sizes=(4, 4, 4), fine=True)
    logits = network.eval().decode(network.encode(torch.zeros(1, 3, 64, 64)), BOXES).logits
    assert logits.shape[-1] == 4 * grid
