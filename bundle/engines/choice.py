"""Which engine runs a network: PyTorch, or OpenVINO where it is installed and known to be faster."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from bundle.errors import EngineError
from bundle.networks.interface import PromptableNetwork

logger = logging.getLogger(__name__)

ENGINES = ("auto", "torch", "openvino")


def on_engine(
    network: PromptableNetwork,
    wish: str,
    *,
    device: torch.device,
    identity: str,
    folder: Path | None = None,
) -> PromptableNetwork:
    """The network as an engine runs it: itself on PyTorch, else behind the same doors.

    ``auto`` takes OpenVINO for networks with an image encoder (``spec.keeps_prepared``) on a CPU: a TinyViT took half
    of PyTorch's time (docs/performance.md), the shipped U-Net, all convolutions, 0.99 of it, which is no reason to
    convert it. Nothing is timed here: a choice that depends on how busy the machine is would make two runs differ.

    Args:
        network: in eval mode, on the device.
        wish: one of ``ENGINES``.
        device: where it runs; OpenVINO is asked to compute on the CPU only.
        identity: ``network_identity`` of it, under which its converted graphs are kept.
        folder: of converted graphs; by default one in the user's cache.

    Raises:
        EngineError: an unknown engine, or OpenVINO is asked for where it is not installed, on another device, or for a
            network that it cannot run.
    """
    if wish not in ENGINES:
        raise EngineError(f"engine must be one of {', '.join(ENGINES)}, got {wish!r}")
    if wish == "torch" or (wish == "auto" and not _pays(network, device)):
        return network
    if not is_installed():
        raise EngineError("engine openvino is not installed; run `pip install --no-deps openvino`, or use engine torch")
    if device.type != "cpu" or not isinstance(network, PromptableNetwork):
        raise EngineError(
            f"engine openvino runs networks that take prompts on a CPU, got {type(network).__name__} on {device}; "
            "use engine torch"
        )
    from bundle.engines.openvino import OpenVinoNetwork

    try:
        return OpenVinoNetwork(network, identity=identity, folder=folder)
    except EngineError as error:
        if wish == "openvino":
            raise
        logger.warning("%s; PyTorch runs it", error)
        return network


def engine_name(network: Any) -> str:
    """What runs a network that ``on_engine`` gave: "torch" or "openvino"."""
    return getattr(network, "engine", "torch")


def engine_identity(network: Any) -> str:
    """What prepared tensors depend on beside network and image: the engine, and the precision that it computes in."""
    return f"{engine_name(network)} {getattr(network, 'precision', 'float32')}"


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether a device is a CPU with instructions for bfloat16 (avx512_bf16 or AMX); on others it would be slower."""
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def is_installed() -> bool:
    """Whether OpenVINO can be imported; nothing is imported to find out."""
    return find_spec("openvino") is not None


def _pays(network: PromptableNetwork, device: torch.device) -> bool:
    return (
        is_installed()
        and device.type == "cpu"
        and isinstance(network, PromptableNetwork)
        and network.spec.keeps_prepared
    )
