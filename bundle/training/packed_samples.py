"""Whole batches drawn from packed slices on the device that trains; each is a pure function of its draw number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bundle.errors import TrainingError
from bundle.training.packed_looks import (
    BatchRandom,
    Shares,
    guess_hounsfield,
    recoloured,
    scanned,
    shown,
    smooth,
    varied_views,
)
from bundle.training.packed_slices import PackedSlices
from bundle.transforms.contract import MODALITIES, Contract

_SAMPLES = 0  # random numbers of samples; those of prompts have another number
_HALF_FROM = 1.5  # pixels of the slice in one of the square from which the copy of half the size is shown
_HAND = 256  # a hand's precision is counted as if the longer side of the slice had so many pixels
_WHOLE_SCALE, _WINDOW_SCALE = (0.8, 1.2), (1.5, 3.0)  # side that is shown, of the slice's or of the box's


@dataclass
class PackedBatch:
    """Images with one object each; the trainer treats it as a ``SampleBatch``.

    Attributes:
        images: (B, 3, S, S) float32 network input.
        masks: (B, S, S) bool.
        boxed: (B,) bool, whether the object is asked for with a box; the others with a point.
        usable: (B,) bool; false where a change pushed the object out of the picture.
        reach: (B,) float, by how many pixels of the square a hand may miss the object's sides with a box.
        draws: (1,) long, the draw number.
        step: number of the training step, from 1; the trainer sets it.
    """

    images: Tensor
    masks: Tensor
    boxed: Tensor
    usable: Tensor
    reach: Tensor
    draws: Tensor
    step: int = 0

    def to(self, device: torch.device | str) -> PackedBatch:
        """The batch on another device; the draw number stays where it can be read without waiting."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name not in ("draws", "step")}
        return replace(self, **moved)

    def split(self, parts: int) -> list[PackedBatch]:
        """The batch in pieces.

        Raises:
            TrainingError: for more than one: a packed batch that is too large is better drawn smaller.
        """
        if parts != 1:
            raise TrainingError(f"a packed batch is not divided, got accumulation {parts}; take 1 and a smaller batch")
        return [self]


@dataclass(frozen=True)
class _View:
    """Where the samples of a batch look.

    Attributes:
        x, y: (B, S, S) pixels of the slice.
        outside: (B, S, S) bool, what is padding.
        coarse: (B,) bool, whether the slice is shown at half of its size.
        reach: as ``PackedBatch`` has it.
    """

    x: Tensor
    y: Tensor
    outside: Tensor
    coarse: Tensor
    reach: Tensor


