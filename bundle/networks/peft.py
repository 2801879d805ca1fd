"""Parameter-efficient tuning: adapters and LoRA for every encoder and for SAM's decoder, and the choice of what trains.

All of it is attached from outside, as children of the modules it tunes plus forward hooks, so a tuned network keeps
every parameter name of the plain one and adds its own under the names of the papers' code:

- ``conv_adapter``: SAM-Med2D's adapter beside the MLP of each encoder block (Cheng et al. 2023).
- ``adapter``: bottleneck adapters of finetune-SAM (Gu et al. 2025), in encoder blocks and in the decoder's layers.
- ``lora``: low-rank updates of q and v (Hu et al. 2022; SAMed; finetune-SAM), in encoder blocks and in the decoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from bundle.networks.promptable_sam import PromptableSam
from bundle.networks.tiny_vit import TinyVitEncoder

PARTS = ("encoder", "decoder")


class TuningError(ValueError):
    """A tuning that does not exist or does not fit the network."""


class ConvAdapter(nn.Module):
    """SAM-Med2D's adapter: a channel gate, a strided convolution pair, a residual and a norm.

    Args:
        width: C, the channels of the block.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = width // 4
        self.norm = nn.LayerNorm(width)
        self.channel = nn.Sequential(
            nn.Linear(width, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, width, bias=False), nn.Sigmoid()
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1, bias=False),
            nn.ReLU(),
        )
        for layer in (*self.channel, *self.spatial):
            if hasattr(layer, "weight"):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, tokens: Tensor) -> Tensor:
        """Adapt (B, H, W, C) tokens, or (B, H*W, C) tokens of a square grid."""
        side = tokens.shape[1] if tokens.ndim == 4 else int(tokens.shape[1] ** 0.5)
        x = tokens.reshape(len(tokens), side, -1, tokens.shape[-1]).permute(0, 3, 1, 2)
        gate = self.channel(x.mean(dim=(2, 3)))
        x = x + self.spatial(x * gate[:, :, None, None])
        return self.norm(x.permute(0, 2, 3, 1)).reshape(tokens.shape)


