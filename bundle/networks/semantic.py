"""Automatic segmentation without prompts: finetune-SAM's multi-class decoder and MedicoSAM's convolutional decoders.

The convolutional decoders are the UNETR-style ones of micro-sam and MedicoSAM (Archit et al. 2025), without skip
connections: everything is made from SAM's image embedding. Parameter names are those of their checkpoints.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.networks.blocks import DepthAdaptedBlock
from bundle.networks.interface import ModelSpec
from bundle.networks.promptable_sam import PromptableSam
from bundle.networks.vit import EMBEDDING_CHANNELS
from bundle.prompts.batch import PromptBatch

# Channels of the decoder at the strides 16, 8, 4 and 2.
FEATURES = (512, 256, 128, 64)


class MultiClassSam(PromptableSam):
    """SAM whose mask decoder has one mask per class and is asked without a prompt (finetune-SAM, Gu et al. 2025).

    The decoder's three candidate masks become the classes; class 0 is background.
    """

    def __init__(self, *parts: nn.Module, **options: Any) -> None:
        super().__init__(*parts, **options)
        self.spec = replace(self.spec, prompts=(), classes=self.mask_decoder.num_multimask_outputs)

    def forward(self, image: Tensor) -> Tensor:
        """Class logits (B, classes, S, S) of (B, 3, S, S) images; the label map is their argmax."""
        prompts = PromptBatch(image_index=torch.arange(len(image), device=image.device))
        logits = self.predict(self.prepare(image), prompts).logits
        return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)


class _ConvBlock(nn.Module):
    """Twice instance norm, 3x3 convolution and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.InstanceNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.ReLU(),
            nn.InstanceNorm2d(outputs),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class _Upsample(nn.Module):
    """Bilinear doubling, then a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False))


class _Conv(nn.Module):
    """A 3x3 convolution under the name that torch-em's checkpoints have."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class _UpBlock(nn.Module):
    """Doubling, 3x3 convolution, batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.block = nn.Sequential(_Upsample(inputs, outputs), _Conv(outputs), nn.BatchNorm2d(outputs), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class _Ladder(nn.Module):
    """Three steps of doubling, joining the finer features and convolving."""

    def __init__(self) -> None:
        super().__init__()
        steps = list(pairwise(FEATURES))
        self.blocks = nn.ModuleList(_ConvBlock(coarse, fine) for coarse, fine in steps)
        self.samplers = nn.ModuleList(_Upsample(coarse, fine) for coarse, fine in steps)

    def forward(self, x: Tensor, finer: list[Tensor]) -> Tensor:
        for block, sampler, feature in zip(self.blocks, self.samplers, finer, strict=True):
            # torch-em crops the finer features to the coarse ones' shape, channels too: their middle half stays.
            quarter = feature.shape[1] // 4
            x = block(torch.cat([sampler(x), feature[:, quarter:-quarter]], dim=1))
        return x


class ConvolutionalDecoder(nn.Module):
    """MedicoSAM's decoder: SAM's image embedding (B, 256, g, g) to logits (B, classes, 16g, 16g).

    Args:
        classes: output channels; None ends with the 64 features before the last 1x1 convolution.
    """

    def __init__(self, classes: int | None) -> None:
        super().__init__()
        widths = (EMBEDDING_CHANNELS, *FEATURES)
        self.deconv1, self.deconv2, self.deconv3, self.deconv4 = (
            _UpBlock(inputs, outputs) for inputs, outputs in pairwise(widths)
        )
        self.base = _ConvBlock(EMBEDDING_CHANNELS, FEATURES[0])
        self.decoder = _Ladder()
        self.deconv_out = _Upsample(FEATURES[-1], FEATURES[-1])
        self.decoder_head = _ConvBlock(2 * FEATURES[-1], FEATURES[-1])
        self.out_conv = nn.Identity() if classes is None else nn.Conv2d(FEATURES[-1], classes, 1)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Logits (B, classes, 16g, 16g), before any softmax or sigmoid."""
        z9 = self.deconv1(embeddings)
        z6 = self.deconv2(z9)
        z3 = self.deconv3(z6)
        z0 = self.deconv4(z3)
        x = self.deconv_out(self.decoder(self.base(embeddings), [z9, z6, z3]))
        return self.out_conv(self.decoder_head(torch.cat([x, z0], dim=1)))


class SemanticSam2d(nn.Module):
    """SAM's image encoder with MedicoSAM's convolutional decoder.

    Args:
        image_encoder: (B, 3, S, S) to (B, 256, S/16, S/16).
        image_size: S.
        classes: output channels, background included.
    """

    def __init__(self, image_encoder: nn.Module, image_size: int, classes: int) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.automatic_decoder = ConvolutionalDecoder(classes)
        self.spec = ModelSpec((3, image_size, image_size), prompts=(), classes=classes)

    def forward(self, image: Tensor) -> Tensor:
        """Class logits (B, classes, S, S) of (B, 3, S, S) images."""
        return self.automatic_decoder(self.image_encoder(image))


class SemanticSam3d(nn.Module):
    """MedicoSAM's network for volumes: slices pass a ViT whose blocks also mix along the depth, then a 3D fusion.

    Args:
        image_encoder: segment-anything's ViT; its blocks are wrapped in ``DepthAdaptedBlock``.
        image_size: S.
        classes: output channels, background included.
        fusion_channels: of the 3D fusion block.
    """

    def __init__(
        self, image_encoder: ImageEncoderViT, image_size: int, classes: int, *, fusion_channels: int = 64
    ) -> None:
        super().__init__()
        image_encoder.blocks = nn.ModuleList(DepthAdaptedBlock(block) for block in image_encoder.blocks)
        self.image_encoder = image_encoder
        self.automatic_decoder = ConvolutionalDecoder(None)
        self.fusion_3d = nn.Sequential(
            nn.Conv3d(FEATURES[-1], fusion_channels, 3, padding=1, bias=False),
            nn.BatchNorm3d(fusion_channels),
            nn.ReLU(),
            nn.Conv3d(fusion_channels, fusion_channels, 1),
            nn.BatchNorm3d(fusion_channels),
            nn.ReLU(),
        )
        self.classifier = nn.Conv3d(fusion_channels, classes, 1)
        self.spec = ModelSpec((3, 1, image_size, image_size), prompts=(), classes=classes)

    def forward(self, volume: Tensor) -> Tensor:
        """Class logits (B, classes, D, S, S) of (B, 3, D, S, S) volumes of D slices."""
        count, _, depth = volume.shape[:3]
        slices = volume.transpose(1, 2).flatten(0, 1)
        features = self.automatic_decoder(self._encode(slices, depth))
        features = features.unflatten(0, (count, depth)).transpose(1, 2)
        return self.classifier(self.fusion_3d(features))

    def _encode(self, slices: Tensor, depth: int) -> Tensor:
        encoder = self.image_encoder
        x = encoder.patch_embed(slices) + encoder.pos_embed
        for block in encoder.blocks:
            x = block(x, depth)
        return encoder.neck(x.permute(0, 3, 1, 2))
