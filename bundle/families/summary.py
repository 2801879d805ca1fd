"""What a family's network costs: parameters, trainable parameters and arithmetic, without making its weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from bundle.families.family import Family, structure_of
from bundle.networks.tuning.peft import set_trainable
from bundle.prompts.batch import PromptBatch


@dataclass(frozen=True)
class Summary:
    """The size of a network.

    Attributes:
        parameters: all of them.
        trainable: those that the family's recipe trains.
        image_size: S in pixels.
        mask_size: side of its answers to prompts in pixels, 0 without prompts.
        gmacs: 1e9 multiply-accumulate operations to embed one image (to segment one slice, for the networks without
            prompts; to answer one prompt, for those that see image and prompt together), attention and window padding
            included.
    """

    parameters: int
    trainable: int
    image_size: int
    mask_size: int
    gmacs: float


def summarise(family: Family) -> Summary:
    """Count a family's network on the meta device."""
    network = structure_of(family)
    set_trainable(network, family.trainable)
    sizes = [(p.numel(), p.requires_grad) for p in network.parameters()]
    spec = network.spec
    image = torch.empty(1, *spec.input_shape, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        if not spec.mask_size or len(spec.input_shape) == 4:  # a network without prompts, or of volumes
            network(image)
        else:
            prepared = network.prepare(image)
            if not spec.keeps_prepared:  # all of it is computed for each prompt
                mask = torch.empty(1, 1, spec.mask_size, spec.mask_size, device="meta")
                network.predict(prepared, PromptBatch(masks=mask))
    return Summary(
        parameters=sum(count for count, _ in sizes),
        trainable=sum(count for count, trains in sizes if trains),
        image_size=spec.input_shape[-1],
        mask_size=spec.mask_size,
        gmacs=counter.get_total_flops() / 2e9,
    )
