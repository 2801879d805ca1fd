"""LoRA on the queries and values of encoder and decoder (Hu et al. 2022, as SAMed and finetune-SAM place it).

Of TinyViT, whose joint layer is ordered by head, the same rows are queries, keys and values of some of the heads. The
U-Net has no attention: there every 3x3 convolution of the way down (encoder) or up (decoder) is tuned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import singledispatch

import torch
from torch import Tensor, nn

from bundle.errors import TuningError
from bundle.networks.prompted_unet import UNetLevel


class LowRank:
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


class _LowRankConvolution(LowRank):
    """The same of a convolution: a convolution of its kind with few channels, then one of 1x1."""

    def __init__(self, down: nn.Conv2d, up: nn.Conv2d) -> None:
        super().__init__([])
        self.down, self.up = down, up

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output if self.merged else output + self.up(self.down(inputs[0]))

    @torch.no_grad()
    def merge(self, layer: nn.Conv2d, sign: int) -> None:
        update = self.up.weight.flatten(1) @ self.down.weight.flatten(1)
        layer.weight += sign * update.view_as(layer.weight)
        self.merged = sign > 0


@singledispatch
def add_lora(block: nn.Module, rank: int = 4) -> None:
    """Attach LoRA to a block, in place."""
    raise TuningError(f"lora has no place in a {type(block).__name__}")


@add_lora.register
def _(level: UNetLevel, rank: int = 4) -> None:
    for convolution in [module for module in level.modules() if isinstance(module, nn.Conv2d)]:
        _lora_on_convolution(convolution, rank)


def lora_on_qkv(qkv: nn.Linear, rank: int) -> None:
    """Tune the first and the last C rows of a joint q, k, v layer.

    In a ViT these are q and v. TinyViT interleaves q, k and v per head, so there they are q, k and v of the first and
    of the last heads, and the heads between are not tuned; finetune-SAM tunes the same rows, and its checkpoints need
    them.
    """
    width = qkv.in_features
    qkv.linear_a_q, qkv.linear_b_q = low_rank_pair(width, width, rank)
    qkv.linear_a_v, qkv.linear_b_v = low_rank_pair(width, width, rank)
    outputs = qkv.out_features
    branches = [
        (slice(0, width), qkv.linear_a_q, qkv.linear_b_q),
        (slice(outputs - width, outputs), qkv.linear_a_v, qkv.linear_b_v),
    ]
    qkv.register_forward_hook(LowRank(branches))


def _lora_on_convolution(layer: nn.Conv2d, rank: int) -> None:
    same = {"stride": layer.stride, "padding": layer.padding}
    layer.w_a = nn.Conv2d(layer.in_channels, rank, layer.kernel_size, bias=False, **same)
    layer.w_b = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
    nn.init.zeros_(layer.w_b.weight)
    layer.register_forward_hook(_LowRankConvolution(layer.w_a, layer.w_b))


def low_rank_pair(inputs: int, outputs: int, rank: int) -> tuple[nn.Linear, nn.Linear]:
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
    """The names of all parameters that LoRA added: the children of linear layers and of convolutions."""
    tuned = (nn.Linear, nn.Conv2d)
    layers = ((prefix, module) for prefix, module in network.named_modules() if isinstance(module, tuned))
    return [f"{prefix}.{name}.weight" for prefix, layer in layers for name, _ in layer.named_children()]


def _fold(network: nn.Module, sign: int) -> int:
    layers = [(layer, hook) for layer, hook in _lora_layers(network) if hook.merged == (sign < 0)]
    for layer, hook in layers:
        hook.merge(layer, sign)
    return len(layers)


def _lora_layers(network: nn.Module) -> Iterator[tuple[nn.Linear, LowRank]]:
    for module in network.modules():
        for hook in module._forward_hooks.values():
            if isinstance(hook, LowRank):
                yield module, hook
