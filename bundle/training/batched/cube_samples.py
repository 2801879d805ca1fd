"""Batches of cubes drawn from packed volumes and from drawn shapes, each a pure function of its draw number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from bundle.training.batched.augmentation import AugmentationRates, BatchRandom
from bundle.training.batched.cube_augmentation import field, paint, recolour, show, simulate_scanner, smooth, wide
from bundle.training.batched.cube_user import shrunk
from bundle.training.batched.cubes import SIDE, CubeTensors
from bundle.training.batched.whole_batch import WholeBatch

_SAMPLES = 0  # random numbers of samples; those of prompts have another number
_CT_VIEWS = ((-500.0, 1000.0), (-160.0, 240.0), (-1024.0, 300.0))  # of the contract of default_3d
_OTHER_VIEWS = ((-1000.0, 1000.0),) * 3  # between these their percentiles are packed
_SIDES = (1.25, 3.2)  # of a cube, in longest sides of the object
_PART_SIDES = (1.5, 1.25)  # of a cube that shows a part: from so many thicknesses to so many longest sides
_PART_OFF = 0.2  # of its side, how far a cell of the object lies from its middle
_LEAST_SIDE, _LARGEST_SIDE = 12.0, 150.0  # cells of the packed volume
_USABLE = 64  # cells: of less of an object nothing is learned
_CELLS = 10  # of a drawn tiling, and its blobs, rim and object beside them
_BLOBS, _RIM, _OBJECT = _CELLS + 2, _CELLS + 3, _CELLS + 4
_CURVE = 32  # points of a drawn tube
# Of cubes; what slices know besides (HU guessed, colour, metal, shear) changes nothing here.
_RATES = AugmentationRates(
    random_window=0.25,
    rotation=0.7,
    blur_range=(0.4, 1.6),
    noise_range=0.07,
    rotation_range=0.35,
    stretch_range=(0.85, 1.18),
    bend_range=0.03,
)


@dataclass
class CubeBatch(WholeBatch):
    """Cubes with one object each; a ``Batch``.

    Attributes:
        images: (B, 3, S, S, S) float32 network input, -1..1.
        masks: (B, S, S, S) bool.
        usable: (B,) bool; false where too little of the object is left.
        draws: (1,) long, the draw number.
        step: number of the training step, from 1; the trainer sets it.
    """

    images: Tensor
    masks: Tensor
    usable: Tensor
    draws: Tensor
    step: int = 0


class CubeSamples(Dataset):
    """Batches of windows of packed volumes, turned, bent and seen by other scanners, and of drawn shapes.

    Args:
        tensors: the packed volumes.
        size: S, cells along a side of a sample.
        batch_size: B.
        device: where batches are made.
        seed: with the draw number it decides everything that is random in a batch.
        shares: of labelled objects, grey regions and phantoms among those that are not drawn.
        groups: share of each group among the labelled ones.
        shape_share: share of the batch that is drawn shapes.
        part_share: share of the others that show a part of an object as it is seen around one of its slices: of a long
            one what the next cubes along it show, of a compact one nearly the whole.
        hollow: how many times as often objects are drawn that have something else in the middle of their box.
        bowl_share: of the drawn blobs, the share that are bowls around something else.
        rates: fields of ``AugmentationRates`` that differ from those for cubes.
    """

    def __init__(
        self,
        tensors: CubeTensors,
        *,
        size: int = 96,
        batch_size: int = 24,
        device: torch.device | str = "cpu",
        seed: int = 0,
        shares: Sequence[float] = (0.55, 0.25, 0.2),
        groups: Mapping[str, float] | None = None,
        shape_share: float = 0.375,
        part_share: float = 0.0,
        hollow: float = 1.0,
        bowl_share: float = 0.0,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.tensors, self.size, self.batch_size, self.seed = tensors.to(self.device), size, batch_size, seed
        self.shapes, self.part_share, self.bowl_share = round(batch_size * shape_share), part_share, bowl_share
        self.rates = replace(_RATES, **(rates or {}))
        weights = tensors.weights(shares, dict(groups or {}), hollow=hollow)
        self._weights = weights.cumsum(0).to(self.device)
        places = (torch.arange(size, device=self.device) + 0.5) / size - 0.5
        self._grid = torch.stack(torch.meshgrid(places, places, places, indexing="ij"))  # (3, S, S, S) in -0.5..0.5

    def __len__(self) -> int:
        return len(self.tensors)

    @torch.no_grad()
    def __getitem__(self, draw: int) -> CubeBatch:
        """The batch of a draw number."""
        key = self.seed, int(draw), _SAMPLES
        random = [BatchRandom.from_key(self.device, count, *key, part) for part, count in enumerate(self._counts)]
        real, shapes = self._real(random[0]), self._shapes(random[1])
        images, masks = (torch.cat(parts) for parts in zip(real, shapes, strict=True))
        images = simulate_scanner(images, self.rates, random[2])
        usable = masks.flatten(1).sum(dim=1) >= _USABLE
        return CubeBatch(images * 2 - 1, masks[:, 0], usable, torch.tensor([int(draw)]))

    @property
    def _counts(self) -> tuple[int, int, int]:
        return self.batch_size - self.shapes, self.shapes, self.batch_size

    def _real(self, random: BatchRandom) -> tuple[Tensor, Tensor]:
        """Windows around objects of the packed volumes: images (B, 3, S, S, S) in 0..1, masks (B, 1, S, S, S)."""
        tensors, count = self.tensors, random.count
        drawn = torch.searchsorted(self._weights, random.uniform(0, 1).double()).clamp(max=len(tensors) - 1)
        objects = tensors.objects[drawn]
        centre, side = self._windows(drawn, random)
        rates = self.rates
        turned = rotations(random, largest=rates.rotation_range, share=rates.rotation)
        turned = turned * random.log_uniform(*rates.stretch_range, 1, 3)
        places = torch.einsum("nij,jdhw->nidhw", turned, self._grid) * wide(side)
        bend = torch.where(random.bernoulli(rates.bend), random.uniform(0, rates.bend_range), 0.0)
        places = places + field(random, 3, 4, self.size) * wide(bend * side) + centre.view(count, 3, 1, 1, 1)
        grid = ((2 * places + 1) / SIDE - 1).permute(0, 2, 3, 4, 1).flip(-1)
        values, masks, labels = [], [], []
        for number, (volume, place, value, *_) in enumerate(objects.tolist()):
            here, whole = grid[number : number + 1], tensors.labels[volume]
            source = whole if place < 0 else tensors.regions[place]
            values.append(_sampled(tensors.images[volume], here, padding_mode="border"))
            masks.append(_sampled(source == value, here) > 0.5)
            labels.append(_sampled(whole, here, mode="nearest"))
        ct = tensors.ct[objects[:, 0]].view(-1, 1, 1)
        views = torch.where(ct, *(torch.tensor(v, device=self.device) for v in (_CT_VIEWS, _OTHER_VIEWS)))
        images = show(torch.cat(values), views, self.rates, random)
        return recolour(images, torch.cat(labels), self.rates, random), torch.cat(masks)

    def _windows(self, drawn: Tensor, random: BatchRandom) -> tuple[Tensor, Tensor]:
        """Middle (B, 3) and side (B,) in cells of the cubes around the drawn objects."""
        objects = self.tensors.objects[drawn]
        low, high = objects[:, 3:6].float(), objects[:, 6:9].float()
        longest = (high - low + 1).amax(dim=1)
        side = longest * random.log_uniform(*_SIDES)
        centre = (low + high) / 2 + random.uniform(-0.25, 0.25, 3) * (side - longest).clamp(min=0)[:, None]
        part = random.bernoulli(self.part_share)
        least = _PART_SIDES[0] * (self.tensors.sizes[drawn] / longest).sqrt()  # of a tube 1.5 times its thickness
        most = torch.maximum(_PART_SIDES[1] * longest, least)
        part_side = least * (most / least) ** random.uniform(0, 1)
        count = self.tensors.cells.shape[1]
        some = (random.uniform(0, 1) * count).long().clamp(max=count - 1)
        cell = self.tensors.cells[drawn, some].float()
        cell = cell + random.uniform(-_PART_OFF, _PART_OFF, 3) * part_side[:, None]
        side = torch.where(part, part_side, side).clamp(_LEAST_SIDE, _LARGEST_SIDE)
        return torch.where(part[:, None], cell, centre), side

    def _shapes(self, random: BatchRandom) -> tuple[Tensor, Tensor]:
        """A blob, a bowl or a tube among cells of random shades, some with a rim; as ``_real`` gives them."""
        if not random.count:
            return torch.zeros(0, 3, *(self.size,) * 3, device=self.device), torch.zeros(
                0, 1, *(self.size,) * 3, dtype=torch.bool, device=self.device
            )
        cells = torch.cat([field(random, 1, 3 + number, self.size) for number in range(_CELLS)], dim=1)
        labels = cells.argmax(dim=1, keepdim=True) + 1
        masks = torch.where(wide(random.bernoulli(0.7)), self._blob(random), self._tube(random))
        labels = torch.where(field(random, 1, 6, self.size) > 1.1, _BLOBS, labels)
        around = ~shrunk(shrunk(~masks[:, 0]))[:, None]
        labels = torch.where(around & ~masks & wide(random.bernoulli(0.25)), _RIM, labels)
        few = wide(random.bernoulli(0.5))
        labels = torch.where(few, (labels - 1) // 4 + 1, labels)
        labels = torch.where(masks, _OBJECT, labels)
        grey = paint(torch.zeros_like(masks, dtype=torch.float32), labels, 1.0, random)
        grey = smooth(grey, random.uniform(0.4, 1.1))
        return grey.expand(-1, 3, -1, -1, -1), masks

    def _blob(self, random: BatchRandom) -> Tensor:
        """An ellipsoid with a wavy surface."""
        turned = torch.einsum("nij,jdhw->nidhw", rotations(random, largest=math.pi), self._grid)
        away = turned - random.uniform(-0.12, 0.12, 3).view(-1, 3, 1, 1, 1)
        radii = random.log_uniform(0.1, 0.4)[:, None] * random.log_uniform(0.45, 1, 3)
        waves = wide(random.uniform(0, 0.35)) * field(random, 1, 5, self.size)
        places = away / radii.view(-1, 3, 1, 1, 1)
        blob = places.square().sum(dim=1, keepdim=True).sqrt() - 1 + waves < 0
        if not self.bowl_share:  # draws no random numbers: recipes without bowls see what they saw
            return blob
        return blob & ~(self._inside(places, random) & wide(random.bernoulli(self.bowl_share)))

    def _inside(self, places: Tensor, random: BatchRandom) -> Tensor:
        """What a bowl encloses: a smaller ball of the blob's own radii, moved to a side, where the bowl is open."""
        side = F.normalize(random.uniform(-1, 1, 3), dim=1) * random.uniform(0, 0.6)[:, None]
        away = (places - side.view(-1, 3, 1, 1, 1)).square().sum(dim=1, keepdim=True).sqrt()
        return away < wide(random.uniform(0.5, 0.85))

    def _tube(self, random: BatchRandom) -> Tensor:
        """What lies near to a curve."""
        along = torch.linspace(-1, 1, _CURVE, device=self.device)
        powers = torch.stack([along, along**2, along**3, torch.sin(3 * along)])
        curve = torch.einsum("nck,kt->nct", random.uniform(-0.22, 0.22, 3, 4), powers)
        curve = curve - curve.mean(dim=2, keepdim=True)
        coarse = self._grid[:, ::2, ::2, ::2]
        away = torch.full((random.count, *coarse.shape[1:]), 9.0, device=self.device)
        for place in range(_CURVE):
            here = curve[:, :, place].view(-1, 3, 1, 1, 1)
            away = torch.minimum(away, (coarse - here).square().sum(dim=1))
        away = F.interpolate(away.sqrt()[:, None], (self.size,) * 3, mode="trilinear", align_corners=False)
        return away + 0.008 * field(random, 1, 5, self.size) < wide(random.log_uniform(0.025, 0.09))