class PackedSamples(Dataset):
    """Batches of packed slices.

    The objects that a box asks for are shown in the window that the contract cuts around a box, or on the whole slice
    where the contract takes that; so is a part of those that a point asks for, and the others on the whole slice.

    Args:
        packed: what is drawn from.
        contract: of the family; it must zoom, and show the longest side of square pixels in mm.
        batch_size: B.
        device: where batches are made.
        seed: with the draw number it decides everything that is random in a batch.
        box_share: share of the objects that a box asks for.
        point_window_share: share of the others that are shown in a window.
        jitter: by how many 256ths of the slice's longer side a box may miss the object: a hand is as precise with small
            objects as with large ones.
        looks: fields of ``Shares`` that differ from its own values.
        min_pixels: smaller objects in the square are not used.
        compiled: compile the widest of the changes (torch.compile), which pays on a GPU.

    Raises:
        TrainingError: if the contract is another one.
    """

    def __init__(
        self,
        packed: PackedSlices,
        contract: Contract,
        *,
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
        box_share: float = 0.5,
        point_window_share: float = 0.45,
        jitter: float = 6.0,
        looks: Mapping[str, Any] | None = None,
        min_pixels: int = 16,
        compiled: bool = False,
    ) -> None:
        if contract.zoom is None or contract.resize != "longest" or contract.aspect != "physical":
            raise TrainingError("packed slices are shown to families that zoom and keep the aspect in mm; take another")
        self.device, self.contract, self.packed = torch.device(device), contract, packed.to(device)
        self.batch_size, self.seed, self.min_pixels = batch_size, seed, min_pixels
        self.jitter = jitter
        self.box_share, self.point_window_share, self.shares = box_share, point_window_share, Shares(**(looks or {}))
        self.shown, self.smooth = (torch.compile(f, dynamic=False) if compiled else f for f in (shown, smooth))
        self.odds = self.packed.object_weight.cumsum(0)
        self.mean = torch.tensor(contract.mean, device=self.device).view(1, 3, 1, 1)
        self.std = torch.tensor(contract.std, device=self.device).view(1, 3, 1, 1)
        ct = contract.intensity(np.zeros((1, 1)), "CT")
        ct = ct if len(ct) == 3 else ct * 3
        self.ct_views = torch.tensor([(view.low, view.high) for view in ct], device=self.device)

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, draw: int) -> PackedBatch:
        """The batch of a draw number; its first samples are those that a box asks for."""
        random = BatchRandom.of(self.device, self.batch_size, self.seed, int(draw), _SAMPLES)
        boxed = torch.arange(self.batch_size, device=self.device) < round(self.box_share * self.batch_size)
        objects = self._draw_objects(random)
        slices = self.packed.object_slice[objects]
        view = self._look(objects, slices, boxed | random.happens(self.point_window_share), random)
        labels = self._labels(slices, view)
        masks = self._masks(objects, slices, view)
        images = scanned(self._pictures(slices, view, labels, random), self.shares, random, blur=self.smooth)
        images = torch.where(view.outside[:, None], 0.0, (255 * images - self.mean) / self.std)
        usable = masks.flatten(1).sum(dim=1) >= self.min_pixels
        return PackedBatch(images, masks, boxed, usable, view.reach, torch.tensor([int(draw)]))

    def _draw_objects(self, random: BatchRandom) -> Tensor:
        drawn = torch.rand(self.batch_size, generator=random.generator, device=self.device, dtype=torch.float64)
        return torch.searchsorted(self.odds, drawn * self.odds[-1]).clamp(max=len(self.odds) - 1)

    # --- where a sample looks ----------------------------------------------------------------------------------------

    def _look(self, objects: Tensor, slices: Tensor, zoomed: Tensor, random: BatchRandom) -> _View:
        size, zoom = self.contract.size, self.contract.zoom
        spacing = self.packed.spacing[slices].flip(1)  # (x, y)
        pixel = spacing / spacing.amin(dim=1, keepdim=True)  # lengths are in units of the pixel's shorter side
        extent = self.packed.levels[slices, 0][:, [2, 1]] * pixel
        longest = extent.amax(dim=1)
        box = self.packed.object_box[objects]
        middle = (box[:, :2] + box[:, 2:] + 1) / 2 * pixel
        half = (box[:, 2:] - box[:, :2] + 1) / 2 * pixel
        turn = torch.where(random.happens(0.8), random.uniform(-0.4, 0.4), 0.0)
        turned = _turned(half, turn)
        side = 2 * turned.amax(dim=1)
        reach = random.uniform(0, self.jitter) / _HAND * longest
        whole = ~zoomed | ((1 + 2 * zoom.margin) * (side + reach) >= zoom.whole * longest)
        shown = torch.maximum((side + reach) * random.log_uniform(*_WINDOW_SCALE), zoom.smallest * pixel.amax(dim=1))
        shown = torch.where(whole, longest * random.log_uniform(*_WHOLE_SCALE), torch.minimum(shown, longest))
        centre = self._centre(whole, shown, extent, middle, turned, random)
        x, y = self._places(shown, centre, turn, random)
        padded = random.happens(0.5).view(-1, 1, 1)
        wide, high = extent[:, 0].view(-1, 1, 1), extent[:, 1].view(-1, 1, 1)
        outside = padded & ((x < 0) | (y < 0) | (x > wide) | (y > high))
        coarse = shown / size / pixel.amax(dim=1) > _HALF_FROM
        x, y = (part / pixel[:, axis].view(-1, 1, 1) - 0.5 for axis, part in enumerate((x, y)))
        return _View(x, y, outside, coarse, reach / shown * size)

    def _places(self, shown: Tensor, centre: Tensor, turn: Tensor, random: BatchRandom) -> tuple[Tensor, Tensor]:
        """(B, S, S) x and y of the square's pixels in the slice: bent, mirrored, sheared, turned, around a centre."""
        size = self.contract.size
        x, y = ((part - 0.5) * shown.view(-1, 1, 1) for part in _grid(size, self.device))
        bend = torch.where(random.happens(0.4), random.uniform(0, 0.025), 0.0) * shown
        bends = random.field(2, 5, size) * bend.view(-1, 1, 1, 1)
        x, y = (x + bends[:, 0]) * _sign(random, 0.5), (y + bends[:, 1]) * _sign(random, 0.3)
        x = x + random.uniform(-0.1, 0.1, 1, 1) * y
        cos, sin = turn.cos().view(-1, 1, 1), turn.sin().view(-1, 1, 1)
        right, down = (centre[:, axis].view(-1, 1, 1) for axis in (0, 1))
        return cos * x - sin * y + right, sin * x + cos * y + down

    def _centre(
        self, whole: Tensor, shown: Tensor, extent: Tensor, middle: Tensor, half: Tensor, random: BatchRandom
    ) -> Tensor:
        """(B, 2) the middle of what is shown: a whole slice with its padding, or near the object but in the slice."""
        room = shown[:, None] / 2
        window = middle + random.uniform(-0.25, 0.25, 2) * 2 * half
        window = torch.where(
            shown[:, None] < extent, window.clamp(min=room, max=torch.maximum(extent - room, room)), extent / 2
        )
        everything = extent.amax(dim=1, keepdim=True) / 2 + random.uniform(-0.08, 0.08, 2) * shown[:, None]
        reach = (room - half).clamp(min=0)  # the object stays in sight
        everything = torch.minimum(torch.maximum(everything, middle - reach), middle + reach)
        return torch.where(whole[:, None], everything, window)

    # --- what it sees there ------------------------------------------------------------------------------------------

    def _labels(self, slices: Tensor, view: _View) -> Tensor:
        """(B, S, S) label values; 0 in the padding."""
        height, width = (self.packed.levels[slices, 0, k].view(-1, 1, 1) for k in (1, 2))
        column = view.x.round().long().clamp(min=0).minimum(width - 1)
        row = view.y.round().long().clamp(min=0).minimum(height - 1)
        place = self.packed.label_offsets[slices].view(-1, 1, 1) + row * width + column
        return torch.where(view.outside, 0, self.packed.labels[place].long())

    def _masks(self, objects: Tensor, slices: Tensor, view: _View) -> Tensor:
        """(B, S, S) bool: where the object, interpolated, is more than half. A magnified pixel gets no corners."""
        _, height, width = (self.packed.levels[slices, 0, k].view(-1, 1, 1) for k in range(3))
        places, weights = _corners(view.x, view.y, height, width)
        found = self.packed.labels[self.packed.label_offsets[slices].view(-1, 1, 1, 1) + places]
        share = ((found == self.packed.object_label[objects].view(-1, 1, 1, 1)) * weights).sum(dim=1)
        return (share > 0.5) & ~view.outside

    def _pictures(self, slices: Tensor, view: _View, labels: Tensor, random: BatchRandom) -> Tensor:
        """(B, 3, S, S) the three views in 0..1, recoloured in part."""
        packed = self.packed
        levels = packed.levels[slices]
        level = torch.where(view.coarse[:, None], levels[:, 1], levels[:, 0])
        offset, height, width = (level[:, k].view(-1, 1, 1) for k in range(3))
        scale = [(level[:, k] / levels[:, 0, k]).view(-1, 1, 1) for k in (2, 1)]
        x, y = (view.x + 0.5) * scale[0] - 0.5, (view.y + 0.5) * scale[1] - 0.5
        places, weights = _corners(x, y, height, width)
        windowed = packed.modality[slices] == MODALITIES.index("windowed")
        back = windowed & packed.pictured[slices] & random.happens(self.shares.hounsfield)
        guess = guess_hounsfield(packed.peak[slices], random)
        quantiles = packed.quantiles[slices]
        quantiles = torch.where(back[:, None], guess.black[:, None] + guess.slope[:, None] * quantiles, quantiles)
        views = torch.where(back.view(-1, 1, 1), self.ct_views, packed.views[slices])
        views = varied_views(views, quantiles, self.shares, random)
        grain = random.normal(*x.shape[1:])
        places = places + offset[:, None]
        pictures = self.shown(packed.pixels, packed.kinds, places, weights, guess, back, grain, views)
        return recoloured(pictures, labels, packed.pictured[slices], self.shares, random)


