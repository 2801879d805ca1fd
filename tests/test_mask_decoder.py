"""The decoder that sees finer features of the image than the grid of its embedding."""

from __future__ import annotations

import pytest
import torch
from training_room import GRID, SIZE, make_network

from bundle.families.builders import sam_tiny_vit
from bundle.networks.interface import Prepared
from bundle.networks.mask_decoder import FineMaskDecoder
from bundle.prompts.batch import PromptBatch

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
        network.predict(network.prepare(image), BOXES).logits, plain.predict(plain.prepare(image), BOXES).logits
    )


def test_finer_features_come_beside_the_embedding(fine):
    prepared = fine.prepare(torch.zeros(1, 3, SIZE, SIZE))
    assert isinstance(fine.mask_decoder, FineMaskDecoder)
    assert {name: tuple(tensor.shape) for name, tensor in prepared.tensors.items()} == {
        "embedding": (1, 256, GRID, GRID),
        "fine2": (1, 32, 2 * GRID, 2 * GRID),
        "fine4": (1, 8, 4 * GRID, 4 * GRID),
    }
    assert fine.predict(prepared, BOXES, multimask=True).logits.shape == (2, 3, 4 * GRID, 4 * GRID)


@pytest.fixture(scope="module")
def prepared(fine):
    torch.manual_seed(0)
    return fine.prepare(torch.randn(1, 3, SIZE, SIZE))


def changed(prepared, name, where=...):
    """The same with one of the tensors 1 higher, there."""
    tensor = prepared.tensors[name].clone()
    tensor[where] += 1
    return Prepared({**prepared.tensors, name: tensor})


@pytest.mark.parametrize("name", ["fine2", "fine4"])
def test_the_finer_features_reach_the_mask(fine, prepared, name):
    before = fine.predict(prepared, BOXES).logits
    assert not torch.allclose(fine.predict(changed(prepared, name), BOXES).logits, before)


def test_a_fine_cell_changes_only_the_mask_around_it(fine, prepared):
    there = (slice(None), slice(None), slice(8, 12), slice(20, 24))
    after = fine.predict(changed(prepared, "fine4", there), BOXES).logits
    difference = (after - fine.predict(prepared, BOXES).logits).abs().amax(dim=(0, 1))
    rows, columns = (difference > 1e-5).nonzero().unbind(1)
    assert rows.min() >= 7 and rows.max() <= 12 and columns.min() >= 19 and columns.max() <= 24  # 3 x 3 kernel


def test_without_fine_features_the_decoder_is_sams(fine):
    plain, names = make_network(), set(fine.state_dict())
    assert all(".fine" in name for name in names - set(plain.state_dict()))
    assert set(plain.prepare(torch.zeros(1, 3, SIZE, SIZE)).tensors) == {"embedding"}


@pytest.mark.parametrize(("grid", "stem"), [(4, "strided"), (8, "strided"), (16, "strided"), (16, "pointwise")])
def test_fine_features_exist_at_every_grid(grid, stem):
    network = sam_tiny_vit(image_size=64, grid=grid, neck="pyramid", stem=stem, window_sizes=(4, 4, 4), fine=True)
    logits = network.eval().predict(network.prepare(torch.zeros(1, 3, 64, 64)), BOXES).logits
    assert logits.shape[-1] == 4 * grid
