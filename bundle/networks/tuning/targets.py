"""Where adapters and LoRA are attached: the blocks of every kind of encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from bundle.errors import TuningError
from bundle.networks.prompted_unet import PromptedUNet
from bundle.networks.tiny_vit import TinyVitEncoder


def encoder_blocks(encoder: nn.Module, blocks: Sequence[int] | None) -> list[nn.Module]:
    """The transformer blocks at the given depths; a depth is a block of a ViT or a whole stage of a TinyViT."""
    if isinstance(encoder, TinyVitEncoder):
        groups = [list(stage.blocks) for stage in encoder.stages[1:]]
    else:
        groups = [[block] for block in encoder.blocks]
    return [block for group in pick(groups, blocks) for block in group]


def unet_levels(unet: PromptedUNet, part: str, blocks: Sequence[int] | None) -> list[nn.Sequential]:
    """The levels of a U-Net from fine to coarse: of the way down (part "encoder") or of the way up ("decoder")."""
    return pick(unet.down if part == "encoder" else unet.merge, blocks)


def pick(items: Sequence[Any], indices: Sequence[int] | None) -> list[Any]:
    """The items at the indices, or all; raises TuningError where there is none."""
    if indices is None:
        return list(items)
    if wrong := [index for index in indices if not 0 <= index < len(items)]:
        raise TuningError(f"block {wrong[0]} does not exist; there are blocks 0 to {len(items) - 1}")
    return [items[index] for index in indices]


def width_of(block: nn.Module) -> int:
    """Channels of a block's tokens."""
    return block.attn.qkv.in_features
