"""Our own network: a residual U-Net that sees the image and the drawn prompts together, in every answer.

SAM embeds the image first and points at things in the embedding afterwards, which pays with a large encoder and with
millions of images. A small network that is trained from nothing learns faster when it sees what was asked from its
first layer on, as nnInteractive (Isensee et al. 2025) and RITM (Sofiiuk et al. 2022) do: see
`scripts/compare_networks.py`. An answer takes no longer than TinyViT's encoder alone, so that nothing is gained by
storing embeddings: here an "embedding" is the image itself, folded.

The three parts have the interface of SAM's, so that ``PromptableSam``, the exporters and the predictor take them as
they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from segment_anything.modeling import MaskDecoder as SamMaskDecoder
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.networks.raster_prompts import draw_prompts

WIDTHS = (48, 80, 128, 192, 256, 256)  # of the levels, from half of the image's size to a 64th
DEPTHS = (1, 2, 3, 3, 2, 1)  # residual blocks of the levels on the way down
FOLD = 4  # pixels of an embedding's cell along each axis, so that masks of 4g x 4g have the size of the image
PROMPT_MAPS = 5  # clicks on and off the object, the box twice, the mask so far
_CHANNELS_PER_GROUP = 8  # of a group norm: no batch statistics, so one slice trains and answers as eight do
_LOGIT_SCALE = 4.0


class FoldedImage(nn.Module):
    """The image encoder of a network that looks at the image itself: cells of 4 x 4 pixels become channels.

    Args:
        image_size: S, the side of the input in pixels.
    """

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.img_size = image_size

    def forward(self, images: Tensor) -> Tensor:
        """Fold (B, 3, S, S) to (B, 48, S/4, S/4)."""
        return F.pixel_unshuffle(images, FOLD)


class FoldedPrompts(nn.Module):
    """The prompt encoder of a network that sees prompts as pictures; it has no tokens and no parameters.

    Args:
        image_size: S in pixels, a multiple of 64.
    """

    embed_dim = 0
    mixes_prompts = True  # what an object lacks is not drawn, so no other object changes its answer

    def __init__(self, image_size: int) -> None:
        super().__init__()
        grid = image_size // FOLD
        self.input_image_size, self.image_embedding_size = (image_size, image_size), (grid, grid)
        self.mask_input_size = (image_size, image_size)
        self.register_buffer("nothing", torch.zeros(0), persistent=False)  # knows the device

    def embed_tokens(self, coords: Tensor, codes: Tensor) -> Tensor:
        """No tokens, (N, 0, 0): the prompts are drawn instead."""
        return coords.new_zeros(coords.shape[0], 0, 0)

    def embed_dense(self, masks: Tensor | None, count: int, tokens: tuple[Tensor, Tensor] | None) -> Tensor:
        """Draw the prompts of N objects, and fold the maps like the image.

        Args:
            masks: (N, 1, S, S) logits, an object whose mask holds NaN has none; None when no object has one.
            count: N.
            tokens: coordinates (N, T, 2) in pixels and codes (N, T), as ``draw_prompts`` takes them; None without.

        Returns:
            (N, 5 * 16, S/4, S/4); the mask as tanh of a quarter of its logits, 0 where there is none.
        """
        size = self.input_image_size[0]
        if masks is None:
            mask = self.nothing.new_zeros(count, 1, size, size)
        else:
            mask = torch.tanh(torch.where(masks.isnan(), 0.0, masks).float() / _LOGIT_SCALE)
        if tokens is None:
            drawn = mask.new_zeros(count, PROMPT_MAPS - 1, size, size)
        else:
            drawn = draw_prompts(*tokens, size=size, square=size)
        return F.pixel_unshuffle(torch.cat([drawn, mask], dim=1), FOLD)

    def get_dense_pe(self) -> Tensor:
        """No positional encoding, (1, 0, g, g): convolutions and the maps know where things are."""
        return self.nothing.new_zeros(1, 0, *self.image_embedding_size)


class PromptedUNet(nn.Module):
    """The mask decoder: a residual U-Net over image and prompts.

    Plain U-Net (Ronneberger et al. 2015) with residual blocks on the way down (nnU-Net ResEnc, Isensee et al. 2024) and
    group norm. It works at half of the image's size; 2 x 2 pixels are folded before and unfolded after it.

    Args:
        masks: how many masks it answers, the first for clear prompts and the others for an ambiguous one.
        widths: channels of the levels.
        depths: residual blocks of each level on the way down.
    """

    image_channels = 3 * FOLD**2
    answers_in_bfloat16 = True  # where a CPU computes in it; the answers stay as good (scripts/benchmark_precision.py)

    def __init__(self, masks: int = 4, *, widths: Sequence[int] = WIDTHS, depths: Sequence[int] = DEPTHS) -> None:
        super().__init__()
        inputs = [(3 + PROMPT_MAPS) * 4, *widths]
        self.down = nn.ModuleList(
            nn.Sequential(_conv(inputs[i], width, stride=2 if i else 1), *(ResidualBlock(width) for _ in range(depth)))
            for i, (width, depth) in enumerate(zip(widths, depths, strict=True))
        )
        pairs = list(pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairs)
        self.merge = nn.ModuleList(nn.Sequential(_conv(2 * fine, fine), _conv(fine, fine)) for fine, _ in pairs)
        self.mask_head = nn.Conv2d(widths[0], masks * 4, 1)
        self.iou_head = nn.Sequential(nn.Linear(widths[-1] + masks * widths[0], 128), nn.ReLU(), nn.Linear(128, masks))

    forward = SamMaskDecoder.forward  # which of the predicted masks are answered

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Predict every mask of every object.

        Args:
            image_embeddings: (N, 48, g, g), the folded image of each object.
            image_pe, sparse_prompt_embeddings: empty.
            dense_prompt_embeddings: (N, 80, g, g), the folded maps of the prompts.

        Returns:
            Logits (N, M, 4g, 4g) and predicted IoU (N, M).
        """
        seen = F.pixel_shuffle(torch.cat([image_embeddings, dense_prompt_embeddings], dim=1), FOLD)
        x = F.pixel_unshuffle(seen, 2).contiguous(memory_format=torch.channels_last)
        features = []
        for level in self.down:
            x = level(x)
            features.append(x)
        deepest = features.pop()
        for up, merge, feature in zip(reversed(self.up), reversed(self.merge), reversed(features), strict=True):
            x = merge(torch.cat([up(x), feature], dim=1))
        logits = F.pixel_shuffle(self.mask_head(x), 2)
        return logits, self.iou_head(self._summary(logits, x, deepest))

    @staticmethod
    def _summary(logits: Tensor, finest: Tensor, deepest: Tensor) -> Tensor:
        """What the quality is judged by: the mean of the deepest features, and of the finest ones inside each mask."""
        inside = F.avg_pool2d(logits.detach().float().sigmoid(), 2)
        sums = torch.einsum("nmhw,nchw->nmc", inside, finest.float())
        means = sums / (inside.sum(dim=(2, 3)).unsqueeze(-1) + 1)
        return torch.cat([deepest.float().mean(dim=(2, 3)), means.flatten(1)], dim=1)


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


def _conv(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, _norm(outputs), nn.LeakyReLU(0.01))


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(width // _CHANNELS_PER_GROUP, width)
