"""Variants of segment-anything's transformer block: those that other projects trained, and a faster attention."""

from __future__ import annotations

import torch
from segment_anything.modeling.image_encoder import (
    Attention,
    Block,
    get_rel_pos,
    window_partition,
    window_unpartition,
)
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


class BlockwiseAttention(Attention):
    """segment-anything's attention with decomposed relative positions, without its (heads, H W, H W) matrices.

    A global block of ViT-B at 1024 pixels would hold 12 x 4096 x 4096 numbers three times over, and moving them takes
    longer than the arithmetic: so the queries go through PyTorch's fused attention a few hundred at a time. The numbers
    agree to rounding (`tests/test_blocks.py`), and the parameters are those of the attention that it is made of.

    Args:
        attention: whose parameters become its own.
    """

    queries = 512  # at a time: 256 to 4096 took the same time on a CPU, and the memory is this times H W for each head

    def __init__(self, attention: Attention) -> None:
        nn.Module.__init__(self)
        self.num_heads, self.scale, self.use_rel_pos = attention.num_heads, attention.scale, attention.use_rel_pos
        self.qkv, self.proj = attention.qkv, attention.proj
        if self.use_rel_pos:
            self.rel_pos_h, self.rel_pos_w = attention.rel_pos_h, attention.rel_pos_w

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, H, W, C) tokens."""
        count, height, width, _ = x.shape
        qkv = self.qkv(x).reshape(count, height * width, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, H W, c) each
        rows, columns = self._relative(q, height, width) if self.use_rel_pos else (None, None)
        parts = []
        for start in range(0, height * width, self.queries):
            block, bias = slice(start, start + self.queries), None
            if rows is not None:
                bias = (rows[:, :, block, :, None] + columns[:, :, block, None, :]).flatten(-2)
            parts.append(F.scaled_dot_product_attention(q[:, :, block], k, v, attn_mask=bias, scale=self.scale))
        attended = torch.cat(parts, dim=2).transpose(1, 2).reshape(count, height, width, -1)
        return self.proj(attended)

    def _relative(self, q: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """What each query adds for the rows (B, heads, H W, H) and the columns (B, heads, H W, W) of the keys.

        Li et al. 2022, MViTv2, equation 4, as segment-anything computes it.
        """
        grid = q.unflatten(2, (height, width))
        rows = torch.einsum("bnhwc,hkc->bnhwk", grid, get_rel_pos(height, height, self.rel_pos_h))
        columns = torch.einsum("bnhwc,wkc->bnhwk", grid, get_rel_pos(width, width, self.rel_pos_w))
        return rows.flatten(2, 3), columns.flatten(2, 3)
