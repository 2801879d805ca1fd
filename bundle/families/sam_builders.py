"""The builders of networks that are made of segment-anything's or TinyViT's modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from segment_anything.modeling import TwoWayTransformer
from torch import nn

from bundle.errors import FamilyError
from bundle.networks.interface import PROPAGATED, SAM_MASKS
from bundle.networks.mask_decoder import FineMaskDecoder, MaskDecoder
from bundle.networks.prompt_encoder import PromptEncoder
from bundle.networks.promptable_sam import PromptableSam
from bundle.networks.raster_prompts import RasterPromptEncoder
from bundle.networks.semantic import MultiClassSam, SemanticSam2d, SemanticSam3d
from bundle.networks.tiny_vit import TinyVitEncoder
from bundle.networks.tuning import sam_blocks  # noqa: F401, how the blocks take adapters and LoRA
from bundle.networks.tuning.peft import apply_tuning
from bundle.networks.vit import EMBEDDING_CHANNELS, VIT_PATCH, VitEncoder


def sam_vit(
    variant: Literal["vit_b", "vit_l", "vit_h"] = "vit_b",
    *,
    image_size: int = 1024,
    classes: int | None = None,
    window_before_norm: bool = False,
    tuning: Sequence[Mapping[str, Any]] = (),
    candidates: Literal["ambiguous", "always"] = "ambiguous",
    mask_prompt: Literal["logits", "probability"] = "logits",
    propagated: Sequence[Literal["box", "mask"]] = PROPAGATED,
) -> PromptableSam:
    """segment-anything's ViT SAM at any input size.

    Args:
        variant: one of ``vit.VIT_VARIANTS``.
        image_size: S in pixels, a multiple of 16; the embedding grid is S / 16.
        classes: make it a ``MultiClassSam`` with so many classes, background included.
        window_before_norm: finetune-SAM's order inside a block, see ``WindowFirstBlock``.
        tuning: adapters or LoRA to attach, see ``peft.apply_tuning``.
        candidates: which prompts it was trained to answer with candidates, see ``PromptableSam``.
        mask_prompt: what its mask prompts were trained as, see ``PromptEncoder``.
        propagated: with what of its answer to a slice it is asked about the next one, see ``ModelSpec``.

    Raises:
        FamilyError: on an unknown variant, tuning, candidates, mask prompt or propagated part, or a size that is not a
            multiple of 16.
    """
    encoder = VitEncoder(variant, image_size, window_before_norm=window_before_norm)
    grid = image_size // VIT_PATCH
    network = _assemble(
        encoder,
        image_size,
        grid,
        classes,
        candidates=candidates,
        mask_prompt=mask_prompt,
        propagated=propagated,
    )
    return apply_tuning(network, tuning)


def sam_tiny_vit(
    *,
    image_size: int = 1024,
    grid: int = 64,
    stem: Literal["strided", "pointwise"] = "strided",
    neck: Literal["sam", "pyramid"] = "sam",
    window_sizes: Sequence[int] = (7, 14, 7),
    classes: int | None = None,
    tuning: Sequence[Mapping[str, Any]] = (),
    raster_prompts: bool = False,
    fine: bool = False,
    propagated: Sequence[Literal["box", "mask"]] = PROPAGATED,
) -> PromptableSam:
    """SAM with a TinyViT-5M encoder; the defaults are MobileSAM.

    Arguments as those of ``TinyVitEncoder`` and ``sam_vit``; ``raster_prompts`` also draws the prompts as maps; with
    ``fine`` the decoder sees finer features of the image (``FineMaskDecoder``).
    """
    encoder = TinyVitEncoder(
        image_size=image_size, grid=grid, stem=stem, neck=neck, window_sizes=window_sizes, fine=fine
    )
    network = _assemble(
        encoder,
        image_size,
        grid,
        classes,
        prompt_encoder=RasterPromptEncoder if raster_prompts else PromptEncoder,
        mask_decoder=FineMaskDecoder if fine else MaskDecoder,
        propagated=propagated,
        official=not (raster_prompts or fine or neck == "pyramid"),
    )
    return apply_tuning(network, tuning)


def semantic_sam(
    variant: Literal["vit_b", "vit_l", "vit_h"] = "vit_b",
    *,
    image_size: int = 1024,
    classes: int,
    dimensions: Literal[2, 3] = 2,
) -> SemanticSam2d | SemanticSam3d:
    """MedicoSAM's automatic network: SAM's ViT with a convolutional decoder, for slices or volumes.

    Args:
        variant: one of ``vit.VIT_VARIANTS``.
        image_size: S in pixels, a multiple of 16.
        classes: output channels, background included.
        dimensions: 2 for (B, 3, S, S), 3 for (B, 3, D, S, S).
    """
    if dimensions not in (2, 3):
        raise FamilyError(f"dimensions must be 2 or 3, got {dimensions}")
    _check_classes(classes)
    network = SemanticSam2d if dimensions == 2 else SemanticSam3d
    return network(VitEncoder(variant, image_size), image_size, classes)


def _assemble(
    encoder: nn.Module,
    image_size: int,
    grid: int,
    classes: int | None,
    *,
    prompt_encoder: type[PromptEncoder] = PromptEncoder,
    mask_decoder: type[MaskDecoder] = MaskDecoder,
    candidates: str = "ambiguous",
    mask_prompt: str = "logits",
    propagated: Sequence[str] = PROPAGATED,
    official: bool = True,
) -> PromptableSam:
    if classes is not None:
        _check_classes(classes)
    return (PromptableSam if classes is None else MultiClassSam)(
        encoder,
        prompt_encoder(
            embed_dim=EMBEDDING_CHANNELS,
            image_embedding_size=(grid, grid),
            input_image_size=(image_size, image_size),
            mask_in_chans=16,
            mask_prompt=mask_prompt,
        ),
        mask_decoder(
            num_multimask_outputs=classes or SAM_MASKS,
            transformer=TwoWayTransformer(depth=2, embedding_dim=EMBEDDING_CHANNELS, mlp_dim=2048, num_heads=8),
            transformer_dim=EMBEDDING_CHANNELS,
        ),
        candidates=candidates if classes is None else "always",  # the candidates are the classes
        propagated=propagated,
        official=official,
    )


def _check_classes(classes: int) -> None:
    if classes < 2:
        raise FamilyError(f"classes must be at least 2 (background and one object), got {classes}")
