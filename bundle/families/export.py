"""Exporting: the official SAM state dict, TorchScript, and ONNX for the encoder and the decoder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn

from bundle.families.checkpoints import CheckpointError
from bundle.families.key_maps import to_official_layout
from bundle.files import write_atomically
from bundle.networks.interface import Prepared, PromptableNetwork
from bundle.networks.promptable_sam import PromptableSam
from bundle.networks.tuning.lora import lora_merged, lora_names
from bundle.networks.tuning.peft import tuning_names
from bundle.transforms.contract import Contract

_ONNX_LIMIT = 2**31  # of protobuf


class EncoderGraph(nn.Module):
    """What a network does once per image, as a function of tensors: (B, 3, S, S) to its prepared tensors, in order.

    Args:
        network: whose parts are used, not copied.
    """

    def __init__(self, network: PromptableNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network.prepare(images).tensors.values())


class DecoderGraph(nn.Module):
    """What a network does for each prompt, as a function of tensors, for any number of objects and prompts.

    Prompts are tokens as in segment-anything's ONNX model: a point is one token with the label 1 or 0, a box two tokens
    with the labels 2 and 3, and padding has the label -1. Points without a box need one padding token. Objects that
    need more padding than their like belong in a call of their own: padding changes SAM's answers.

    Args:
        network: whose parts are used, not copied.
    """

    def __init__(self, network: PromptableNetwork) -> None:
        super().__init__()
        self.network = network
        self.names = tuple(_prepared(network).tensors)

    def forward(
        self, prepared: tuple[Tensor, ...], image_index: Tensor, coords: Tensor, labels: Tensor, masks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Predict all masks of all objects.

        Args:
            prepared: of B images, in the order of ``EncoderGraph``.
            image_index: (N,) int64, the image of each object.
            coords: (N, T, 2) float32, (x, y) in pixels of the model square.
            labels: (N, T) int64.
            masks: (N, 1, m, m) float32 logits; NaN throughout for an object without a mask.

        Returns:
            Logits (N, 1 + M, m, m) and predicted IoU (N, 1 + M); index 0 is the single mask.
        """
        features = {name: tensor[image_index] for name, tensor in zip(self.names, prepared, strict=True)}
        return self.network.mask_decoder.predict_masks(**self.network.decoder_inputs(features, (coords, labels), masks))


def as_segment_anything(network: PromptableSam, contract: Contract) -> Sam:
    """Wrap a network's own modules in segment-anything's ``Sam``, for its predictor and its everything mode.

    Args:
        network: whose modules are shared, not copied.
        contract: of its family; ``Sam`` pads at the right and the bottom and subtracts one mean, so only contracts that
            keep the longest side and do not stretch each slice fit.

    Raises:
        CheckpointError: if the contract is another one.
    """
    if contract.resize != "longest" or contract.slice_minmax or contract.aspect != "pixels":
        raise CheckpointError("segment-anything's predictor cannot prepare images as this family's contract asks")
    if not network.spec.official:
        raise CheckpointError("segment-anything's predictor would not draw the prompts that this network looks at")
    return Sam(
        network.image_encoder, network.prompt_encoder, network.mask_decoder, list(contract.mean), list(contract.std)
    ).eval()


def export_official(network: nn.Module, path: str | Path) -> Path:
    """Write a network as a bare state dict in the official SAM (or MobileSAM) layout, float32.

    micro-sam, napari-sam, samm, SegmentWithSAM and MedSAM's scripts open such a file. LoRA is merged in it.

    Args:
        network: without adapters; a TinyViT must be MobileSAM's or LiteMedSAM's.
        path: ends in ``.pth`` or ``.pt``.

    Raises:
        CheckpointError: if the layout cannot say what the network has.
    """
    path = Path(path)
    if path.suffix not in (".pth", ".pt"):
        raise CheckpointError(f"the official layout is written as .pth or .pt, got {path.name}")
    lora = set(lora_names(network))
    if adapters := [name for name in tuning_names(network) if name not in lora]:
        raise CheckpointError(f"the official layout has no place for adapters such as {adapters[0]}")
    if not network.spec.official:
        raise CheckpointError("this network has no official layout; export to ONNX or TorchScript instead")
    with lora_merged(network):
        state = {name: value for name, value in network.state_dict().items() if name not in lora}
        return write_atomically(path, lambda partial: torch.save(to_official_layout(state), partial))


