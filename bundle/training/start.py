"""What a training starts from: the network with its first weights, and the choice of what trains."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from bundle.families.checkpoints import without_optional_parts
from bundle.families.family import find_weights
from bundle.families.initialisation import initialise_from
from bundle.networks.semantic import ConvolutionalDecoder
from bundle.networks.tuning.peft import set_trainable

logger = logging.getLogger(__name__)


def start_network(
    network: nn.Module,
    *,
    start: str | Path | None = None,
    skip: Sequence[str] = (),
    trainable: Sequence[str] = ("*",),
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Give a network its first weights and freeze what does not train.

    Args:
        network: with random weights, or weights that stay.
        start: a family whose published weights are taken, or a checkpoint; names that both have are taken, the rest
            (adapters, new class tokens) keep their values. None keeps all. Weights that the network has no place for,
            such as the LoRA of a tuned checkpoint, are left behind with a warning.
        skip: shell patterns of names that are not taken.
        trainable: patterns of the parameters that train, see ``peft.set_trainable``.
        device: to move it to.

    Raises:
        FamilyError: if the family's weights are not on this machine.
        CheckpointError: if the checkpoint has nothing in common with the network.
        TuningError: if a pattern matches no parameter.
    """
    if start is not None:
        taken = initialise_from(network, find_weights(start), skip=skip)
        logger.info("%d tensors taken from %s, %d kept", len(taken.loaded) + len(taken.resized), start, len(taken.kept))
        if lost := list(without_optional_parts(dict.fromkeys(taken.unused), network.state_dict())):
            logger.warning("%d tensors of %s have no place in the network, such as %s", len(lost), start, lost[0])
    set_trainable(network, trainable)
    return network.to(device)


def with_automatic_decoder(network: nn.Module, *, classes: int, seed: int = 0) -> nn.Module:
    """Give a promptable network MedicoSAM's convolutional decoder beside its own, under ``automatic_decoder``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network.automatic_decoder = ConvolutionalDecoder(classes)
    return network


def trainable_parameters(network: nn.Module) -> list[nn.Parameter]:
    """What the optimiser gets."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def train_mode(network: nn.Module) -> None:
    """Train mode, except for modules that are frozen altogether: their batch statistics must not move."""
    network.train()
    _freeze_statistics(network)


def synchronised(network: nn.Module) -> nn.Module:
    """On GPUs, batch statistics over all processes (torch has none for CPUs)."""
    if next(network.parameters()).device.type != "cuda":
        return network
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)


def _freeze_statistics(module: nn.Module) -> bool | None:
    """Eval mode for what is frozen altogether; whether a parameter of the module trains, None without parameters."""
    flags = [parameter.requires_grad for parameter in module.parameters(recurse=False)]
    flags += [flag for child in module.children() if (flag := _freeze_statistics(child)) is not None]
    if flags and not any(flags):
        module.eval()
    return any(flags) if flags else None
