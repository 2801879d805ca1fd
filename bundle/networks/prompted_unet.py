"""Our own network: a residual U-Net that sees the image and the drawn prompts together, in every answer.

SAM embeds the image first and points at things in the embedding afterwards, which pays with a large encoder and with
millions of images. A small network that is trained from nothing learns faster when it sees what was asked from its
first layer on, as nnInteractive (Isensee et al. 2025) and RITM (Sofiiuk et al. 2022) do: see
`scripts/compare_networks.py`. An answer takes no longer than TinyViT's encoder alone, so nothing is gained by keeping
anything of the image between two prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.errors import FamilyError
from bundle.networks.interface import ModelSpec, Prepared, PromptableNetwork
from bundle.prompts.raster import PROMPT_MAPS, draw_prompts

WIDTHS = (48, 80, 128, 192, 256, 256)  # of the levels, from half of the image's size to a 64th
DEPTHS = (1, 2, 3, 3, 2, 1)  # residual blocks of the levels on the way down
_INPUTS = 3 + PROMPT_MAPS + 1  # image, drawn prompts, the mask so far
_CHANNELS_PER_GROUP = 8  # of a group norm: no batch statistics, so one slice trains and answers as eight do
_LOGIT_SCALE = 4.0  # tanh(logits / 4) leaves room between a doubtful and a certain pixel


class PromptedUNet(PromptableNetwork):
    """The U-Net behind the interface of promptable networks.

    Args:
        image_size: S in pixels, a multiple of 2 ** len(widths).
        masks: how many it answers, the first for clear prompts and the others for an ambiguous one.
        widths, depths: as ``ResidualUNet``.

    Raises:
        FamilyError: a size that the levels do not divide.
    """

    def __init__(
        self, image_size: int, masks: int = 4, *, widths: Sequence[int] = WIDTHS, depths: Sequence[int] = DEPTHS
    ) -> None:
        super().__init__()
        coarsest = 2 ** len(widths)
        if image_size <= 0 or image_size % coarsest:
            raise FamilyError(f"image_size must be a positive multiple of {coarsest}, got {image_size}")
        self.spec = ModelSpec(
            input_shape=(3, image_size, image_size),
            mask_size=image_size,
            keeps_prepared=False,
            bfloat16=True,  # the answers stay as good (scripts/benchmark_precision.py)
            mixes_prompts=True,
        )
        self.mask_decoder = ResidualUNet(masks, widths=widths, depths=depths)  # its name in checkpoints

    def prepare(self, images: Tensor) -> Prepared:
        """The images themselves: {"image": (B, 3, S, S)}."""
        self.check_images(images)
        return Prepared({"image": images})

    def describe(self, images: Tensor) -> Tensor:
        """The deepest features of images without prompts, averaged over their pixels: (B, widths[-1]) float."""
        self.check_images(images)
        deepest = self.mask_decoder.encode(images, prompt_maps(None, None, like=images))[-1]
        return deepest.float().mean(dim=(2, 3))

    def decoder_inputs(
        self, features: Mapping[str, Tensor], tokens: tuple[Tensor, Tensor] | None, masks: Tensor | None
    ) -> dict[str, Tensor]:
        """The image of each object (N, 3, S, S), and its prompts as maps (N, 5, S, S)."""
        image = features["image"]
        return {"image": image, "maps": prompt_maps(tokens, masks, like=image)}

    def tunable(self, part: str) -> list[list[nn.Module]]:
        """The levels from fine to coarse: of the way down ("encoder") or of the way up ("decoder")."""
        levels = self.mask_decoder.down if part == "encoder" else self.mask_decoder.merge
        return [[level] for level in levels]


def prompt_maps(tokens: tuple[Tensor, Tensor] | None, masks: Tensor | None, *, like: Tensor) -> Tensor:
    """Prompts as pictures beside the image of each object.

    Args:
        tokens: coordinates (N, T, 2) in pixels and codes (N, T), see ``PromptBatch.tokens``; None without.
        masks: (N, 1, S, S) logits, an object whose mask holds NaN has none; None when no object has one.
        like: (N, 3, S, S), the images.

    Returns:
        (N, 5, S, S): the four maps of ``draw_prompts``, and the mask as tanh of a quarter of its logits, 0 without one.
    """
    count, _, _, size = like.shape
    if masks is None:
        mask = like.new_zeros(count, 1, size, size)
    else:
        mask = torch.tanh(torch.where(masks.isnan(), 0.0, masks).float() / _LOGIT_SCALE)
    if tokens is None:
        drawn = mask.new_zeros(count, PROMPT_MAPS, size, size)
    else:
        drawn = draw_prompts(*tokens, size=size, square=size)
    return torch.cat([drawn, mask], dim=1)


class ResidualUNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) with residual blocks on the way down (nnU-Net ResEnc, Isensee et al. 2024).

    It works at half of the image's size: 2 x 2 pixels are folded into channels before it and unfolded after it.

    Args:
        masks: M, how many it predicts.
        widths: channels of the levels.
        depths: residual blocks of each level on the way down.
    """

    def __init__(self, masks: int, *, widths: Sequence[int] = WIDTHS, depths: Sequence[int] = DEPTHS) -> None:
        super().__init__()
        inputs = [_INPUTS * 4, *widths]
        self.down = nn.ModuleList(
            UNetLevel(_conv(inputs[i], width, stride=2 if i else 1), *(ResidualBlock(width) for _ in range(depth)))
            for i, (width, depth) in enumerate(zip(widths, depths, strict=True))
        )
        pairs = list(pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairs)
        self.merge = nn.ModuleList(UNetLevel(_conv(2 * fine, fine), _conv(fine, fine)) for fine, _ in pairs)
        self.mask_head = nn.Conv2d(widths[0], masks * 4, 1)
        self.iou_head = nn.Sequential(nn.Linear(widths[-1] + masks * widths[0], 128), nn.ReLU(), nn.Linear(128, masks))

    def predict_masks(self, image: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Predict every mask of every object.

        Args:
            image: (N, 3, S, S).
            maps: (N, 5, S, S), see ``prompt_maps``.

        Returns:
            Logits (N, M, S, S) and predicted IoU (N, M).
        """
        features = self.encode(image, maps)
        x = deepest = features.pop()
        for up, merge, feature in zip(reversed(self.up), reversed(self.merge), reversed(features), strict=True):
            x = merge(torch.cat([up(x), feature], dim=1))
        logits = F.pixel_shuffle(self.mask_head(x), 2)  # (N, 4 M, S/2, S/2) -> (N, M, S, S)
        return logits, self.iou_head(_summary(logits, x, deepest))

    def encode(self, image: Tensor, maps: Tensor) -> list[Tensor]:
        """The features of every level, from fine to coarse: (N, widths[i], S / 2**(i + 1), S / 2**(i + 1)) each.

        Arguments as ``predict_masks``.
        """
        x = F.pixel_unshuffle(torch.cat([image, maps], dim=1), 2)  # (N, 8, S, S) -> (N, 32, S/2, S/2)
        x = x.contiguous(memory_format=torch.channels_last)
        features = []
        for level in self.down:
            x = level(x)
            features.append(x)
        return features


class UNetLevel(nn.Sequential):
    """What works at one resolution, on the way down or up: a convolution with norm and activation, then more blocks."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around which the input passes (He et al. 2016).

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), _norm(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return F.leaky_relu(x + self.second(self.first(x)), 0.01)


def _summary(logits: Tensor, finest: Tensor, deepest: Tensor) -> Tensor:
    """What the quality is judged by: the mean of the deepest features, and of the finest ones inside each mask."""
    inside = F.avg_pool2d(logits.detach().float().sigmoid(), 2)  # (N, M, S/2, S/2)
    sums = torch.einsum("nmhw,nchw->nmc", inside, finest.float())
    means = sums / (inside.sum(dim=(2, 3)).unsqueeze(-1) + 1)
    return torch.cat([deepest.float().mean(dim=(2, 3)), means.flatten(1)], dim=1)


def _conv(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, _norm(outputs), nn.LeakyReLU(0.01))


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(width // _CHANNELS_PER_GROUP, width)