def export_state_dict(network: nn.Module, path: str | Path) -> Path:
    """Write the weights alone, under the names that the network has."""
    return write_atomically(Path(path), lambda partial: torch.save(network.state_dict(), partial))


def export_torchscript(network: PromptableNetwork, folder: str | Path) -> list[Path]:
    """Write ``encoder.ts`` and ``decoder.ts`` to a folder, or ``network.ts`` where nothing is prepared for keeps.

    Graphs are those of ``EncoderGraph`` and ``DecoderGraph``.
    """
    folder = Path(folder)
    with _frozen(network), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapes that become constants are those of the grid, which are constants
        # Written here: the traces share the network's weights, from which LoRA is taken out again.
        return [
            write_atomically(folder / f"{graph.name}.ts", torch.jit.trace(graph.module, graph.example).save)
            for graph in _graphs(network)
        ]


def export_onnx(network: PromptableNetwork, folder: str | Path) -> list[Path]:
    """Write the same as ONNX; images, objects and prompts are dynamic axes.

    Inputs and outputs have the names of ``DecoderGraph`` and of the prepared tensors ("embedding" in SAM); an encoder
    maps ``images`` to these.

    Raises:
        CheckpointError: if the network is too large for one ONNX file (SAM's ViT-H).
    """
    folder = Path(folder)
    with _frozen(network):
        graphs = _graphs(network)
        for graph in graphs:
            size = sum(p.numel() * p.element_size() for p in graph.module.parameters())
            if size >= _ONNX_LIMIT:
                raise CheckpointError(
                    f"an ONNX file holds less than 2 GiB, the {graph.name} has {size} bytes; use TorchScript"
                )
        return [write_atomically(folder / f"{graph.name}.onnx", partial(_to_onnx, graph)) for graph in graphs]


@dataclass(frozen=True)
class _Graph:
    """A function of tensors to be traced: example inputs, and the names and free axes of its inputs and outputs."""

    name: str
    module: nn.Module
    example: tuple[Any, ...]
    inputs: Sequence[str]
    outputs: Sequence[str]
    axes: tuple[Any, ...]


def _graphs(network: PromptableNetwork) -> list[_Graph]:
    """The encoder's, where what it gives is worth keeping, and that of a prompt."""
    images, prepared = _images(network), _prepared(network)
    decoder = DecoderGraph(network).eval()
    names = list(prepared.tensors)
    each = {0: "images"}
    axes = (tuple(each for _ in names), {0: "objects"}, *[{0: "objects", 1: "tokens"}] * 2, {0: "objects"})
    prompts = _Graph(
        "decoder" if network.spec.keeps_prepared else "network",
        decoder,
        (tuple(prepared.tensors.values()), *_prompts(network)),
        [*names, "image_index", "coords", "labels", "masks"],
        ["logits", "iou"],
        axes,
    )
    if not network.spec.keeps_prepared:
        return [prompts]
    return [_Graph("encoder", EncoderGraph(network).eval(), (images,), ["images"], names, (each,)), prompts]


def _to_onnx(graph: _Graph, path: str) -> None:
    dynamic = torch.utils._pytree.tree_map(lambda _: torch.export.Dim.DYNAMIC, graph.axes)
    torch.onnx.export(
        graph.module,
        graph.example,
        path,
        input_names=graph.inputs,
        output_names=graph.outputs,
        dynamic_shapes=dynamic,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


@contextmanager
def _frozen(network: PromptableNetwork) -> Iterator[None]:
    """The network in eval mode on the CPU's terms: no gradients, LoRA merged; its mode comes back afterwards."""
    training = network.training
    try:
        with torch.no_grad(), lora_merged(network.eval()):
            yield
    finally:
        network.train(training)


def _images(network: PromptableNetwork) -> Tensor:
    return torch.zeros(2, *network.spec.input_shape, device=next(network.parameters()).device)


def _prepared(network: PromptableNetwork) -> Prepared:
    """Of two images, so that no exporter takes their number for a constant."""
    with torch.no_grad():
        return network.prepare(_images(network))


def _prompts(network: PromptableNetwork) -> tuple[Tensor, ...]:
    """Three objects in two images, four tokens: no axis has a length that an exporter would take for a constant."""
    size, device = network.spec.mask_size, next(network.parameters()).device
    return (
        torch.tensor([0, 1, 1], device=device),
        torch.zeros(3, 4, 2, device=device),
        torch.ones(3, 4, dtype=torch.long, device=device),
        torch.full((3, 1, size, size), torch.nan, device=device),
    )
