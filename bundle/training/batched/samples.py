"""Whole batches drawn from flat tensors where the network trains; each is a pure function of its draw number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bundle import _moved
from bundle.errors import TrainingError
from bundle.training.batched.augmentation import (
    AugmentationRates,
    BatchRandom,
    apply_views,
    guess_hounsfield,
    randomize_intensity,
    randomize_views,
    simulate_scanner,
    smooth,
)
from bundle.training.batched.colors import jitter_colors
from bundle.training.batched.geometry import corners, pixel_centres, quarter_turned, sign, turned
from bundle.training.batched.slices import SliceTensors
from bundle.training.batched.whole_batch import WholeBatch
from bundle.transforms.contract import Contract

_SAMPLES = 0  # random numbers of samples; those of prompts have another number
_HALF_FROM = 1.5  # pixels of the slice in one of the square from which the copy of half the size is shown
_HAND_PRECISION_SIDE = 256  # a hand's precision is counted as if the longer side of the slice had so many pixels
_WHOLE_SCALE, _WINDOW_SCALE = (0.8, 1.2), (1.5, 3.0)  # side that is side_shown, of the slice's or of the box's


@dataclass
class ObjectBatch(WholeBatch):
    """Images with one object each; a ``Batch``.

    Attributes:
        images: (B, 3, S, S) float32 network input.
        masks: (B, S, S) bool.
        boxed: (B,) bool, whether the object is asked for with a box; the others with a point.
        usable: (B,) bool; false where a change pushed the object out of the picture.
        box_error: (B,) float, by how many pixels of the square a hand may miss the object's sides with a box.
        draws: (1,) long, the draw number.
        step: number of the training step, from 1; the trainer sets it.
    """

    images: Tensor
    masks: Tensor
    boxed: Tensor
    usable: Tensor
    box_error: Tensor
    draws: Tensor
    step: int = 0


@dataclass(frozen=True)
class _SamplingGrid:
    """Where the pixels of the samples of a batch lie in their slices.

    Attributes:
        x, y: (B, S, S) pixels of the slice.
        outside: (B, S, S) bool, what is padding.
        coarse: (B,) bool, whether the slice is shown at half of its size.
        box_error: as ``ObjectBatch`` has it.
    """

    x: Tensor
    y: Tensor
    outside: Tensor
    coarse: Tensor
    box_error: Tensor


class BatchedSamples(Dataset):
    """Batches drawn from slices in flat tensors.

    Box-prompted objects are cropped as ``Contract.placement`` does around a box, and so is a share of the
    point-prompted ones; the others show the whole slice.

    Args:
        tensors: what is drawn from.
        contract: of the family; it must zoom, and show the longest side of square pixels in mm.
        batch_size: B.
        device: where batches are made.
        seed: with the draw number it decides everything that is random in a batch.
        box_share: share of the objects that are prompted with a box, the others with a point.
        point_window_share: share of the point-prompted objects that are side_shown in a window.
        quarter_share: share of the samples that are turned by a quarter, a half or three quarters of a turn: a volume
            in another direction is seen so. Mirrored are half of them anyway.
        jitter: by how many 256ths of the slice's longer side a box may miss the object: a hand is as precise with small
            objects as with large ones.
        rates: fields of ``AugmentationRates`` that differ from its own values.
        min_pixels: smaller objects in the square are not used.
        compiled: compile the widest of the changes (torch.compile), which pays on a GPU.

    Raises:
        TrainingError: if the contract is another one.
    """

    def __init__(
        self,
        tensors: SliceTensors,
        contract: Contract,
        *,
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
        box_share: float = 0.5,
        point_window_share: float = 0.45,
        quarter_share: float = 0.0,
        jitter: float = 6.0,
        rates: Mapping[str, Any] | None = None,
        min_pixels: int = 16,
        compiled: bool = False,
    ) -> None:
        if contract.zoom is None or contract.resize != "longest" or contract.aspect != "physical":
            raise TrainingError(
                "batched training needs a contract with a zoom, resize 'longest' and aspect 'physical', got "
                f"zoom {contract.zoom}, resize {contract.resize!r}, aspect {contract.aspect!r}; take a recipe without "
                "recipes/shipped"
            )
        self.device, self.contract, self.tensors = torch.device(device), contract, tensors.to(device)
        self.batch_size, self.seed, self.min_pixels = batch_size, seed, min_pixels
        self.jitter, self.quarter_share = jitter, quarter_share
        self.box_share, self.point_window_share, self.rates = (
            box_share,
            point_window_share,
            AugmentationRates(**(rates or {})),
        )
        self.apply_views, self.smooth = (
            torch.compile(f, dynamic=False) if compiled else f for f in (apply_views, smooth)
        )
        self.odds = self.tensors.object_weight.cumsum(0)
        self.in_color = bool((tensors.channels > 1).any())  # grey material draws no number for colours
        self.mean = torch.tensor(contract.mean, device=self.device).view(1, 3, 1, 1)
        self.std = torch.tensor(contract.std, device=self.device).view(1, 3, 1, 1)
        ct = contract.intensity(np.zeros((1, 1)), "CT")
        ct = ct if len(ct) == 3 else ct * 3
        self.ct_views = torch.tensor([(grid.low, grid.high) for grid in ct], device=self.device)

    def __len__(self) -> int:
        return len(self.tensors)

    def __getitem__(self, draw: int) -> ObjectBatch:
        """The batch of a draw number; its first samples are those that a box asks for."""
        random = BatchRandom.from_key(self.device, self.batch_size, self.seed, int(draw), _SAMPLES)
        boxed = torch.arange(self.batch_size, device=self.device) < round(self.box_share * self.batch_size)
        objects = self._draw_objects(random)
        slices = self.tensors.object_slice[objects]
        grid = self._sampling_grid(objects, slices, boxed | random.bernoulli(self.point_window_share), random)
        labels = self._labels(slices, grid)
        masks = self._masks(objects, slices, grid)
        images = simulate_scanner(self._images(slices, grid, labels, random), self.rates, random, blur=self.smooth)
        images = torch.where(grid.outside[:, None], 0.0, (255 * images - self.mean) / self.std)
        usable = masks.flatten(1).sum(dim=1) >= self.min_pixels
        return ObjectBatch(images, masks, boxed, usable, grid.box_error, torch.tensor([int(draw)]))

    def _draw_objects(self, random: BatchRandom) -> Tensor:
        drawn = torch.rand(self.batch_size, generator=random.generator, device=self.device, dtype=torch.float64)
        return torch.searchsorted(self.odds, drawn * self.odds[-1]).clamp(max=len(self.odds) - 1)

    # --- where a sample lies in its slice ----------------------------------------------------------------------------

    def _sampling_grid(self, objects: Tensor, slices: Tensor, zoomed: Tensor, random: BatchRandom) -> _SamplingGrid:
        size, zoom = self.contract.size, self.contract.zoom
        spacing = self.tensors.spacing[slices].flip(1)  # (x, y)
        pixel = spacing / spacing.amin(dim=1, keepdim=True)  # lengths are in units of the pixel's shorter side
        extent = self.tensors.levels[slices, 0][:, [2, 1]] * pixel
        longest = extent.amax(dim=1)
        box = self.tensors.object_box[objects]
        middle = (box[:, :2] + box[:, 2:] + 1) / 2 * pixel
        half = (box[:, 2:] - box[:, :2] + 1) / 2 * pixel
        most = self.rates.rotation_range
        turn = torch.where(random.bernoulli(self.rates.rotation), random.uniform(-most, most), 0.0)
        reach = turned(half, turn)
        side = 2 * reach.amax(dim=1)
        box_error = random.uniform(0, self.jitter) / _HAND_PRECISION_SIDE * longest
        whole = ~zoomed | ((1 + 2 * zoom.margin) * (side + box_error) >= zoom.whole * longest)
        side_shown = torch.maximum(
            (side + box_error) * random.log_uniform(*_WINDOW_SCALE), zoom.smallest * pixel.amax(dim=1)
        )
        side_shown = torch.where(whole, longest * random.log_uniform(*_WHOLE_SCALE), torch.minimum(side_shown, longest))
        centre = self._centre(whole, side_shown, extent, middle, reach, random)
        x, y = self._coordinates(side_shown, centre, turn, random)
        padded = random.bernoulli(0.5).view(-1, 1, 1)
        wide, high = extent[:, 0].view(-1, 1, 1), extent[:, 1].view(-1, 1, 1)
        outside = padded & ((x < 0) | (y < 0) | (x > wide) | (y > high))
        coarse = side_shown / size / pixel.amax(dim=1) > _HALF_FROM
        x, y = (part / pixel[:, axis].view(-1, 1, 1) - 0.5 for axis, part in enumerate((x, y)))
        if self.quarter_share:
            quarters = random.uniform(1, 4).long().clamp(max=3) * random.bernoulli(self.quarter_share)
            x, y, outside = (quarter_turned(part, quarters) for part in (x, y, outside))
        return _SamplingGrid(x, y, outside, coarse, box_error / side_shown * size)

    def _coordinates(
        self, side_shown: Tensor, centre: Tensor, turn: Tensor, random: BatchRandom
    ) -> tuple[Tensor, Tensor]:
        """(B, S, S) x and y of the square's pixels in the slice: bent, mirrored, sheared, turned, around a centre."""
        size = self.contract.size
        x, y = ((part - 0.5) * side_shown.view(-1, 1, 1) for part in pixel_centres(size, self.device))
        rates = self.rates
        bend = torch.where(random.bernoulli(rates.bend), random.uniform(0, rates.bend_range), 0.0) * side_shown
        bends = random.field(2, 5, size) * bend.view(-1, 1, 1, 1)
        x, y = (x + bends[:, 0]) * sign(random, 0.5), (y + bends[:, 1]) * sign(random, 0.3)
        x = x + random.uniform(-rates.shear_range, rates.shear_range, 1, 1) * y
        cos, sin = turn.cos().view(-1, 1, 1), turn.sin().view(-1, 1, 1)
        right, down = (centre[:, axis].view(-1, 1, 1) for axis in (0, 1))
        return cos * x - sin * y + right, sin * x + cos * y + down

    def _centre(
        self, whole: Tensor, side_shown: Tensor, extent: Tensor, middle: Tensor, half: Tensor, random: BatchRandom
    ) -> Tensor:
        """(B, 2) the middle of what is shown: a whole slice with its padding, or near the object but in the slice."""
        room = side_shown[:, None] / 2
        window = middle + random.uniform(-0.25, 0.25, 2) * 2 * half
        window = torch.where(
            side_shown[:, None] < extent, window.clamp(min=room, max=torch.maximum(extent - room, room)), extent / 2
        )
        everything = extent.amax(dim=1, keepdim=True) / 2 + random.uniform(-0.08, 0.08, 2) * side_shown[:, None]
        slack = (room - half).clamp(min=0)  # the object stays in sight
        everything = torch.minimum(torch.maximum(everything, middle - slack), middle + slack)
        return torch.where(whole[:, None], everything, window)

    # --- labels and intensities there --------------------------------------------------------------------------------

    def _labels(self, slices: Tensor, grid: _SamplingGrid) -> Tensor:
        """(B, S, S) label values; 0 in the padding."""
        height, width = (self.tensors.levels[slices, 0, k].view(-1, 1, 1) for k in (1, 2))
        column = grid.x.round().long().clamp(min=0).minimum(width - 1)
        row = grid.y.round().long().clamp(min=0).minimum(height - 1)
        place = self.tensors.label_offsets[slices].view(-1, 1, 1) + row * width + column
        return torch.where(grid.outside, 0, self.tensors.labels[place].long())

    def _masks(self, objects: Tensor, slices: Tensor, grid: _SamplingGrid) -> Tensor:
        """(B, S, S) bool: where the object, interpolated, is more than half. A magnified pixel gets no corners."""
        _, height, width = (self.tensors.levels[slices, 0, k].view(-1, 1, 1) for k in range(3))
        indices, weights = corners(grid.x, grid.y, height, width)
        found = self.tensors.labels[self.tensors.label_offsets[slices].view(-1, 1, 1, 1) + indices]
        share = ((found == self.tensors.object_label[objects].view(-1, 1, 1, 1)) * weights).sum(dim=1)
        return (share > 0.5) & ~grid.outside

    def _images(self, slices: Tensor, grid: _SamplingGrid, labels: Tensor, random: BatchRandom) -> Tensor:
        """(B, 3, S, S) the three views in 0..1, some with random intensities."""
        tensors = self.tensors
        levels = tensors.levels[slices]
        level = torch.where(grid.coarse[:, None], levels[:, 1], levels[:, 0])
        offset, height, width = (level[:, k].view(-1, 1, 1) for k in range(3))
        scale = [(level[:, k] / levels[:, 0, k]).view(-1, 1, 1) for k in (2, 1)]
        x, y = (grid.x + 0.5) * scale[0] - 0.5, (grid.y + 0.5) * scale[1] - 0.5
        indices, weights = corners(x, y, height, width)
        back = (tensors.peak[slices] > 0) & random.bernoulli(self.rates.hounsfield)
        guess = guess_hounsfield(tensors.peak[slices], random)
        quantiles = tensors.quantiles[slices]
        quantiles = torch.where(back[:, None], guess.black[:, None] + guess.slope[:, None] * quantiles, quantiles)
        views = torch.where(back.view(-1, 1, 1), self.ct_views, tensors.views[slices])
        views = randomize_views(views, quantiles, self.rates, random)
        grain = random.normal(*x.shape[1:])
        indices = indices + offset[:, None]
        colored = tensors.channels[slices] > 1
        planes = torch.where(colored, level[:, 1] * level[:, 2], 0) if self.in_color else None
        images = self.apply_views(tensors.pixels, tensors.kinds, indices, weights, guess, back, grain, views, planes)
        if self.in_color:
            images = jitter_colors(images, colored, self.rates, random)
        return randomize_intensity(images, labels, tensors.has_image[slices], self.rates, random)


__getattr__ = _moved.renamed(__name__)  # former names