def rotations(random: BatchRandom, *, largest: float, share: float = 0.7) -> Tensor:
    """(B, 3, 3): swaps and flips, and in a share of the samples turns about the axes by up to ``largest`` radians."""
    angles = random.uniform(-largest, largest, 3) * random.bernoulli(share)[:, None]
    cos, sin = angles.cos(), angles.sin()
    turn = torch.eye(3, device=angles.device).expand(random.count, 3, 3)
    for axis, (first, second) in enumerate(((1, 2), (2, 0), (0, 1))):
        about = torch.eye(3, device=angles.device).repeat(random.count, 1, 1)
        about[:, first, first] = about[:, second, second] = cos[:, axis]
        about[:, first, second], about[:, second, first] = -sin[:, axis], sin[:, axis]
        turn = turn @ about
    order = random.uniform(0, 1, 3).argsort(dim=1)
    swapped = torch.eye(3, device=angles.device)[order]
    return turn @ (swapped * torch.where(random.uniform(0, 1, 3) < 0.5, -1.0, 1.0)[:, None])


def _sampled(volume: Tensor, grid: Tensor, **options: str) -> Tensor:
    """(1, 1, S, S, S) float32 of a (C, C, C) volume."""
    return F.grid_sample(volume[None, None].float(), grid, align_corners=False, **options)