class BottleneckAdapter(nn.Module):
    """finetune-SAM's adapter: down to a quarter, GELU, up again.

    Args:
        width: C, the channels of the tokens (..., C).
        residual: add the input.
    """

    def __init__(self, width: int, *, residual: bool) -> None:
        super().__init__()
        self.D_fc1 = nn.Linear(width, width // 4)
        self.D_fc2 = nn.Linear(width // 4, width)
        self.residual = residual

    def forward(self, tokens: Tensor) -> Tensor:
        """Adapt (..., C) tokens."""
        update = self.D_fc2(nn.functional.gelu(self.D_fc1(tokens)))
        return tokens + update if self.residual else update


class _Beside:
    """Forward hook: add ``scale * adapter(input)`` to a module's output.

    Hooks are objects, not closures, so that deepcopy (EMA) makes the copy's hook hold the copy's adapter.
    """

    def __init__(self, adapter: nn.Module, scale: float) -> None:
        self.adapter, self.scale = adapter, scale

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + self.scale * self.adapter(inputs[0])


class _After:
    """Forward hook: pass a module's output through an adapter."""

    def __init__(self, adapter: nn.Module) -> None:
        self.adapter = adapter

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return self.adapter(output)


class _Before:
    """Forward pre-hook: pass a module's input through an adapter."""

    def __init__(self, adapter: nn.Module) -> None:
        self.adapter = adapter

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return self.adapter(inputs[0]), *inputs[1:]


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


def apply_tuning(network: PromptableSam, tunings: Iterable[Mapping[str, Any]]) -> PromptableSam:
    """Attach adapters or LoRA to a network, in place.

    Args:
        network: ViT or TinyViT.
        tunings: each ``{"kind": "conv_adapter" | "adapter" | "lora", "part": "encoder" | "decoder"}`` and optionally
            ``"blocks"`` (indices of encoder blocks, of TinyViT stages 1 to 3, or of decoder layers; all by default)
            and, for LoRA, ``"rank"`` (4 by default, finetune-SAM's).

    Raises:
        TuningError: on an unknown kind, part, option or block.
    """
    for tuning in tunings:
        options = dict(tuning)
        kind, part = options.pop("kind", None), options.pop("part", "encoder")
        if kind not in _KINDS:
            raise TuningError(f"tuning kind must be one of {', '.join(_KINDS)}, got {kind!r}")
        if part not in PARTS:
            raise TuningError(f"tuning part must be encoder or decoder, got {part!r}")
        if unknown := set(options) - {"blocks", "rank"} or ({"rank"} & set(options) if kind != "lora" else set()):
            raise TuningError(f"tuning {kind} has no option {sorted(unknown)[0]!r}")
        _KINDS[kind](network, part, **options)
    return network


def set_trainable(network: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Choose by name which parameters train; all others are frozen.

    Args:
        network: whose parameters get ``requires_grad``.
        patterns: shell patterns of parameter names; one that starts with ``!`` takes names away again, the last match
            decides: ``["mask_decoder.*", "!mask_decoder.iou_prediction_head.*"]``.

    Returns:
        The names that train.

    Raises:
        TuningError: if a pattern matches no parameter.
    """
    parameters = dict(network.named_parameters())
    chosen: dict[str, bool] = dict.fromkeys(parameters, False)
    for pattern in patterns:
        matches = [name for name in parameters if fnmatchcase(name, pattern.removeprefix("!"))]
        if not matches:
            raise TuningError(f"no parameter is named like {pattern!r}; names look like {next(iter(parameters))!r}")
        chosen.update(dict.fromkeys(matches, not pattern.startswith("!")))
    for name, parameter in parameters.items():
        parameter.requires_grad_(chosen[name])
    return [name for name, trains in chosen.items() if trains]


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


def tuning_names(network: nn.Module) -> list[str]:
    """The names of all parameters that adapters or LoRA added."""
    adapters = [
        f"{prefix}.{name}"
        for prefix, module in network.named_modules()
        if isinstance(module, (ConvAdapter, BottleneckAdapter))
        for name, _ in module.named_parameters()
    ]
    return adapters + lora_names(network)


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


def _encoder_blocks(encoder: nn.Module, blocks: Sequence[int] | None) -> list[nn.Module]:
    """The transformer blocks at the given depths; a depth is a block of a ViT or a whole stage of a TinyViT."""
    if isinstance(encoder, TinyVitEncoder):
        groups = [list(stage.blocks) for stage in encoder.stages[1:]]
    else:
        groups = [[block] for block in encoder.blocks]
    return [block for group in _pick(groups, blocks) for block in group]


def _pick(items: Sequence[Any], indices: Sequence[int] | None) -> list[Any]:
    if indices is None:
        return list(items)
    if wrong := [index for index in indices if not 0 <= index < len(items)]:
        raise TuningError(f"block {wrong[0]} does not exist; there are blocks 0 to {len(items) - 1}")
    return [items[index] for index in indices]


def _width(block: nn.Module) -> int:
    return block.attn.qkv.in_features


def _add_conv_adapters(network: PromptableSam, part: str, blocks: Sequence[int] | None = None) -> None:
    if part != "encoder":
        raise TuningError("conv_adapter works on a grid of tokens; only the encoder has one")
    for block in _encoder_blocks(network.image_encoder, blocks):
        block.Adapter = ConvAdapter(_width(block))
        block.mlp.register_forward_hook(_Beside(block.Adapter, 1.0))


def _add_bottleneck_adapters(network: PromptableSam, part: str, blocks: Sequence[int] | None = None) -> None:
    if part == "encoder":
        for block in _encoder_blocks(network.image_encoder, blocks):
            block.MLP_Adapter = BottleneckAdapter(_width(block), residual=False)
            block.Space_Adapter = BottleneckAdapter(_width(block), residual=True)
            block.attn.register_forward_hook(_After(block.Space_Adapter))
            block.mlp.register_forward_hook(_Beside(block.MLP_Adapter, 0.5))
        return
    for layer in _pick(network.mask_decoder.transformer.layers, blocks):
        width = layer.self_attn.embedding_dim
        layer.MLP_Adapter = BottleneckAdapter(width, residual=False)
        layer.Adapter = BottleneckAdapter(width, residual=True)
        layer.norm2.register_forward_pre_hook(_Before(layer.Adapter))
        layer.mlp.register_forward_hook(_Beside(layer.MLP_Adapter, 0.5))
        layer.norm4.register_forward_pre_hook(_Before(layer.Adapter))


def _add_lora(network: PromptableSam, part: str, blocks: Sequence[int] | None = None, rank: int = 4) -> None:
    if rank < 1:
        raise TuningError(f"LoRA's rank must be at least 1, got {rank}")
    if part == "encoder":
        for block in _encoder_blocks(network.image_encoder, blocks):
            _lora_on_qkv(block.attn.qkv, rank)
        return
    transformer = network.mask_decoder.transformer
    for layer in _pick(transformer.layers, blocks):
        for attention in (layer.self_attn, layer.cross_attn_token_to_image, layer.cross_attn_image_to_token):
            _lora_on_projections(attention, rank)
    _lora_on_projections(transformer.final_attn_token_to_image, rank)


def _lora_on_qkv(qkv: nn.Linear, rank: int) -> None:
    """Tune the first and the last C rows of a joint q, k, v layer.

    In a ViT these are q and v. TinyViT interleaves q, k and v per head, so there they are not; finetune-SAM tunes the
    same rows nevertheless, and its checkpoints need them.
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


_KINDS = {"conv_adapter": _add_conv_adapters, "adapter": _add_bottleneck_adapters, "lora": _add_lora}
