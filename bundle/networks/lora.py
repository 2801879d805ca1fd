"""LoRA on the queries and values of encoder and decoder (Hu et al. 2022, as SAMed and finetune-SAM place it).

Of TinyViT, whose joint layer is ordered by head, the same rows are queries, keys and values of some of the heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bundle.networks.promptable_sam import PromptableSam
from bundle.networks.targets import TuningError, encoder_blocks, pick


class _LowRank:
    """Forward hook of a linear layer: add ``up(down(input))`` to some of its outputs; can be merged into its weight."""

    def __init__(self, branches: Sequence[tuple[slice, nn.Linear, nn.Linear]]) -> None:
        self.branches = branches
        self.merged = False

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if self.merged:
            return output
        output = output.clone()
        for rows, down, up in self.branches:
            output[..., rows] = output[..., rows] + up(down(inputs[0]))
        return output

    @torch.no_grad()
    def merge(self, layer: nn.Linear, sign: int) -> None:
        """Add (sign 1) or take away (sign -1) the update from the layer's weight."""
        for rows, down, up in self.branches:
            layer.weight[rows] += sign * (up.weight @ down.weight)
        self.merged = sign > 0


def add_lora(network: PromptableSam, part: str, blocks: Sequence[int] | None = None, rank: int = 4) -> None:
    if rank < 1:
        raise TuningError(f"LoRA's rank must be at least 1, got {rank}")
    if part == "encoder":
        for block in encoder_blocks(network.image_encoder, blocks):
            _lora_on_qkv(block.attn.qkv, rank)
        return
    transformer = network.mask_decoder.transformer
    for layer in pick(transformer.layers, blocks):
        for attention in (layer.self_attn, layer.cross_attn_token_to_image, layer.cross_attn_image_to_token):
            _lora_on_projections(attention, rank)
    _lora_on_projections(transformer.final_attn_token_to_image, rank)


def _lora_on_qkv(qkv: nn.Linear, rank: int) -> None:
    """Tune the first and the last C rows of a joint q, k, v layer.

    In a ViT these are q and v. TinyViT interleaves q, k and v per head, so there they are q, k and v of the first and
    of the last heads, and the heads between are not tuned; finetune-SAM tunes the same rows, and its checkpoints need
    them.
    """
    width = qkv.in_features
    qkv.linear_a_q, qkv.linear_b_q = _low_rank_pair(width, width, rank)
    qkv.linear_a_v, qkv.linear_b_v = _low_rank_pair(width, width, rank)
    outputs = qkv.out_features
    branches = [
        (slice(0, width), qkv.linear_a_q, qkv.linear_b_q),
        (slice(outputs - width, outputs), qkv.linear_a_v, qkv.linear_b_v),
    ]
    qkv.register_forward_hook(_LowRank(branches))


def _lora_on_projections(attention: nn.Module, rank: int) -> None:
    for layer in (attention.q_proj, attention.v_proj):
        layer.w_a, layer.w_b = _low_rank_pair(layer.in_features, layer.out_features, rank)
        layer.register_forward_hook(_LowRank([(slice(0, layer.out_features), layer.w_a, layer.w_b)]))


def _low_rank_pair(inputs: int, outputs: int, rank: int) -> tuple[nn.Linear, nn.Linear]:
    down, up = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=False)
    nn.init.zeros_(up.weight)  # an untrained update changes nothing; nn.Linear's own init is LoRA's Kaiming for `down`
    return down, up


@contextmanager
def lora_merged(network: nn.Module) -> Iterator[None]:
    """Have every LoRA update folded into the weights within the block, as an export needs it."""
    folded = [(layer, hook) for layer, hook in _lora_layers(network) if not hook.merged]
    for layer, hook in folded:
        hook.merge(layer, 1)
    try:
        yield
    finally:
        for layer, hook in folded:
            hook.merge(layer, -1)


def merge_lora(network: nn.Module) -> int:
    """Fold every LoRA update into the weight it tunes, so that it costs nothing; returns the number of layers."""
    return _fold(network, 1)


def unmerge_lora(network: nn.Module) -> int:
    """Take folded updates out again, so that training can go on; returns the number of layers."""
    return _fold(network, -1)


def lora_names(network: nn.Module) -> list[str]:
    """The names of all parameters that LoRA added: the children of linear layers."""
    layers = ((prefix, module) for prefix, module in network.named_modules() if isinstance(module, nn.Linear))
    return [f"{prefix}.{name}.weight" for prefix, layer in layers for name, _ in layer.named_children()]


def _fold(network: nn.Module, sign: int) -> int:
    layers = [(layer, hook) for layer, hook in _lora_layers(network) if hook.merged == (sign < 0)]
    for layer, hook in layers:
        hook.merge(layer, sign)
    return len(layers)


def _lora_layers(network: nn.Module) -> Iterator[tuple[nn.Linear, _LowRank]]:
    for module in network.modules():
        for hook in module._forward_hooks.values():
            if isinstance(hook, _LowRank):
                yield module, hook
