"""Parameter-efficient tuning: adapters and LoRA for every network that takes prompts, and the choice of what trains.

All of it is attached from outside, as children of the modules it tunes plus forward hooks, so a tuned network keeps
every parameter name of the plain one and adds its own under the names of the papers' code:

- ``conv_adapter``: SAM-Med2D's adapter beside the MLP of each encoder block (Cheng et al. 2023).
- ``adapter``: bottleneck adapters of finetune-SAM (Gu et al. 2025), in encoder blocks and in the decoder's layers.
- ``lora``: low-rank updates of q and v (Hu et al. 2022; SAMed; finetune-SAM), in encoder blocks and in the decoder.

In our U-Net the way down stands for the encoder and the way up for the decoder: LoRA tunes their 3x3 convolutions, and
an adapter follows each level.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from bundle.errors import TuningError
from bundle.networks.interface import PromptableNetwork
from bundle.networks.tuning.adapters import BottleneckAdapter, ConvAdapter, add_bottleneck_adapter, add_conv_adapter
from bundle.networks.tuning.lora import add_lora, lora_names

KINDS = ("conv_adapter", "adapter", "lora")
NORMS = "(norms)"
PARTS = ("encoder", "decoder")


def apply_tuning(network: PromptableNetwork, tunings: Iterable[Mapping[str, Any]]) -> PromptableNetwork:
    """Attach adapters or LoRA to a network, in place.

    Args:
        network: with a ViT or a TinyViT, or a U-Net.
        tunings: each ``{"kind": "conv_adapter" | "adapter" | "lora", "part": "encoder" | "decoder"}`` and optionally
            ``"blocks"`` (indices of encoder blocks, of TinyViT stages 1 to 3, of decoder layers, or of the U-Net's
            levels from fine to coarse; all by default)
            and, for LoRA, ``"rank"`` (4 by default, finetune-SAM's).

    Raises:
        TuningError: on an unknown kind, part, option or block.
    """
    for tuning in tunings:
        options = dict(tuning)
        kind, part, chosen = options.pop("kind", None), options.pop("part", "encoder"), options.pop("blocks", None)
        if kind not in KINDS:
            raise TuningError(f"tuning kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if part not in PARTS:
            raise TuningError(f"tuning part must be encoder or decoder, got {part!r}")
        if unknown := set(options) - _OPTIONS[kind]:
            raise TuningError(f"tuning {kind} has no option {sorted(unknown)[0]!r}")
        if options.get("rank", 1) < 1:
            raise TuningError(f"LoRA's rank must be at least 1, got {options['rank']}")
        for block in _pick(network.tunable(part), chosen):
            _ATTACH[kind](block, **options)
    return network


def _pick(groups: Sequence[list[nn.Module]], indices: Sequence[int] | None) -> list[nn.Module]:
    """The blocks of the groups at the indices, or of all."""
    indices = range(len(groups)) if indices is None else indices
    if wrong := [index for index in indices if not 0 <= index < len(groups)]:
        raise TuningError(f"block {wrong[0]} does not exist; there are blocks 0 to {len(groups) - 1}")
    return [block for index in indices for block in groups[index]]


def set_trainable(network: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Choose by name which parameters train; all others are frozen.

    Args:
        network: whose parameters get ``requires_grad``.
        patterns: shell patterns of parameter names; one that starts with ``!`` takes names away again, the last match
            decides: ``["mask_decoder.*", "!mask_decoder.iou_prediction_head.*"]``. One that starts with ``~`` (after
            the ``!``) may match nothing, so that one list serves networks with different parts. ``(norms)`` stands for
            the parameters of all normalisation layers, whatever they are called.

    Returns:
        The names that train.

    Raises:
        TuningError: if a pattern matches no parameter.
    """
    parameters = dict(network.named_parameters())
    chosen: dict[str, bool] = dict.fromkeys(parameters, False)
    for pattern in patterns:
        wanted = pattern.removeprefix("!")
        named = norm_names(network) if wanted == NORMS else parameters
        matches = [name for name in named if wanted == NORMS or fnmatchcase(name, wanted.removeprefix("~"))]
        if not matches and not wanted.startswith("~"):
            raise TuningError(f"no parameter is named like {pattern!r}; names look like {next(iter(parameters))!r}")
        chosen.update(dict.fromkeys(matches, not pattern.startswith("!")))
    for name, parameter in parameters.items():
        parameter.requires_grad_(chosen[name])
    return [name for name, trains in chosen.items() if trains]


def tuning_names(network: nn.Module) -> list[str]:
    """The names of all parameters that adapters or LoRA added."""
    adapters = [
        f"{prefix}.{name}"
        for prefix, module in network.named_modules()
        if isinstance(module, (ConvAdapter, BottleneckAdapter))
        for name, _ in module.named_parameters()
    ]
    return adapters + lora_names(network)


def norm_names(network: nn.Module) -> list[str]:
    """The names of all parameters of normalisation layers: torch's own, and others whose class is named like them."""
    return [
        f"{prefix}.{name}" if prefix else name
        for prefix, module in network.named_modules()
        if "Norm" in type(module).__name__
        for name, _ in module.named_parameters(recurse=False)
    ]


def are_tuning_names(names: Iterable[str]) -> bool:
    """Whether names of parameters, of a network that is not there, look as if adapters or LoRA had added some."""
    return any(fnmatchcase(name, pattern) for name in names for pattern in _NAME_PATTERNS)


_ATTACH = {"conv_adapter": add_conv_adapter, "adapter": add_bottleneck_adapter, "lora": add_lora}
_NAME_PATTERNS = ("*Adapter.*", "*.w_[ab].weight", "*.linear_[ab]_[qv].weight")
_OPTIONS = {"conv_adapter": set(), "adapter": set(), "lora": {"rank"}}
