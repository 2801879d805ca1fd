"""segment-anything's ViT image encoder, which names its features and its blocks."""

from __future__ import annotations

from functools import partial

from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn

from bundle.errors import FamilyError
from bundle.networks.blocks import BlockwiseAttention, WindowFirstBlock

EMBEDDING_CHANNELS = 256
VIT_PATCH = 16
_WINDOW = 14
# Width, depth, heads and the blocks with global attention of segment-anything's three encoders.
VIT_VARIANTS = {
    "vit_b": (768, 12, 12, (2, 5, 8, 11)),
    "vit_l": (1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": (1280, 32, 16, (7, 15, 23, 31)),
}


class VitEncoder(ImageEncoderViT):
    """One of segment-anything's three encoders at any input size, under its parameter names.

    Args:
        variant: one of ``VIT_VARIANTS``.
        image_size: S in pixels, a multiple of 16; the embedding grid is S / 16.
        window_before_norm: finetune-SAM's order inside a block, see ``WindowFirstBlock``.

    Raises:
        FamilyError: an unknown variant, or a size that is not a multiple of 16.
    """

    stride = VIT_PATCH

    def __init__(self, variant: str, image_size: int, *, window_before_norm: bool = False) -> None:
        if variant not in VIT_VARIANTS:
            raise FamilyError(f"variant must be one of {', '.join(VIT_VARIANTS)}, got {variant!r}")
        if image_size <= 0 or image_size % VIT_PATCH:
            raise FamilyError(f"image_size must be a positive multiple of {VIT_PATCH}, got {image_size}")
        width, depth, heads, global_blocks = VIT_VARIANTS[variant]
        norm = partial(nn.LayerNorm, eps=1e-6)
        super().__init__(
            img_size=image_size,
            patch_size=VIT_PATCH,
            embed_dim=width,
            depth=0 if window_before_norm else depth,
            num_heads=heads,
            out_chans=EMBEDDING_CHANNELS,
            norm_layer=norm,
            use_rel_pos=True,
            window_size=_WINDOW,
            global_attn_indexes=global_blocks,
        )
        if window_before_norm:
            grid = image_size // VIT_PATCH
            self.blocks.extend(
                WindowFirstBlock(
                    dim=width,
                    num_heads=heads,
                    norm_layer=norm,
                    use_rel_pos=True,
                    window_size=0 if index in global_blocks else _WINDOW,
                    input_size=(grid, grid),
                )
                for index in range(depth)
            )
        for block in self.blocks:
            block.attn = BlockwiseAttention(block.attn)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Embed (B, 3, S, S) normalised float images: {"embedding": (B, 256, S/16, S/16)}."""
        return {"embedding": self(images)}

    def tunable(self) -> list[list[nn.Module]]:
        """The transformer blocks, each a group."""
        return [[block] for block in self.blocks]
