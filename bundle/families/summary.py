"""What a family's network costs: parameters, trainable parameters and arithmetic, without making its weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from bundle.families.family import Family, structure_of
from bundle.networks.promptable_sam import PromptBatch
from bundle.networks.prompted_unet import PromptedUNet
from bundle.networks.tuning.peft import set_trainable


@dataclass(frozen=True)
class Summary:
    """The size of a network.

    Attributes:
        parameters: all of them.
        trainable: those that the family's recipe trains.
        image_size: S in pixels.
        grid: side of the embedding.
        gmacs: 1e9 multiply-accumulate operations to embed one image (to segment one slice, for the networks without
            prompts; to answer one prompt, for those that see image and prompt together), attention and window padding
            included.
    """

    parameters: int
    trainable: int
    image_size: int
    grid: int
    gmacs: float


def summarise(family: Family) -> Summary:
    """Count a family's network on the meta device."""
    network = structure_of(family)
    set_trainable(network, family.trainable)
    sizes = [(p.numel(), p.requires_grad) for p in network.parameters()]
    image = torch.empty(1, *network.input_shape, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        embedding = getattr(network, "encode", network)(image)
        if isinstance(getattr(network, "mask_decoder", None), PromptedUNet):
            side = network.image_size
            network.decode(embedding, PromptBatch(masks=torch.empty(1, 1, side, side, device="meta")))
    return Summary(
        parameters=sum(count for count, _ in sizes),
        trainable=sum(count for count, trains in sizes if trains),
        image_size=network.image_size,
        grid=network.grid_size,
        gmacs=counter.get_total_flops() / 2e9,
    )
