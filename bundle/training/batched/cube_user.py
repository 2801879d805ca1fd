"""The simulated user of a training step in 3D, for whole batches on the device.

The vocabulary is that of use: a box on one slice, a 3D box, the mask of one slice (a lasso, a confirmed slice), a point
and a scribble start an object; then come clicks in the deepest error, on any slice, with the answer so far.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bundle.networks.prompted_unet_3d import answer_so_far
from bundle.prompts.cube_maps import BALL, BOX, CUBE_MAPS, FLAT_BOX, OFF, ON, SLICE_MASK, SO_FAR
from bundle.prompts.translation import SCRIBBLE_POINTS
from bundle.training.batched.augmentation import BatchRandom
from bundle.training.batched.cube_augmentation import wide

DEEPEST = 12  # erosions that are told apart
# Shares of the starts: a box on a slice, the mask of a slice, a 3D box, a scribble, and points for the rest.
_FLAT, _MASK, _BOX, _SCRIBBLE = 0.3, 0.3, 0.2, 0.05
_POINTED = 0.2  # of the boxes on a slice, with a point in them
_TIGHT = 0.3  # of the boxes; others are larger by up to ...
_LOOSE_FLAT, _LOOSE = 0.08, 0.06  # ... this share of their longest side
_AREA = 1.5  # power of a slice's area by which it is prompted: mostly where much of the object is seen


def first_maps(masks: Tensor, random: BatchRandom, *, hollow_box: float = 0.0) -> Tensor:
    """How a user begins.

    Args:
        masks: (B, S, S, S) bool.
        random: draws it.
        hollow_box: share of the objects with something else in the middle of their box that are begun with a 3D box,
            beside those that are begun with one anyway.

    Returns:
        (B, 6, S, S, S) float32, see ``cube_maps.draw_on_cube``.
    """
    maps = torch.zeros(len(masks), CUBE_MAPS, *masks.shape[1:], device=masks.device)
    kind = random.uniform(0, 1)
    flat, mask, box = (kind < _FLAT), (kind >= _FLAT) & (kind < _FLAT + _MASK), kind >= _FLAT + _MASK
    box &= kind < _FLAT + _MASK + _BOX
    if hollow_box:  # draws no random numbers without it: earlier recipes see what they saw
        boxed = random.bernoulli(hollow_box) & has_hollow_middle(masks)
        kind = torch.where(boxed, _FLAT + _MASK, kind)
        flat, mask, box = flat & ~boxed, mask & ~boxed, box | boxed
    scribble = (kind >= _FLAT + _MASK + _BOX) & (kind < _FLAT + _MASK + _BOX + _SCRIBBLE)
    point = kind >= _FLAT + _MASK + _BOX + _SCRIBBLE
    slices = _some_slice(masks, random)
    maps[:, FLAT_BOX] = _box(masks & slices, _LOOSE_FLAT, random) * slices * _share(flat)
    maps[:, SLICE_MASK] = torch.where(slices, torch.where(masks, 1.0, -1.0), 0.0) * _share(mask)
    maps[:, BOX] = _box(masks, _LOOSE, random) * _share(box)
    middle = deepest_cells(masks, random)
    pointed = point | (flat & random.bernoulli(_POINTED))
    maps[:, ON] = torch.maximum(
        balls(middle, masks.shape[-1]) * _share(pointed), _stroke(masks, middle, random) * _share(scribble)
    )
    return maps


@torch.no_grad()
def corrected(maps: Tensor, logits: Tensor, masks: Tensor, random: BatchRandom) -> Tensor:
    """The maps with a click in the deepest error of an answer, and the answer itself.

    Args:
        maps: (B, 6, S, S, S) of the prompts so far.
        logits: (B, 1, S, S, S) of the answer to them.
        masks: (B, S, S, S) bool.
        random: draws it.
    """
    answer = logits[:, 0] > 0
    missed, wrong = masks & ~answer, answer & ~masks
    more = missed.flatten(1).sum(dim=1) > wrong.flatten(1).sum(dim=1)
    error = torch.where(more.view(-1, 1, 1, 1), missed, wrong)
    click = balls(deepest_cells(error, random, slack=0.0), masks.shape[-1]) * _share(error.flatten(1).any(dim=1))
    maps = maps.clone()
    maps[:, ON] = torch.maximum(maps[:, ON], click * _share(more))
    maps[:, OFF] = torch.maximum(maps[:, OFF], click * _share(~more))
    maps[:, SO_FAR] = answer_so_far(logits[:, 0])
    return maps


def deepest_cells(masks: Tensor, random: BatchRandom, *, slack: float = 0.6) -> Tensor:
    """(B, 3) a deep cell of each mask; any cell of an empty one.

    Args:
        masks: (B, S, S, S) bool.
        random: breaks ties.
        slack: the depth of a cell counts down to this share less, at random.
    """
    size = masks.shape[-1]
    noise = random.uniform(0, 1, *masks.shape[1:])
    scores = torch.where(masks, depths(masks) * (1 - slack * noise) + 0.01 * noise, -1.0)
    place = scores.flatten(1).argmax(dim=1)
    return torch.stack([place // size**2, place // size % size, place % size], dim=1)


def depths(masks: Tensor) -> Tensor:
    """(B, S, S, S) uint8: how many erosions by 3 x 3 x 3 cells each cell survives, at most ``DEEPEST``; 0 outside.

    A face of the cube is no edge of the object: it may go on beyond.
    """
    depth, left = torch.zeros_like(masks, dtype=torch.uint8), masks
    for _ in range(DEEPEST):
        depth += left
        left = shrunk(left)
    return depth


def shrunk(masks: Tensor) -> Tensor:
    """(B, S, S, S) bool eroded by 3 x 3 x 3 cells, axis by axis, in a tenth of the time of a pooling."""
    for axis in (1, 2, 3):
        last = masks.shape[axis] - 1
        less = masks.clone()
        less.narrow(axis, 1, last).logical_and_(masks.narrow(axis, 0, last))
        less.narrow(axis, 0, last).logical_and_(masks.narrow(axis, 1, last))
        masks = less
    return masks


def balls(centres: Tensor, size: int) -> Tensor:
    """(B, S, S, S) float32, 1 in the ball that a click is drawn as around each of (B, 3) cells."""
    places = torch.arange(size, device=centres.device)
    squares = (places - centres[..., None].float()).square()  # (B, 3, S)
    away = squares[:, 0, :, None, None] + squares[:, 1, None, :, None] + squares[:, 2, None, None]
    return (away < BALL**2).float()


def bounds(masks: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3) lowest and highest cell of each mask; of an empty one beyond the cube."""
    size, ends = masks.shape[-1], []
    places = torch.arange(size, device=masks.device, dtype=torch.float32)
    for axis in (1, 2, 3):
        filled = masks.movedim(axis, 1).flatten(2).any(dim=2)
        low = torch.where(filled, places, float(size)).amin(dim=1)
        ends.append((low, torch.where(filled, places, -1.0).amax(dim=1)))
    return torch.stack([low for low, _ in ends], dim=1), torch.stack([high for _, high in ends], dim=1)


