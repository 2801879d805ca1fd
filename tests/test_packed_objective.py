"""The objective of packed batches asks as users do, and learns from usable objects alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from training_room import CONTRACT, SIZE, make_pool

from bundle.networks.build import prompted_unet
from bundle.training.losses import PromptLoss
from bundle.training.packed_looks import BatchRandom
from bundle.training.packed_objective import PackedObjective
from bundle.training.packed_samples import PackedBatch, PackedSamples
from bundle.training.packed_slices import choose, pack_slices
from bundle.transforms.batched_simulation import tight_boxes


@pytest.fixture(scope="module")
def batch() -> PackedBatch:
    packed = choose(pack_slices({"labelled": make_pool((2, 2))}), {"labelled": 1.0})
    return PackedSamples(packed, CONTRACT, batch_size=8)[2]


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return prompted_unet(image_size=SIZE, widths=(8, 16, 16), depths=(1, 1, 1))


def ask(network, batch, **options):
    (terms,) = PackedObjective(PromptLoss(), **options)(network, batch)
    return terms


def first_prompts(batch, **options):
    random = BatchRandom.of("cpu", len(batch.masks), 0)
    return PackedObjective(PromptLoss(), **options)._first_prompts(batch, random)


@pytest.mark.parametrize("rounds", [0.0, 1.0])
def test_the_loss_reaches_every_weight(network, batch, rounds):
    terms = ask(network, batch, correction_share=rounds)
    terms.total.backward()
    assert terms.total.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert all(p.grad.any() for p in network.mask_decoder.mask_head.parameters())


def test_the_same_draw_gives_the_same_loss(network, batch):
    first, again = (ask(network, batch, correction_share=1.0).total for _ in range(2))
    assert torch.equal(first, again)


def test_what_is_not_usable_changes_nothing(network, batch):
    usable = batch.usable.clone()
    usable[[0, 5]] = False
    masks = batch.masks.clone()
    masks[[0, 5]] = ~masks[[0, 5]]
    one = ask(network, replace(batch, usable=usable), correction_share=0.0).total
    two = ask(network, replace(batch, usable=usable, masks=masks), correction_share=0.0).total
    torch.testing.assert_close(one, two)


def test_boxes_and_points_are_given_to_those_that_ask_with_them(batch):
    prompts = first_prompts(batch, carried_share=0.0, tight_share=1.0)
    assert torch.equal(prompts.boxes[batch.boxed], tight_boxes(batch.masks)[batch.boxed])
    assert prompts.boxes[~batch.boxed].isnan().all() and prompts.masks.isnan().all()
    assert torch.equal(prompts.point_labels[:, 0], torch.where(batch.boxed, -1, 1))
    x, y = prompts.points[:, 0].long().unbind(dim=1)
    assert batch.masks[torch.arange(len(x)), y, x].all()


def test_no_box_is_much_too_small(batch):
    boxes = first_prompts(batch, carried_share=0.0, tight_share=0.0).boxes[batch.boxed]
    tight = tight_boxes(batch.masks)[batch.boxed]
    sides = (tight[:, 2:] - tight[:, :2] + 1).repeat(1, 2)
    inward = torch.cat([boxes[:, :2] - tight[:, :2], tight[:, 2:] - boxes[:, 2:]], dim=1)
    assert (inward <= 0.07 * sides).all()


def test_a_mask_of_a_neighbour_comes_with_the_box_around_it(batch):
    prompts = first_prompts(batch, carried_share=1.0)
    carried = ~prompts.masks.isnan().flatten(1).any(dim=1)
    assert torch.equal(carried, batch.boxed)
    around = tight_boxes(prompts.masks[carried, 0] > 0)
    boxes = prompts.boxes[carried]
    assert (boxes[:, :2] <= around[:, :2]).all() and (boxes[:, 2:] >= around[:, 2:]).all()
    overlap = ((prompts.masks[carried, 0] > 0) & batch.masks[carried]).flatten(1).any(dim=1)
    assert overlap.all()
