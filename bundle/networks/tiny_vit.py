"""TinyViT-5M image encoders on timm's blocks: MobileSAM's, LiteMedSAM's and our own.

Architecture constants are those of MobileSAM (Zhang et al. 2023) and LiteMedSAM (Ma et al. 2024): widths 64, 128, 160,
320, depths 2, 2, 6, 2, heads 2, 4, 5, 10, and a last stage that keeps its resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import Attention, ConvLayer, ConvNorm, PatchEmbed, PatchMerging, TinyVitStage
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.errors import FamilyError
from bundle.networks.mask_decoder import FINE_CHANNELS, FINE_FACTORS

WIDTHS = (64, 128, 160, 320)
DEPTHS = (2, 2, 6, 2)
HEADS = (2, 4, 5, 10)


class TinyVitEncoder(nn.Module):
    """TinyViT whose last stage keeps the resolution, with SAM's neck or a light feature pyramid.

    Args:
        image_size: S, the side of the input in pixels.
        grid: g, the side of the embedding; S / g must be the stride of the last stage (16 with a strided stem, 4
            without) or, with ``neck="pyramid"``, that of any stage (4, 8 or 16 with a strided stem).
        stem: "strided" halves the image twice (MobileSAM), "pointwise" keeps its size (LiteMedSAM).
        neck: "sam" is SAM's neck on the last stage; "pyramid" adds finer stages to it by 1x1 convolutions and addition.
        window_sizes: attention window of stages 1, 2 and 3, in cells.
        fine: also give the features of 2g x 2g and 4g x 4g that ``FineMaskDecoder`` reads.
    """

    def __init__(
        self,
        *,
        image_size: int = 1024,
        grid: int = 64,
        stem: Literal["strided", "pointwise"] = "strided",
        neck: Literal["sam", "pyramid"] = "sam",
        window_sizes: Sequence[int] = (7, 14, 7),
        fine: bool = False,
    ) -> None:
        super().__init__()
        stem_stride = {"strided": 4, "pointwise": 1}[stem]
        self.strides = tuple(stem_stride * factor for factor in (1, 2, 4, 4))
        self._check_sizes(image_size, grid, neck)
        self.img_size = image_size  # segment-anything's predictor asks its encoder for it
        self.patch_embed = _stem(stem)
        self.stages = nn.ModuleList(_stage(i, window_sizes) for i in range(len(WIDTHS)))
        for module in self.stages.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.stride = image_size // grid
        self.is_pyramid = neck == "pyramid"
        self.neck = _sam_neck(WIDTHS[-1]) if neck == "sam" else PyramidNeck(self._pyramid_widths(image_size // grid))
        self.fine = self._fine_projections(image_size // grid, stem_stride) if fine else None

    def forward(self, images: Tensor) -> Tensor:
        """Embed (B, 3, S, S) to (B, 256, g, g); what segment-anything's own code calls."""
        return self.features(images)["embedding"]

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Embed (B, 3, S, S): "embedding" (B, 256, g, g), and "fine2" (B, 32, 2g, 2g), "fine4" (B, 8, 4g, 4g)."""
        stem = self.patch_embed
        half = stem.act(stem.conv1(images))
        x = stem.conv2(half)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        embedding = self.neck([levels[i] for i in (0, 1, 3)]) if self.is_pyramid else self.neck(x)
        if self.fine is None:
            return {"embedding": embedding}
        sources = [images, half, *levels]
        fine = {f"fine{f}": self.fine[str(f)](sources[self.fine_sources[f]]) for f in FINE_FACTORS}
        return {"embedding": embedding, **fine}

    def tunable(self) -> list[list[nn.Module]]:
        """The transformer blocks; a group is a stage."""
        return [list(stage.blocks) for stage in self.stages[1:]]

    def _fine_projections(self, stride: int, stem_stride: int) -> nn.ModuleDict:
        """1x1 convolutions of the features that are so many times finer than the embedding, whose stride is given."""
        strides = [1, max(1, stem_stride // 2), *self.strides]  # of the picture, of half of the stem and of the stages
        widths = [3, WIDTHS[0] // 2, *WIDTHS]
        if missing := [f for f in FINE_FACTORS if stride // f not in strides]:
            raise FamilyError(
                f"fine features need a stride of {stride // missing[0]}, got an embedding of stride {stride}"
            )
        # The deepest feature of that stride but the last stage's: it has seen most.
        self.fine_sources = {f: max(i for i in range(5) if strides[i] == stride // f) for f in FINE_FACTORS}
        return nn.ModuleDict(
            {
                str(f): nn.Conv2d(widths[self.fine_sources[f]], channels, 1)
                for f, channels in zip(FINE_FACTORS, FINE_CHANNELS, strict=True)
            }
        )

    def _pyramid_widths(self, stride: int) -> list[int]:
        """Channels of stages 0, 1 and 3; 0 where a stage is finer than the embedding and so unused."""
        return [WIDTHS[i] if self.strides[i] >= stride else 0 for i in (0, 1, 3)]

    def _check_sizes(self, image_size: int, grid: int, neck: str) -> None:
        allowed = self.strides[-1:] if neck == "sam" else sorted(set(self.strides))
        if image_size % self.strides[-1] or image_size // grid not in allowed or image_size % grid:
            sizes = " or ".join(str(image_size // stride) for stride in allowed)
            raise FamilyError(
                f"image_size must be a multiple of {self.strides[-1]} and grid must be {sizes} for it, "
                f"got image_size {image_size} and grid {grid}"
            )


class PyramidNeck(nn.Module):
    """Feature pyramid (Lin et al. 2017) that ends as SAM's neck does: sum of 1x1 projections, 3x3 convolution, norm.

    Args:
        widths: channels of the features from fine to coarse; 0 leaves a feature out.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, 256, 1, bias=False), LayerNorm2d(256)) if width else nn.Identity()
            for width in widths
        )
        self.used = [bool(width) for width in widths]
        self.output = nn.Sequential(nn.Conv2d(256, 256, 3, padding=1, bias=False), LayerNorm2d(256))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Merge features (B, C_i, H_i, W_i), fine to coarse, into (B, 256, g, g) at the finest size used."""
        parts = [project(x) for project, x, used in zip(self.lateral, features, self.used, strict=True) if used]
        size = parts[0].shape[-2:]
        merged = parts[0]
        for part in parts[1:]:
            merged = merged + F.interpolate(part, size=size, mode="bilinear", align_corners=False)
        return self.output(merged)


class _UncachedAttention(Attention):
    """timm's attention without its cache of gathered biases.

    timm keeps the biases gathered in eval mode, which goes stale when weights are loaded afterwards, holds on to a
    graph that was already freed by backward, and cannot be deep-copied (EMA). Gathering costs microseconds.
    """

    def get_attention_biases(self, device: torch.device) -> Tensor:
        return self.attention_biases[:, self.attention_bias_idxs]


def _stem(kind: str) -> nn.Module:
    if kind == "strided":
        return PatchEmbed(3, WIDTHS[0], nn.GELU)
    stem = PatchEmbed(3, WIDTHS[0], nn.GELU)
    stem.conv1 = ConvNorm(3, WIDTHS[0] // 2, 1)
    stem.conv2 = ConvNorm(WIDTHS[0] // 2, WIDTHS[0], 1)
    return stem


def _stage(index: int, window_sizes: Sequence[int]) -> nn.Module:
    if index == 0:
        return ConvLayer(WIDTHS[0], DEPTHS[0], nn.GELU)
    stage = TinyVitStage(
        dim=WIDTHS[index - 1],
        out_dim=WIDTHS[index],
        depth=DEPTHS[index],
        num_heads=HEADS[index],
        window_size=window_sizes[index - 1],
        downsample=PatchMerging,
    )
    if index == len(WIDTHS) - 1:
        stage.downsample.conv2.conv.stride = (1, 1)
    for block in stage.blocks:
        block.attn = _uncached(block.attn)
    return stage


def _uncached(attention: Attention) -> _UncachedAttention:
    """Attention of the same sizes without the cache; the encoder draws its weights."""
    sizes = attention.qkv.in_features, attention.key_dim, attention.num_heads
    with torch.random.fork_rng(devices=[]):  # what is drawn here is drawn again: a seed keeps its meaning
        return _UncachedAttention(*sizes, attn_ratio=attention.attn_ratio, resolution=attention.resolution)


def _sam_neck(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, 256, 1, bias=False),
        LayerNorm2d(256),
        nn.Conv2d(256, 256, 3, padding=1, bias=False),
        LayerNorm2d(256),
    )