def has_hollow_middle(masks: Tensor) -> Tensor:
    """(B,) bool: whether something else lies in the middle of the box around each mask; of an empty one too."""
    low, high = bounds(masks)
    middle = ((low + high) / 2).long().clamp(0, masks.shape[-1] - 1)
    return ~masks[(torch.arange(len(masks), device=masks.device), *middle.unbind(dim=1))]


def _some_slice(masks: Tensor, random: BatchRandom) -> Tensor:
    """(B, S, S, S) bool: one slice that shows each object, mostly across the first axis."""
    draw = random.uniform(0, 1)
    axes = torch.where(draw < 0.6, 0, torch.where(draw < 0.8, 1, 2))
    chosen, found = random.uniform(0, 1), torch.zeros_like(masks)
    for axis in range(3):
        areas = masks.movedim(axis + 1, 1).flatten(2).sum(dim=2).double() ** _AREA + 1e-9
        along = areas.cumsum(dim=1)
        place = torch.searchsorted(along, (chosen.double() * along[:, -1])[:, None]).clamp(max=masks.shape[-1] - 1)
        slices = torch.zeros(areas.shape, dtype=torch.bool, device=masks.device).scatter_(1, place, True)
        shape = [len(masks), 1, 1, 1]
        shape[axis + 1] = masks.shape[-1]
        found |= slices.view(shape) & (axes == axis).view(-1, 1, 1, 1)
    return found


def _box(masks: Tensor, loose: float, random: BatchRandom) -> Tensor:
    """(B, S, S, S) float32, 1 in a box around each mask, tight or a little larger."""
    low, high = bounds(masks)
    most = torch.where(random.bernoulli(_TIGHT), 0.0, random.uniform(0, loose))[:, None]
    most = most * (high - low + 1).amax(dim=1, keepdim=True)
    low, high = low - most * random.uniform(0, 1, 3), high + most * random.uniform(0, 1, 3)
    places = torch.arange(masks.shape[-1], device=masks.device)
    inside = (places >= low[..., None] - 0.5) & (places <= high[..., None] + 0.5)  # (B, 3, S)
    return (inside[:, 0, :, None, None] & inside[:, 1, None, :, None] & inside[:, 2, None, None]).float()


def _stroke(masks: Tensor, begin: Tensor, random: BatchRandom) -> Tensor:
    """(B, S, S, S) float32: clicks along a line from a deep cell to another of the object, where they hit it."""
    end = deepest_cells(masks, random, slack=1.0)
    found = torch.zeros(masks.shape, device=masks.device)
    for share in torch.linspace(0, 1, SCRIBBLE_POINTS):
        cell = (begin + share.item() * (end - begin)).round().long()
        hit = masks[(torch.arange(len(masks), device=masks.device), *cell.unbind(dim=1))]
        found = torch.maximum(found, balls(cell, masks.shape[-1]) * _share(hit))
    return found


def _share(chosen: Tensor) -> Tensor:
    """(B,) bool to (B, 1, 1, 1) float."""
    return wide(chosen.float())[:, 0]
