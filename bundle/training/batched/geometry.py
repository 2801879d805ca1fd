"""Where the pixels of a square lie in a slice: the pieces of which ``BatchedSamples`` makes its sampling grids."""

from __future__ import annotations

import torch
from torch import Tensor

from bundle.training.batched.augmentation import BatchRandom


def corners(x: Tensor, y: Tensor, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """The four pixels around each place: (B, 4, S, S) indices into a slice, row by row, and bilinear weights.

    Args:
        x, y: (B, S, S) in pixels; places outside take the pixels of the edge.
        height, width: (B, 1, 1) of the slice.
    """
    left, top = x.floor(), y.floor()
    along, down = x - left, y - top
    indices, weights = [], []
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column = (left.long() + dx).clamp(min=0).minimum(width - 1)
        row = (top.long() + dy).clamp(min=0).minimum(height - 1)
        indices.append(row * width + column)
        weights.append((along if dx else 1 - along) * (down if dy else 1 - down))
    return torch.stack(indices, dim=1), torch.stack(weights, dim=1)


def turned(half: Tensor, turn: Tensor) -> Tensor:
    """(B, 2) half sides of the box around an ellipse that is turned."""
    cos, sin = turn.cos(), turn.sin()
    return torch.stack(
        [torch.hypot(half[:, 0] * cos, half[:, 1] * sin), torch.hypot(half[:, 0] * sin, half[:, 1] * cos)], 1
    )


def quarter_turned(values: Tensor, quarters: Tensor) -> Tensor:
    """(B, S, S) turned by so many quarters of a turn, (B,) long in 0..3."""
    turned = values
    for count in (1, 2, 3):
        turned = torch.where((quarters == count).view(-1, 1, 1), values.rot90(count, (1, 2)), turned)
    return turned


def pixel_centres(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(1, 1, S) x and (1, S, 1) y of the centres of the square's pixels, in shares of its side."""
    place = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    return place.view(1, 1, size), place.view(1, size, 1)


def sign(random: BatchRandom, share: float) -> Tensor:
    """(B, 1, 1) -1 in this share of the samples, else 1."""
    return torch.where(random.bernoulli(share), -1.0, 1.0).view(-1, 1, 1)
