"""Exporting: the official SAM state dict, TorchScript, and ONNX for the encoder and the decoder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn

from bundle.files import write_atomically
from bundle.networks.checkpoints import CheckpointError
from bundle.networks.layouts import to_official_layout
from bundle.networks.lora import lora_merged, lora_names
from bundle.networks.peft import tuning_names
from bundle.networks.promptable_sam import PromptableSam
from bundle.transforms.contract import Contract

_ONNX_LIMIT = 2**31  # of protobuf
# What only our networks have.
_OWN_PARTS = ("image_encoder.neck.lateral", "prompt_encoder.raster", "mask_decoder.down")


class DecoderGraph(nn.Module):
    """The prompt encoder and mask decoder as one function of tensors, for any number of objects and prompts.

    Prompts are tokens as in segment-anything's ONNX model: a point is one token with the label 1 or 0, a box two tokens
    with the labels 2 and 3, and padding has the label -1. Points without a box need one padding token. Objects that
    need more padding than their like belong in a call of their own: padding changes SAM's answers.

    Args:
        network: whose parts are used, not copied.
    """

    def __init__(self, network: PromptableSam) -> None:
        super().__init__()
        self.prompt_encoder = network.prompt_encoder
        self.mask_decoder = network.mask_decoder

    def forward(
        self, embeddings: Tensor, image_index: Tensor, coords: Tensor, labels: Tensor, masks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Predict all masks of all objects.

        Args:
            embeddings: (B, C, g, g).
            image_index: (N,) int64, the image of each object.
            coords: (N, T, 2) float32, (x, y) in pixels of the model square.
            labels: (N, T) int64.
            masks: (N, 1, 4g, 4g) float32 logits; NaN throughout for an object without a mask.

        Returns:
            Logits (N, 1 + M, 4g, 4g) and predicted IoU (N, 1 + M); index 0 is SAM's single mask.
        """
        return self.mask_decoder.predict_masks(
            image_embeddings=embeddings[image_index],
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=self.prompt_encoder.embed_tokens(coords, labels),
            dense_prompt_embeddings=self.prompt_encoder.embed_dense(masks, coords.shape[0], (coords, labels)),
        )


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
    if any(name.startswith(_OWN_PARTS[1:]) for name in network.state_dict()):
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
    if own := [name for name in network.state_dict() if name.startswith(_OWN_PARTS)]:
        raise CheckpointError(f"{own[0]} has no official layout; export to ONNX or TorchScript instead")
    with lora_merged(network):
        state = {name: value for name, value in network.state_dict().items() if name not in lora}
        return write_atomically(path, lambda partial: torch.save(to_official_layout(state), partial))


def export_torchscript(network: PromptableSam, folder: str | Path) -> tuple[Path, Path]:
    """Write ``encoder.ts`` (images to embeddings) and ``decoder.ts`` (``DecoderGraph``) to a folder."""
    folder = Path(folder)
    with _frozen(network), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapes that become constants are those of the grid, which are constants
        encoder = torch.jit.trace(network.image_encoder, _images(network))
        decoder = torch.jit.trace(DecoderGraph(network).eval(), _decoder_inputs(network))
        # Written here: the traces share the network's weights, from which LoRA is taken out again.
        return (
            write_atomically(folder / "encoder.ts", encoder.save),
            write_atomically(folder / "decoder.ts", decoder.save),
        )


def export_onnx(network: PromptableSam, folder: str | Path) -> tuple[Path, Path]:
    """Write ``encoder.onnx`` and ``decoder.onnx`` to a folder; images, objects and prompts are dynamic axes.

    Inputs and outputs have the names of ``DecoderGraph``; the encoder maps ``images`` to ``embeddings``.

    Raises:
        CheckpointError: if the network is too large for one ONNX file (SAM's ViT-H).
    """
    folder = Path(folder)
    size = sum(p.numel() * p.element_size() for p in network.image_encoder.parameters())
    if size >= _ONNX_LIMIT:
        raise CheckpointError(f"an ONNX file holds less than 2 GiB, the encoder has {size} bytes; use TorchScript")
    with _frozen(network):
        encoder = write_atomically(
            folder / "encoder.onnx",
            lambda partial: _to_onnx(
                network.image_encoder, (_images(network),), partial, ["images"], ["embeddings"], [{0: "images"}]
            ),
        )
        objects, tokens = "objects", "tokens"
        axes = [{0: "images"}, {0: objects}, {0: objects, 1: tokens}, {0: objects, 1: tokens}, {0: objects}]
        names = ["embeddings", "image_index", "coords", "labels", "masks"]
        decoder = write_atomically(
            folder / "decoder.onnx",
            lambda partial: _to_onnx(
                DecoderGraph(network).eval(), _decoder_inputs(network), partial, names, ["logits", "iou"], axes
            ),
        )
    return encoder, decoder


def _to_onnx(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    path: str,
    input_names: list[str],
    output_names: list[str],
    axes: list[dict[int, str]],
) -> None:
    shapes = tuple({axis: torch.export.Dim.DYNAMIC for axis in named} for named in axes)
    torch.onnx.export(
        module,
        inputs,
        path,
        input_names=input_names,
        output_names=output_names,
        dynamic_shapes=shapes,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


@contextmanager
def _frozen(network: PromptableSam) -> Iterator[None]:
    """The network in eval mode on the CPU's terms: no gradients, LoRA merged; its mode comes back afterwards."""
    training = network.training
    try:
        with torch.no_grad(), lora_merged(network.eval()):
            yield
    finally:
        network.train(training)


def _images(network: PromptableSam) -> Tensor:
    size = network.image_size
    return torch.zeros(2, 3, size, size, device=next(network.parameters()).device)


def _decoder_inputs(network: PromptableSam) -> tuple[Tensor, ...]:
    """Two images, three objects, four tokens: no axis has a length that an exporter would take for a constant."""
    grid, device = network.grid_size, next(network.parameters()).device
    return (
        torch.zeros(2, network.mask_decoder.image_channels, grid, grid, device=device),
        torch.tensor([0, 1, 1], device=device),
        torch.zeros(3, 4, 2, device=device),
        torch.ones(3, 4, dtype=torch.long, device=device),
        torch.full((3, 1, 4 * grid, 4 * grid), torch.nan, device=device),
    )
