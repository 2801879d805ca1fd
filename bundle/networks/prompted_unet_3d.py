"""Our own network of volumes: a residual U-Net that sees a cube of the volume and the drawn prompts together.

The same idea as ``prompted_unet``, in three dimensions: what is compact and has weak borders, such as a lesion, is told
from its surroundings by all three planes at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.errors import FamilyError
from bundle.networks.interface import MaskPrediction, ModelSpec, Prepared
from bundle.prompts.cube_maps import BOX, CUBE_MAPS

WIDTHS = (32, 64, 96, 128, 192)  # of the levels, from half of the cube's side to a 32nd
DEPTHS = (1, 2, 2, 2, 1)  # residual blocks of the levels on the way down
_VIEWS = 3
_CHANNELS_PER_GROUP = 8  # of a group norm: no batch statistics, so one cube trains and answers as many do
_LOGIT_SCALE = 4.0  # tanh(logits / 4) leaves room between a doubtful and a certain cell


class PromptedUNet3D(nn.Module):
    """A 3D U-Net (Cicek et al. 2016) with residual blocks, on 2 x 2 x 2 cells folded into channels.

    Args:
        image_size: S in cells, a multiple of 2 ** len(widths).
        widths: channels of the levels, multiples of 8.
        depths: residual blocks of each level on the way down.

    Raises:
        FamilyError: a size that the levels do not divide.
    """

    def __init__(self, image_size: int, *, widths: Sequence[int] = WIDTHS, depths: Sequence[int] = DEPTHS) -> None:
        super().__init__()
        coarsest = 2 ** len(widths)
        if image_size <= 0 or image_size % coarsest:
            raise FamilyError(f"image_size must be a positive multiple of {coarsest}, got {image_size}")
        self.spec = ModelSpec(
            input_shape=(_VIEWS, image_size, image_size, image_size),
            mask_size=image_size,
            keeps_prepared=False,
            bfloat16=True,
            mixes_prompts=True,
        )
        inputs = [(_VIEWS + CUBE_MAPS) * 8, *widths]
        self.down = nn.ModuleList(
            nn.Sequential(_conv(inputs[i], width, stride=2 if i else 1), *(_ResidualBlock(width) for _ in range(depth)))
            for i, (width, depth) in enumerate(zip(widths, depths, strict=True))
        )
        pairs = list(pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose3d(coarse, fine, 2, stride=2) for fine, coarse in pairs)
        self.merge = nn.ModuleList(nn.Sequential(_conv(2 * fine, fine), _ResidualBlock(fine)) for fine, _ in pairs)
        self.mask_head = nn.Conv3d(widths[0], 8, 1)
        self.iou_head = nn.Sequential(nn.Linear(widths[-1], 64), nn.ReLU(), nn.Linear(64, 1))

    def prepare(self, images: Tensor) -> Prepared:
        """The cubes themselves: {"image": (B, 3, S, S, S)}, normalised by the family's contract.

        Raises:
            ValueError: cubes of another shape.
        """
        if tuple(images.shape[1:]) != self.spec.input_shape:
            raise ValueError(f"images must have shape (B, {self.spec.input_shape}), got {tuple(images.shape)}")
        return Prepared({"image": images})

    def predict(self, prepared: Prepared, maps: Tensor) -> MaskPrediction:
        """Predict one mask of the object in each cube.

        Args:
            prepared: of N cubes.
            maps: (N, 6, S, S, S) the prompts as ``cube_maps.draw_on_cube`` draws them, and as the last of them the
                answer so far as ``answer_so_far`` makes it.

        Returns:
            Logits (N, 1, S, S, S), and predicted IoU (N, 1) in 0..1.
        """
        x = _folded(torch.cat([prepared.tensors["image"], maps], dim=1))  # (N, 9, S, S, S) -> (N, 72, S/2, S/2, S/2)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        features = []
        for level in self.down:
            x = level(x)
            features.append(x)
        deepest = features.pop()
        for up, merge, feature in zip(reversed(self.up), reversed(self.merge), reversed(features), strict=True):
            x = merge(torch.cat([up(x), feature], dim=1))
        iou = self.iou_head(deepest.float().mean(dim=(2, 3, 4)))
        return MaskPrediction(_unfolded(self.mask_head(x)), iou.float().sigmoid())

    def forward(self, image: Tensor) -> Tensor:
        """Segment what fills the middle of each cube, asked for with a 3D box over the whole of it.

        Args:
            image: (B, 3, S, S, S) normalised float.

        Returns:
            (B, 1, S, S, S) logits.
        """
        maps = image.new_zeros(len(image), CUBE_MAPS, *image.shape[2:])
        maps[:, BOX] = 1
        return self.predict(self.prepare(image), maps).logits


def answer_so_far(logits: Tensor) -> Tensor:
    """An earlier answer as the network sees it: tanh of a quarter of its logits, any shape; 0 is not known."""
    return torch.tanh(logits.float() / _LOGIT_SCALE)


class _ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions around which the input passes (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width)
        self.second = nn.Sequential(nn.Conv3d(width, width, 3, padding=1, bias=False), _norm(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.second(self.first(x)), 0.01)


def _folded(x: Tensor) -> Tensor:
    """(B, C, S, S, S) to (B, 8 C, S/2, S/2, S/2): 2 x 2 x 2 cells become channels."""
    batch, channels, *sides = x.shape
    x = x.view(batch, channels, *(part for side in sides for part in (side // 2, 2)))
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(batch, channels * 8, *(side // 2 for side in sides))


def _unfolded(x: Tensor) -> Tensor:
    """The inverse of ``_folded``."""
    batch, channels, *sides = x.shape
    x = x.view(batch, channels // 8, 2, 2, 2, *sides)
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(batch, channels // 8, *(2 * side for side in sides))


def _conv(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, _norm(outputs), nn.LeakyReLU(0.01))


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(width // _CHANNELS_PER_GROUP, width)