def _corners(x: Tensor, y: Tensor, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """The four pixels around each place: (B, 4, S, S) indices into a slice, row by row, and bilinear weights.

    Args:
        x, y: (B, S, S) in pixels; places outside take the pixels of the edge.
        height, width: (B, 1, 1) of the slice.
    """
    left, top = x.floor(), y.floor()
    along, down = x - left, y - top
    places, weights = [], []
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column = (left.long() + dx).clamp(min=0).minimum(width - 1)
        row = (top.long() + dy).clamp(min=0).minimum(height - 1)
        places.append(row * width + column)
        weights.append((along if dx else 1 - along) * (down if dy else 1 - down))
    return torch.stack(places, dim=1), torch.stack(weights, dim=1)


def _turned(half: Tensor, turn: Tensor) -> Tensor:
    """(B, 2) half sides of the box around an ellipse that is turned."""
    cos, sin = turn.cos(), turn.sin()
    return torch.stack(
        [torch.hypot(half[:, 0] * cos, half[:, 1] * sin), torch.hypot(half[:, 0] * sin, half[:, 1] * cos)], 1
    )


def _grid(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(1, 1, S) x and (1, S, 1) y of the centres of the square's pixels, in shares of its side."""
    place = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    return place.view(1, 1, size), place.view(1, size, 1)


def _sign(random: BatchRandom, share: float) -> Tensor:
    """(B, 1, 1) -1 in this share of the samples, else 1."""
    return torch.where(random.happens(share), -1.0, 1.0).view(-1, 1, 1)
