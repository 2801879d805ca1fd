"""Simulated prompts of many masks at once, on the device where the masks are.

The same prompts as ``bundle.prompts.simulation`` draws, which evaluation asks with, for a training whose network
answers faster than NumPy draws. Two things differ: depth is counted in erosions by 3 x 3 pixels (chessboard distance)
instead of in Euclidean pixels, and a correcting click goes to the deepest error, not to the centre of the largest
one. Boxes are the same to the bit.

Masks are (N, H, W) bool, points (N, 2) float (x, y), boxes (N, 4) float (x0, y0, x1, y1) with both corners inclusive
pixels. Random numbers come from the generator that is passed, which lies on the masks' device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

DEEPEST = 24  # erosions that are told apart; what lies deeper counts as equally deep


def tight_boxes(masks: Tensor) -> Tensor:
    """The smallest box around each object: (N, 4) float32; NaN where a mask is empty."""
    height, width = masks.shape[-2:]
    bounds = []
    for filled, size in ((masks.any(dim=1), width), (masks.any(dim=2), height)):
        places = torch.arange(size, device=masks.device, dtype=torch.float32)
        low = torch.where(filled, places, float(size)).amin(dim=1)
        bounds.append((low, torch.where(filled, places, -1.0).amax(dim=1)))
    (x0, x1), (y0, y1) = bounds
    boxes = torch.stack([x0, y0, x1, y1], dim=1)
    return torch.where(masks.flatten(1).any(dim=1)[:, None], boxes, torch.nan)


def move_sides(boxes: Tensor, outward: Tensor, size: int) -> Tensor:
    """Move the sides (N, 4) of boxes outward by so many pixels each; no side passes the middle or leaves the square."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    lower = torch.minimum(boxes[:, :2] - outward[:, :2], middle)
    upper = torch.maximum(boxes[:, 2:] + outward[:, 2:], middle)
    return torch.cat([lower, upper], dim=1).clamp(0, size - 1)


def depths(masks: Tensor) -> Tensor:
    """How many erosions each pixel of an object survives, at most ``DEEPEST``: (N, H, W) float; 0 outside.

    The edge of the picture counts as an edge of the object.
    """
    outside = torch.nn.functional.pad((~masks)[:, None].half(), (1, 1, 1, 1), value=1.0)
    depth = torch.zeros_like(outside)
    for _ in range(DEEPEST):
        depth += 1 - outside
        outside = max_pool2d(outside, 3, stride=1, padding=1)
    return depth[:, 0, 1:-1, 1:-1].float()


def deepest_points(masks: Tensor, generator: torch.Generator, *, slack: float = 0.0) -> Tensor:
    """A deepest pixel of each object, ties broken at random: (N, 2).

    Args:
        masks: none of them empty; of an empty one the answer is any pixel.
        generator: breaks the ties.
        slack: pixels up to this share less deep are as good.
    """
    depth = depths(masks)
    enough = depth >= (1 - slack) * depth.flatten(1).amax(dim=1)[:, None, None]
    return random_points(masks & enough, generator)


def random_points(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Any pixel of each object: (N, 2); any pixel at all where a mask is empty."""
    width = masks.shape[-1]
    scores = torch.rand(masks.shape, generator=generator, device=masks.device) + masks
    place = scores.flatten(1).argmax(dim=1)
    return torch.stack([place % width, place // width], dim=1).float()


def scribbles(masks: Tensor, generator: torch.Generator, *, count: int) -> tuple[Tensor, Tensor]:
    """Points along a straight stroke of each object: points (N, count, 2) and labels (N, count).

    A stroke goes from a deep pixel to any other one of the object; label 1, or -1 (padding) where it crosses a gap.

    Args:
        masks: none of them empty.
        generator: of all draws.
        count: points of a stroke, at least 2.
    """
    first, last = deepest_points(masks, generator, slack=0.5), random_points(masks, generator)
    share = (torch.arange(count, device=masks.device) + 0.5) / count
    points = first[:, None] + share[None, :, None] * (last - first)[:, None]
    x, y = points.round().long().unbind(dim=2)
    inside = masks[torch.arange(len(masks), device=masks.device)[:, None], y, x]
    return points, torch.where(inside, 1, -1)


def lasso_areas(masks: Tensor, reach: Tensor) -> Tensor:
    """What a line around each object encloses: (N, H, W) bool, the object and what lies near it, without corners.

    Args:
        masks: (N, H, W) bool.
        reach: (N, H, W) how many pixels the line keeps away from the object, at each place; at most ``DEEPEST``.
    """
    reached = masks[:, None].half()
    steps = torch.zeros_like(reached)
    for _ in range(DEEPEST):
        steps += 1 - reached
        reached = max_pool2d(reached, 3, stride=1, padding=1)
    steps = torch.where(reached.bool(), steps, torch.inf)[:, 0]
    near = (steps <= reach)[:, None].float()
    return masks | (avg_pool2d(near, 7, stride=1, padding=3, count_include_pad=False)[:, 0] > 0.5)


def error_clicks(
    truth: Tensor, prediction: Tensor, generator: torch.Generator, *, random_share: float = 0.5
) -> tuple[Tensor, Tensor]:
    """The click that corrects each prediction: points (N, 2) and labels (N,), 1 where object was missed, else 0.

    Where nothing is wrong the click falls on the object.

    Args:
        truth, prediction: (N, H, W) bool.
        generator: of all draws.
        random_share: share of clicks on any wrong pixel instead of a deepest one.
    """
    wrong = truth ^ prediction
    anything = wrong.flatten(1).any(dim=1)
    wrong = torch.where(anything[:, None, None], wrong, truth)
    anywhere = torch.rand(len(truth), generator=generator, device=truth.device) < random_share
    points = torch.where(anywhere[:, None], random_points(wrong, generator), deepest_points(wrong, generator))
    x, y = points.long().unbind(dim=1)
    return points, truth[torch.arange(len(truth), device=truth.device), y, x].long()
