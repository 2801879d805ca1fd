"""Label maps from networks that need no prompt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fakes import bright_contract
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bundle.data.volume import Volume
from bundle.evaluation.records import EvaluationError
from bundle.evaluation.semantic import AutomaticModel, stacks
from bundle.networks.semantic import SemanticSam3d

ORGAN = 7
OBLIQUE = np.array([[0, -2, 0, 0], [1, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1.0]])


class BrightSlices(nn.Module):
    """Two classes of slices: dark and bright."""

    def forward(self, image):
        return torch.stack([0.5 - image[:, 0], image[:, 0] - 0.5], dim=1)


class BrightStacks(SemanticSam3d):
    """The same of stacks; it notes how many slices it saw."""

    def __init__(self):
        nn.Module.__init__(self)
        self.depths = []

    def forward(self, volume):
        self.depths.append(volume.shape[2])
        return torch.stack([0.5 - volume[:, 0], volume[:, 0] - 0.5], dim=1)


def ct(depth=11):
    """An ellipsoid of 100 HU in air, as wide and tall as it is not."""
    i, j, k = np.ogrid[:40, :56, :depth]
    inside = ((i - 22) / 12) ** 2 + ((j - 20) / 15) ** 2 + ((k - 3) / 4) ** 2 <= 1
    return Volume(np.where(inside, 100, -1000).astype(np.int16), OBLIQUE, "CT"), inside


def model(network, depth=4, values=(ORGAN,)):
    return AutomaticModel(network, bright_contract(64), values=values, depth=depth)


@given(st.integers(1, 60), st.integers(1, 16))
def test_every_slice_is_given_by_one_stack_that_shows_it(slices, depth):
    given_by = [(index, start) for start, wanted in stacks(slices, depth) for index in wanted]
    assert sorted(index for index, _ in given_by) == list(range(slices))
    assert all(start <= index < start + depth and start <= max(0, slices - depth) for index, start in given_by)


def test_a_slice_is_given_by_the_stack_in_whose_middle_it_lies():
    assert list(stacks(10, 4)) == [(0, [0, 1, 2]), (2, [3, 4]), (4, [5, 6]), (6, [7, 8, 9])]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("network", [BrightSlices, BrightStacks])
def test_a_volume_gets_its_labels_where_they_belong(network, axis):
    volume, inside = ct()
    labels = model(network()).segment_volume(volume, axis=axis)
    assert labels.shape == volume.shape and set(np.unique(labels)) == {0, ORGAN}
    # The square is smaller than some slices, so that an outline moves by part of a pixel.
    assert 2 * np.count_nonzero((labels == ORGAN) & inside) / (np.count_nonzero(labels) + inside.sum()) > 0.95


def test_a_network_of_stacks_sees_whole_ones_also_of_a_thin_volume():
    network = BrightStacks()
    volume, _ = ct(depth=3)
    labels = model(network, depth=8).segment_volume(volume)
    assert network.depths == [8] and labels[22, 20].tolist() == [ORGAN] * 3


def test_other_classes_than_the_organs_are_refused():
    with pytest.raises(EvaluationError, match="expected logits of 3 classes"):
        model(BrightStacks(), values=(1, 2)).segment_volume(ct()[0])
