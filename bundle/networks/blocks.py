"""Variants of segment-anything's transformer block that other projects' checkpoints were trained with."""

from __future__ import annotations

from segment_anything.modeling.image_encoder import Block, window_partition, window_unpartition
from torch import Tensor, nn
from torch.nn import functional as F


class WindowFirstBlock(Block):
    """finetune-SAM's block: windows are cut, and padded with zeros, before the norm instead of after it.

    The norm turns the padding into its bias, so the last windows of a grid that is not a multiple of 14 see other keys
    than in SAM. Checkpoints tuned with finetune-SAM expect it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, H, W, C) tokens."""
        if self.window_size == 0:
            return super().forward(x)
        windows, padded = window_partition(x, self.window_size)
        attended = self.attn(self.norm1(windows))
        x = x + window_unpartition(attended, self.window_size, padded, x.shape[1:3])
        return x + self.mlp(self.norm2(x))


class DepthAdaptedBlock(nn.Module):
    """A ViT block with micro-sam's two adapters along the depth, before the attention and before the MLP.

    Args:
        block: segment-anything's block.
        channels: of the adapters' bottleneck.
    """

    def __init__(self, block: nn.Module, *, channels: int = 384) -> None:
        super().__init__()
        width = block.attn.qkv.in_features
        self.block = block
        for suffix in ("", "_2"):
            setattr(self, f"adapter_linear_down{suffix}", nn.Linear(width, channels, bias=False))
            setattr(self, f"adapter_linear_up{suffix}", nn.Linear(channels, width, bias=False))
            setattr(self, f"adapter_conv{suffix}", nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0)))
            setattr(self, f"adapter_norm{suffix}", nn.LayerNorm(width))

    def forward(self, x: Tensor, depth: int) -> Tensor:
        """Transform (B*D, H, W, C) tokens of volumes of ``depth`` = D slices."""
        x = x + self._along_depth(x, depth, "")
        x = x + _attend(self.block, self.block.norm1(x))
        x = x + self._along_depth(x, depth, "_2")
        return x + self.block.mlp(self.block.norm2(x))

    def _along_depth(self, x: Tensor, depth: int, suffix: str) -> Tensor:
        norm, down, conv, up = (
            getattr(self, f"adapter_{name}{suffix}") for name in ("norm", "linear_down", "conv", "linear_up")
        )
        narrow = down(norm(x)).unflatten(0, (-1, depth)).permute(0, 4, 1, 2, 3)
        mixed = conv(narrow).permute(0, 2, 3, 4, 1).flatten(0, 1)
        return up(F.gelu(mixed))


def _attend(block: nn.Module, x: Tensor) -> Tensor:
    """A block's attention, in windows where it has them."""
    if block.window_size == 0:
        return block.attn(x)
    windows, padded = window_partition(x, block.window_size)
    return window_unpartition(block.attn(windows), block.window_size, padded, x.shape[1:3])
