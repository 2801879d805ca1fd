"""Training samples as a pure function of a draw number, so that an interrupted run goes on with the same data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from bundle.data.hounsfield import estimate_hounsfield
from bundle.data.pool import LabelledSlice
from bundle.transforms.contract import Contract, View


@dataclass
class SampleBatch:
    """Images with the objects to segment in them.

    Attributes:
        images: (B, 3, S, S) float32 network input.
        masks: (N, S, S) bool, one object each.
        image_index: (N,) long, the image that each object is in.
        draws: (B,) long, the draw numbers, from which simulated prompts take their seed.
    """

    images: Tensor
    masks: Tensor
    image_index: Tensor
    draws: Tensor

    def to(self, device: torch.device | str) -> SampleBatch:
        """The batch on another device."""
        return SampleBatch(*(getattr(self, name).to(device) for name in ("images", "masks", "image_index", "draws")))


class DrawnSamples(Dataset):
    """Samples drawn with replacement: source by weight, then patient, then slice, then objects.

    Drawing the patient before the slice keeps one long scan from outweighing many short ones.

    Args:
        sources: per name, ``slices`` (a list of LabelledSlice) and ``weight``, the share of draws that they get.
        contract: turns a slice into the network input.
        seed: with the draw number it decides everything that is random in a sample.
        objects: at most so many objects of one slice in a sample.
        augmentation: MONAI transform with ``set_random_state`` on a dict of ``image`` (C, H, W) and ``label``
            (1, H, W).
        hounsfield_share: share of windowed CT pictures that are taken back to approximate HU and through the CT
            contract; the rest stay windowed, so that the network learns both.
        window_jitter: the ends of every intensity view move by up to this share of its width.
        min_pixels: smaller objects (after augmentation, in the model square) are not used.
    """

    def __init__(
        self,
        sources: Mapping[str, Mapping[str, Any]],
        contract: Contract,
        *,
        seed: int = 0,
        objects: int = 2,
        augmentation: Callable | None = None,
        hounsfield_share: float = 0.0,
        window_jitter: float = 0.0,
        min_pixels: int = 16,
    ) -> None:
        self.patients = {name: _by_patient(source["slices"]) for name, source in sources.items()}
        if empty := [name for name, patients in self.patients.items() if not patients]:
            raise ValueError(f"source {empty[0]!r} has no labelled slice")
        weights = np.asarray([source["weight"] for source in sources.values()], dtype=float)
        self.names, self.weights = list(sources), weights / weights.sum()
        self.contract, self.seed, self.objects, self.augmentation = contract, seed, objects, augmentation
        self.hounsfield_share, self.window_jitter, self.min_pixels = hounsfield_share, window_jitter, min_pixels

    def __len__(self) -> int:
        return sum(len(slices) for patients in self.patients.values() for slices in patients.values())

    def __getitem__(self, draw: int) -> tuple[Tensor, Tensor, int]:
        """(3, S, S) image, (K, S, S) bool masks with K >= 1, and the draw number."""
        rng = np.random.default_rng((self.seed, int(draw)))
        while True:  # an augmentation can push every object out of the picture: draw again
            image, masks = self._sample(rng)
            if len(masks):
                return image, masks, int(draw)

    def _sample(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        patients = self.patients[self.names[rng.choice(len(self.names), p=self.weights)]]
        slices = patients[list(patients)[rng.integers(len(patients))]]
        chosen = self._intensities(slices[rng.integers(len(slices))], rng)
        picture, labels = self._augment(chosen, rng)
        placement = self.contract.placement(*labels.shape, chosen.pixel_spacing)
        image = self.contract.to_input(picture, chosen.intensity, placement)
        square = placement.mask_to_square(labels)
        ids = [i for i in rng.permutation(chosen.ids) if (square == i).sum() >= self.min_pixels][: self.objects]
        masks = np.stack([square == i for i in ids]) if ids else np.zeros((0, *square.shape), dtype=bool)
        return image, torch.from_numpy(masks)

    def _intensities(self, chosen: LabelledSlice, rng: np.random.Generator) -> LabelledSlice:
        if chosen.modality == "windowed" and chosen.picture.ndim == 2 and rng.random() < self.hounsfield_share:
            picture = estimate_hounsfield(chosen.picture, rng)
            chosen = replace(chosen, picture=picture, intensity=self.contract.intensity(picture, "CT"))
        return replace(chosen, intensity=tuple(self._jitter(view, rng) for view in chosen.intensity))

    def _jitter(self, view: View, rng: np.random.Generator) -> View:
        low, high = rng.uniform(-1, 1, 2) * self.window_jitter * (view.high - view.low)
        return View(view.low + low, view.high + high, view.keep_zero)

    def _augment(self, chosen: LabelledSlice, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if self.augmentation is None:
            return chosen.picture, chosen.labels
        picture = chosen.picture.astype(np.float32)
        channels = picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1)
        self.augmentation.set_random_state(seed=int(rng.integers(2**31)))
        out = self.augmentation({"image": channels, "label": chosen.labels[None].astype(np.float32)})
        picture = np.asarray(out["image"])
        return picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0), np.asarray(out["label"])[0].astype(int)


class DrawNumbers(Sampler[int]):
    """The endless stream of draw numbers, from ``first`` on; ``len`` is the draws of one epoch of this process.

    The stream does not restart with an epoch, so a resumed run only has to set ``first`` to see the data that the
    interrupted one would have seen.

    Args:
        draws_per_epoch: over all processes.
        rank, world_size: this process takes every ``world_size``-th draw.
    """

    def __init__(self, draws_per_epoch: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.draws_per_epoch, self.rank, self.world_size, self.first = draws_per_epoch, rank, world_size, 0

    def __len__(self) -> int:
        return self.draws_per_epoch // self.world_size

    def __iter__(self) -> Iterator[int]:
        return count(self.first + self.rank, self.world_size)


def collate(samples: Sequence[tuple[Tensor, Tensor, int]]) -> SampleBatch:
    """Join samples with different numbers of objects."""
    images, masks, draws = zip(*samples, strict=True)
    index = torch.repeat_interleave(torch.arange(len(masks)), torch.tensor([len(m) for m in masks]))
    return SampleBatch(torch.stack(images), torch.cat(masks), index, torch.tensor(draws))


def _by_patient(slices: Sequence[LabelledSlice]) -> dict[str, list[LabelledSlice]]:
    patients: dict[str, list[LabelledSlice]] = defaultdict(list)
    for labelled in slices:
        patients[labelled.patient].append(labelled)
    return dict(patients)
