"""The network of the default family: image and drawn prompts in one U-Net, behind the interface of SAM's parts."""

from __future__ import annotations

import pytest
import torch

from bundle.families.builders import prompted_unet
from bundle.networks.prompted_unet import PromptedUNet, prompt_maps
from bundle.prompts.batch import PromptBatch

SIZE = 64
BOX = torch.tensor([[10.0, 12.0, 40.0, 50.0]])


@pytest.fixture(scope="module")
def network() -> PromptedUNet:
    torch.manual_seed(0)
    return prompted_unet(image_size=SIZE, widths=(8, 16, 16), depths=(1, 1, 1)).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_masks_have_the_size_of_the_image_and_one_answers_a_clear_prompt(network, images):
    prompts = PromptBatch(boxes=BOX.expand(3, -1), image_index=torch.tensor([0, 1, 1]))
    clear, ambiguous = (network.predict(network.prepare(images), prompts, multimask=m) for m in (False, True))
    assert clear.logits.shape == (3, 1, SIZE, SIZE) and clear.iou.shape == (3, 1)
    assert ambiguous.logits.shape == (3, 3, SIZE, SIZE) and ambiguous.iou.shape == (3, 3)


@torch.no_grad()
def test_an_object_is_answered_alike_alone_and_among_others(network, images):
    together = network.predict(
        network.prepare(images), PromptBatch(boxes=BOX.expand(2, -1), image_index=torch.tensor([0, 1]))
    )
    alone = network.predict(network.prepare(images[1:]), PromptBatch(boxes=BOX))
    torch.testing.assert_close(together.logits[1:], alone.logits, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_every_kind_of_prompt_changes_the_answer(network, images):
    embedding = network.prepare(images[:1])
    point = {"points": torch.tensor([[[20.0, 20.0]]]), "point_labels": torch.tensor([[1]])}
    mask = torch.full((1, 1, SIZE, SIZE), -8.0)
    mask[..., 16:40, 16:40] = 8.0
    asked = [
        PromptBatch(boxes=BOX),
        PromptBatch(**point),
        PromptBatch(points=point["points"], point_labels=torch.tensor([[0]])),
        PromptBatch(boxes=BOX, masks=mask),
        PromptBatch(masks=mask),
        PromptBatch(),
    ]
    answers = [network.predict(embedding, prompts, multimask=False).logits for prompts in asked]
    for i, one in enumerate(answers):
        assert not [j for j, other in enumerate(answers[:i]) if torch.allclose(one, other)]


@torch.no_grad()
def test_a_mask_of_nan_is_no_mask(network, images):
    embedding, nothing = network.prepare(images[:1]), torch.full((1, 1, SIZE, SIZE), torch.nan)
    with_nan, without = (
        network.predict(embedding, PromptBatch(boxes=BOX, masks=mask), multimask=False) for mask in (nothing, None)
    )
    torch.testing.assert_close(with_nan.logits, without.logits)


def test_a_click_is_drawn_on_the_pixel_that_it_names(images):
    maps = prompt_maps((torch.tensor([[[21.0, 42.0]]]), torch.tensor([[1]])), None, like=images[:1])
    assert maps.shape == (1, 5, SIZE, SIZE) and maps[0, 0].argmax() == 42 * SIZE + 21


def test_one_slice_trains_as_well_as_eight(network, images):
    """Group norm has no batch statistics: the answer in train mode is that in eval mode."""
    prompts = PromptBatch(boxes=BOX)
    with torch.no_grad():
        answers = [
            module.predict(module.prepare(images[:1]), prompts).logits for module in (network.train(), network.eval())
        ]
    torch.testing.assert_close(*answers)


def test_gradients_reach_every_parameter(network, images):
    answer = network.predict(network.prepare(images[:1]), PromptBatch(boxes=BOX), multimask=True)
    (answer.logits.square().mean() + answer.iou.sum()).backward()
    assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]
    network.zero_grad()


@pytest.mark.parametrize("size", [0, 60, -64])
def test_a_size_that_the_levels_do_not_divide_is_refused(size):
    with pytest.raises(ValueError, match=f"positive multiple of 8, got {size}"):
        prompted_unet(image_size=size, widths=(8, 16, 16), depths=(1, 1, 1))


@torch.no_grad()
def test_an_image_is_described_by_its_deepest_features_whatever_stands_beside_it(network, images):
    described = network.describe(images)
    assert described.shape == (2, 16) and not torch.allclose(described[0], described[1])
    torch.testing.assert_close(network.describe(images[1:]), described[1:], atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="shape"):
        network.describe(images[:, :2])
