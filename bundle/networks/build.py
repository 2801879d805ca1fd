"""Builders that the family files name as ``_target_``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from segment_anything.modeling import ImageEncoderViT, TwoWayTransformer
from torch import nn

from bundle.networks.mask_decoder import MaskDecoder
from bundle.networks.prompt_encoder import PromptEncoder
from bundle.networks.promptable_sam import PromptableSam
from bundle.networks.tiny_vit import TinyVitEncoder

EMBEDDING_CHANNELS = 256
VIT_PATCH = 16
# Width, depth, heads and the blocks with global attention of segment-anything's three encoders.
VIT_VARIANTS = {
    "vit_b": (768, 12, 12, (2, 5, 8, 11)),
    "vit_l": (1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": (1280, 32, 16, (7, 15, 23, 31)),
}


def sam_vit(variant: Literal["vit_b", "vit_l", "vit_h"] = "vit_b", *, image_size: int = 1024) -> PromptableSam:
    """segment-anything's ViT SAM at any input size.

    Args:
        variant: one of ``VIT_VARIANTS``.
        image_size: S in pixels, a multiple of 16; the embedding grid is S / 16.

    Raises:
        ValueError: on an unknown variant or a size that is not a multiple of 16.
    """
    if variant not in VIT_VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VIT_VARIANTS)}, got {variant!r}")
    if image_size <= 0 or image_size % VIT_PATCH:
        raise ValueError(f"image_size must be a positive multiple of {VIT_PATCH}, got {image_size}")
    width, depth, heads, global_blocks = VIT_VARIANTS[variant]
    encoder = ImageEncoderViT(
        img_size=image_size,
        patch_size=VIT_PATCH,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        out_chans=EMBEDDING_CHANNELS,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=global_blocks,
    )
    return _assemble(encoder, image_size, image_size // VIT_PATCH)


def sam_tiny_vit(
    *,
    image_size: int = 1024,
    grid: int = 64,
    stem: Literal["strided", "pointwise"] = "strided",
    neck: Literal["sam", "pyramid"] = "sam",
    window_sizes: Sequence[int] = (7, 14, 7),
) -> PromptableSam:
    """SAM with a TinyViT-5M encoder; the defaults are MobileSAM. Arguments as ``TinyVitEncoder``'s."""
    encoder = TinyVitEncoder(image_size=image_size, grid=grid, stem=stem, neck=neck, window_sizes=window_sizes)
    return _assemble(encoder, image_size, grid)


def _assemble(encoder: nn.Module, image_size: int, grid: int) -> PromptableSam:
    return PromptableSam(
        encoder,
        PromptEncoder(
            embed_dim=EMBEDDING_CHANNELS,
            image_embedding_size=(grid, grid),
            input_image_size=(image_size, image_size),
            mask_in_chans=16,
        ),
        MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=EMBEDDING_CHANNELS, mlp_dim=2048, num_heads=8),
            transformer_dim=EMBEDDING_CHANNELS,
        ),
    )
