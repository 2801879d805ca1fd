"""The faster attention answers what segment-anything's does."""

from __future__ import annotations

import pytest
import torch
from segment_anything.modeling.image_encoder import Attention

from bundle.networks.blocks import BlockwiseAttention


def attentions(*, relative: bool, height: int = 5, width: int = 7) -> tuple[Attention, BlockwiseAttention]:
    torch.manual_seed(0)
    theirs = Attention(16, num_heads=2, use_rel_pos=relative, input_size=(height, width)).double()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return theirs, BlockwiseAttention(theirs)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("queries", [4, 35, 512])
def test_blocks_of_queries_give_what_all_at_once_give(relative, queries):
    theirs, ours = attentions(relative=relative)
    ours.queries = queries
    x = torch.randn(3, 5, 7, 16, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))


def test_gradients_are_the_same_and_the_parameters_keep_their_names():
    theirs, ours = attentions(relative=True)
    ours.queries = 8
    x = torch.randn(2, 5, 7, 16, dtype=torch.float64)
    names = list(theirs.state_dict())
    assert list(ours.state_dict()) == names
    theirs(x).square().sum().backward()
    expected = {name: parameter.grad.clone() for name, parameter in theirs.named_parameters()}
    theirs.zero_grad()
    ours(x).square().sum().backward()
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])
