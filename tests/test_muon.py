"""Muon in few launches makes the steps of timm's, and AdamW's for vectors."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.optim.muon import Muon, zeropower_via_newtonschulz
from torch import nn

from bundle.training.muon import _COEFFICIENTS, BatchedMuon, orthogonalised

RATE, DECAY = 0.01, 0.05


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 16, 3), nn.GroupNorm(2, 16), nn.Conv2d(16, 16, 3), nn.Linear(16, 24))


def step(network: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


def test_kernels_and_matrices_step_as_timms(network):
    other = copy.deepcopy(network)
    ours = BatchedMuon(network.parameters(), lr=RATE, weight_decay=DECAY)
    theirs = Muon(other.parameters(), lr=RATE, weight_decay=DECAY, momentum=0.95, nesterov=True)
    for seed in range(4):
        step(network, ours, seed)
        step(other, theirs, seed)
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        if one.ndim > 1:
            assert torch.linalg.norm(one - two) < 1e-3 * torch.linalg.norm(two)


def test_vectors_step_as_adamw(network):
    other = copy.deepcopy(network)
    ours = BatchedMuon(network.parameters(), lr=RATE, weight_decay=DECAY)
    theirs = torch.optim.AdamW(other.parameters(), lr=RATE, weight_decay=DECAY, betas=(0.9, 0.95))
    for seed in range(4):
        step(network, ours, seed)
        step(other, theirs, seed)
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        if one.ndim == 1:
            torch.testing.assert_close(one, two)


def test_a_stored_state_goes_on_as_if_nothing_had_happened(network):
    ours = BatchedMuon(network.parameters(), lr=RATE)
    step(network, ours, 0)
    other = copy.deepcopy(network)
    again = BatchedMuon(other.parameters(), lr=RATE)
    again.load_state_dict(copy.deepcopy(ours.state_dict()))
    step(network, ours, 1)
    step(other, again, 1)
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two)


def test_parameters_without_a_gradient_stay(network):
    before = network[0].weight.detach().clone()
    optimizer = BatchedMuon(network.parameters(), lr=RATE, weight_decay=DECAY)
    network[3].weight.grad = torch.ones_like(network[3].weight)
    optimizer.step()
    assert torch.equal(network[0].weight, before)


@pytest.mark.parametrize("shape", [(3, 8, 20), (2, 20, 8), (1, 6, 6)])
def test_the_iteration_is_timms_bit_for_bit(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    expected = zeropower_via_newtonschulz(matrices, len(_COEFFICIENTS), _COEFFICIENTS)
    assert torch.equal(orthogonalised(matrices), expected)


def test_a_matrix_of_zeros_stays_one():
    assert not orthogonalised(torch.zeros(1, 4, 6)).any()
