"""Weights before and after a training: LoRA folded in, and the networks between the two."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from bundle.errors import TrainingError
from bundle.families.checkpoints import open_checkpoint, save_checkpoint
from bundle.families.family import Family, build_network
from bundle.networks.tuning.lora import lora_names, merge_lora


def start_of(base: str | Path, family: Family, folder: Path) -> Path:
    """The base as a plain network: what LoRA it has is folded into its weights.

    Raises:
        TrainingError: it has adapters, which cannot be folded, or its family has a tuning of its own, which the one
            that is trained would replace.
    """
    if family.network_def.get("tuning"):
        raise TrainingError(f"family {family.name} has adapters or LoRA of its own; tune it with monai-sam train")
    tunings = (open_checkpoint(base).metadata.get("network_options") or {}).get("tuning") or []
    if not tunings:
        return Path(base)
    if kinds := sorted({tuning["kind"] for tuning in tunings} - {"lora"}):
        raise TrainingError(
            f"the server's checkpoint has a tuning of kind {kinds[0]}; start it with one without, or LoRA"
        )
    network = build_network(family, random=True)
    network.load_state_dict(plain_weights(build_network(family, checkpoint=base)))
    return save_checkpoint(network, folder / "start.safetensors", metadata={"family": family.name})


def plain_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """The weights with LoRA folded in, without LoRA's own."""
    merge_lora(network)
    own = set(lora_names(network))
    return {name: value for name, value in network.state_dict().items() if name not in own}


def with_share(
    family: Family, base: Mapping[str, torch.Tensor], trained: Mapping[str, torch.Tensor], share: float
) -> nn.Module:
    """The network between the base (0) and the trained one (1).

    Between the two lies mostly what is better than both: it keeps what the base knows and has most of what was learnt
    (Wortsman et al. 2022, Robust fine-tuning of zero-shot models).
    """
    network = build_network(family, random=True)
    network.load_state_dict({name: _between(base[name], trained[name], share) for name in base})
    return network.eval()


def _between(first: torch.Tensor, second: torch.Tensor, share: float) -> torch.Tensor:
    return torch.lerp(first.float(), second.float(), share) if first.is_floating_point() else first
