"""Training samples as a pure function of a draw number, so that an interrupted run goes on with the same data."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from bundle.data.augmentation import random_view, randomize_intensity
from bundle.data.hounsfield import estimate_hounsfield
from bundle.data.labelled_slices import LabelledSlice, LabelledStack, resized
from bundle.data.labels import as_int16
from bundle.data.sampling import BalancedDraw
from bundle.errors import TrainingError
from bundle.prompts.simulation import tight_box
from bundle.transforms.contract import Contract, View

BALANCES = ("patients", "organs")
Labelled = LabelledSlice | LabelledStack
_TRIES = 200
# Context around an object in training: from tight to twice what the shipped contract takes, because augmentation may
# magnify the window once more, and a box in use is not tight.
_ZOOM_MARGINS = (0.25, 1.1)


class Sample(NamedTuple):
    """One image with what is known about it; a stack of D slices has D behind the channel axis.

    Attributes:
        image: (3, S, S) or (3, D, S, S) float32 network input.
        masks: (K, S, S) bool, the objects to ask for; none of a stack.
        labels: (S, S) or (D, S, S) int16 label map in the model square.
        annotated: the label values that somebody looked for, None for all.
        draw: the draw number.
        patient: who it shows.
        window: whether it shows the window around an object, as a box is answered in use, instead of the whole slice.
    """

    image: Tensor
    masks: Tensor
    labels: Tensor
    annotated: tuple[int, ...] | None
    draw: int
    patient: str
    window: bool = False


@dataclass
class SampleBatch:
    """Images with the objects to segment in them.

    Attributes:
        images: (B, 3, S, S) float32 network input, of stacks (B, 3, D, S, S).
        masks: (N, S, S) bool, one object each.
        image_index: (N,) long, the image that each object is in.
        draws: (B,) long, the draw numbers, from which simulated prompts take their seed.
        labels: (B, S, S) or (B, D, S, S) int16 label maps.
        annotated: per image, the label values that somebody looked for, None for all.
        patients: per image, who it shows.
        windows: (B,) bool, whether an image shows the window around an object.
        step: number of the training step, from 1; the trainer sets it.
    """

    images: Tensor
    masks: Tensor
    image_index: Tensor
    draws: Tensor
    labels: Tensor
    annotated: tuple[tuple[int, ...] | None, ...]
    patients: tuple[str, ...]
    windows: Tensor
    step: int = 0

    def to(self, device: torch.device | str) -> SampleBatch:
        """The batch on another device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return SampleBatch(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in values.items()})

    def split(self, parts: int) -> list[SampleBatch]:
        """The batch in at most ``parts`` pieces of consecutive images."""
        return [self._of(chosen) for chosen in self._every_image().chunk(parts)]

    def by_view(self) -> list[SampleBatch]:
        """The images that show windows, and those that show whole slices; without what there is none of."""
        return [self._of(chosen) for view in (self.windows, ~self.windows) if len(chosen := self._every_image()[view])]

    def _every_image(self) -> Tensor:
        return torch.arange(len(self.images), device=self.image_index.device)

    def _of(self, chosen: Tensor) -> SampleBatch:
        """The images of these numbers, which ascend, with their objects."""
        objects = torch.isin(self.image_index, chosen)
        numbers = chosen.tolist()
        return SampleBatch(
            self.images[chosen],
            self.masks[objects],
            torch.searchsorted(chosen, self.image_index[objects]),
            self.draws[chosen],
            self.labels[chosen],
            tuple(self.annotated[i] for i in numbers),
            tuple(self.patients[i] for i in numbers),
            self.windows[chosen],
            self.step,
        )


class DrawnSamples(Dataset):
    """Samples drawn with replacement: source by weight, then patient, then slice, then objects.

    Drawing the patient before the slice keeps one long scan from outweighing many short ones.

    Args:
        sources: per name, ``slices`` (a list of LabelledSlice or of LabelledStack) and ``weight``, the share of draws
            that they get.
        contract: turns a slice into the network input.
        seed: with the draw number it decides everything that is random in a sample.
        objects: at most so many objects of one slice in a sample; 0 takes slices without objects as well.
        augmentation: MONAI transform with ``set_random_state`` on a dict of ``image`` (C, H, W) and ``label``
            (1, H, W); of a stack both are (D, H, W), so that all its slices are moved alike.
        balance: "patients" draws as above; "organs" draws an organ first, then a patient and a slice that show it.
        variants: a slice is changed (augmentation, intensities) in only so many ways, so that the embeddings of a
            frozen encoder can be stored; None changes it anew at each draw.
        hounsfield_share: share of windowed CT pictures that are taken back to approximate HU and through the CT
            contract; the rest stay windowed, so that the network learns both.
        window_jitter: the ends of every intensity view move by up to this share of its width.
        variety_share: share of samples whose three views become one window between random percentiles of the picture,
            half of them inverted.
        recolour_share: share of samples whose structures and grey values get colours of their own.
        zoom_share: share of samples that show the window around one object, as the contract cuts it in use.
        min_pixels: smaller objects (after augmentation, in the model square) are not used.

    Raises:
        TrainingError: if a source is empty, ``balance`` is unknown, or there is a ``zoom_share`` for a contract without
            zoom.
    """

    def __init__(
        self,
        sources: Mapping[str, Mapping[str, Any]],
        contract: Contract,
        *,
        seed: int = 0,
        objects: int = 2,
        augmentation: Callable | None = None,
        balance: str = "patients",
        variants: int | None = None,
        hounsfield_share: float = 0.0,
        window_jitter: float = 0.0,
        variety_share: float = 0.0,
        recolour_share: float = 0.0,
        zoom_share: float = 0.0,
        min_pixels: int = 16,
    ) -> None:
        if balance not in BALANCES:
            raise TrainingError(f"balance must be one of {', '.join(BALANCES)}, got {balance!r}")
        if empty := [name for name, source in sources.items() if not len(source["slices"])]:
            raise TrainingError(f"source {empty[0]!r} has no labelled slice")
        if zoom_share and contract.zoom is None:
            raise TrainingError(f"zoom_share is {zoom_share}, but the family's contract has no zoom; take 0")
        draw = _PatientDraw if balance == "patients" else _OrganDraw
        self.draws = [draw(source["slices"]) for source in sources.values()]
        self.length = sum(len(source["slices"]) for source in sources.values())
        weights = np.asarray([source["weight"] for source in sources.values()], dtype=float)
        self.weights = weights / weights.sum()
        self.contract, self.seed, self.objects, self.augmentation = contract, seed, objects, augmentation
        self.variants, self.min_pixels = variants, min_pixels
        self.hounsfield_share, self.window_jitter = hounsfield_share, window_jitter
        self.variety_share, self.recolour_share, self.zoom_share = variety_share, recolour_share, zoom_share

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, draw: int) -> Sample:
        """The sample of a draw number, with at least one object unless ``objects`` is 0."""
        rng = np.random.default_rng((self.seed, int(draw)))
        for _ in range(_TRIES):  # an augmentation can push every object out of the picture: draw again
            sample = self._sample(rng, int(draw))
            if len(sample.masks) or not self.objects or sample.labels.ndim == 3:
                return sample
        wanted = f"object of {self.min_pixels} pixels"
        raise TrainingError(f"{_TRIES} draws in a row had no {wanted}; check labels and sizes")

    def _sample(self, rng: np.random.Generator, draw: int) -> Sample:
        chosen, first = self.draws[rng.choice(len(self.draws), p=self.weights)](rng)
        changes = rng
        if self.variants is not None:
            changes = np.random.default_rng((self.seed, zlib.crc32(chosen.key.encode()), rng.integers(self.variants)))
        changed, window = self._intensities(chosen, changes), False
        if self.zoom_share and chosen.ids:
            window = changes.random() < self.zoom_share
            changed, first = self._zoom(changed, first, changes) if window else (changed, first)
            # At one size, all that augmentation counts in pixels means the same for every slice and window.
            changed = resized(changed, self.contract.size)
        changed = self._augment(changed, changes)
        image, labels = network_input(changed, self.contract)
        objects = self._objects(labels, chosen.ids, first, rng)
        return Sample(image, objects, labels, chosen.annotated, draw, chosen.patient, window)

    def _objects(self, labels: Tensor, ids: Sequence[int], first: int | None, rng: np.random.Generator) -> Tensor:
        """(K, S, S) masks of the objects to ask for, ``first`` before the others."""
        order = [int(i) for i in rng.permutation(ids)]
        if first is not None:
            order.sort(key=lambda i: i != first)
        found = (labels == i for i in order if labels.ndim == 2)
        masks = [mask for mask in found if int(mask.sum()) >= self.min_pixels][: self.objects]
        return torch.stack(masks) if masks else torch.zeros(0, *labels.shape[-2:], dtype=torch.bool)

    def _intensities(self, chosen: Labelled, rng: np.random.Generator) -> Labelled:
        if isinstance(chosen, LabelledStack):
            views = tuple(self._jitter(view, rng) for view in chosen.slices[0].intensity)
            return LabelledStack(tuple(replace(part, intensity=views) for part in chosen.slices))
        if chosen.modality == "windowed" and chosen.picture.ndim == 2 and rng.random() < self.hounsfield_share:
            picture = estimate_hounsfield(chosen.picture, rng)
            chosen = replace(chosen, picture=picture, intensity=self.contract.intensity(picture, "CT"))
        # Without a share nothing is drawn, so that older recipes still see the samples that they saw.
        if self.recolour_share and rng.random() < self.recolour_share:
            return randomize_intensity(chosen, rng)
        if rng.random() < self.variety_share:
            return replace(chosen, intensity=random_view(chosen.picture, rng))
        return replace(chosen, intensity=tuple(self._jitter(view, rng) for view in chosen.intensity))

    def _zoom(self, chosen: LabelledSlice, first: int | None, rng: np.random.Generator) -> tuple[LabelledSlice, int]:
        """The window around one object, or the whole slice where the contract takes that for so large an object."""
        first = int(rng.choice(chosen.ids)) if first is None else first
        box = tight_box(chosen.labels == first)
        low, high = np.split(box.astype(float), 2)
        shift = rng.uniform(-0.25, 0.25, 2) * (high - low + 1)
        zoom = replace(self.contract.zoom, margin=rng.uniform(*_ZOOM_MARGINS))
        around = np.concatenate([low + shift, high + shift])
        window = zoom.window(around, *chosen.labels.shape, chosen.pixel_spacing)
        if window is not None:
            chosen = replace(chosen, picture=window.cut(chosen.picture), labels=window.cut(chosen.labels))
        return chosen, first

    def _jitter(self, view: View, rng: np.random.Generator) -> View:
        low, high = rng.uniform(-1, 1, 2) * self.window_jitter * (view.high - view.low)
        return View(view.low + low, view.high + high, view.keep_zero)

    def _augment(self, chosen: Labelled, rng: np.random.Generator) -> Labelled:
        if self.augmentation is None:
            return chosen
        self.augmentation.set_random_state(seed=int(rng.integers(2**31)))
        image, label = _channels_first(chosen)
        out = self.augmentation({"image": image.astype(np.float32), "label": label.astype(np.float32)})
        return _with_channels(chosen, np.asarray(out["image"]), np.asarray(out["label"]).astype(int))


class EverySample(Dataset):
    """Every slice or stack once, as it is and without objects to ask for: what automatic networks validate on.

    Args:
        items: slices or stacks.
        contract: turns a slice into the network input.

    Raises:
        TrainingError: there is none: without a score no checkpoint would be chosen.
    """

    def __init__(self, items: Sequence[Labelled], contract: Contract) -> None:
        if not items:
            raise TrainingError("validation has no slice; give it patients, by another split or another data list")
        self.items, self.contract = items, contract

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        """The sample of an item; its draw number is its index."""
        item = self.items[index]
        image, labels = network_input(item, self.contract)
        masks = torch.zeros(0, *labels.shape[-2:], dtype=torch.bool)
        return Sample(image, masks, labels, item.annotated, index, item.patient)


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


def collate(samples: Sequence[Sample]) -> SampleBatch:
    """Join samples with different numbers of objects."""
    images, masks, labels, annotated, draws, patients, windows = zip(*samples, strict=True)
    index = torch.repeat_interleave(torch.arange(len(masks)), torch.tensor([len(m) for m in masks]))
    return SampleBatch(
        torch.stack(images),
        torch.cat(masks),
        index,
        torch.tensor(draws),
        torch.stack(labels),
        annotated,
        patients,
        torch.tensor(windows),
    )


def network_input(labelled: Labelled, contract: Contract) -> tuple[Tensor, Tensor]:
    """The image (3, S, S) and label map (S, S) int16 of a slice; of a stack (3, D, S, S) and (D, S, S)."""
    if isinstance(labelled, LabelledStack):
        images, labels = zip(*(network_input(part, contract) for part in labelled.slices), strict=True)
        return torch.stack(images, dim=1), torch.stack(labels)
    placement = contract.placement(*labelled.labels.shape, labelled.pixel_spacing)
    image = contract.to_input(labelled.picture, labelled.intensity, placement)
    return image, torch.from_numpy(placement.mask_to_square(as_int16(labelled.labels, labelled.key)))


class _PatientDraw:
    """Patient, then slice; any object of it may come first."""

    def __init__(self, slices: Sequence[Labelled]) -> None:
        patients: dict[str, list[Labelled]] = defaultdict(list)
        for labelled in slices:
            patients[labelled.patient].append(labelled)
        self.patients = list(patients.values())

    def __call__(self, rng: np.random.Generator) -> tuple[Labelled, None]:
        slices = self.patients[rng.integers(len(self.patients))]
        return slices[rng.integers(len(slices))], None


class _OrganDraw:
    """Organ, then patient, then slice; the organ comes first."""

    def __init__(self, slices: Sequence[Labelled]) -> None:
        self.slices = slices
        self.balanced = BalancedDraw([s.patient for s in slices], [s.ids for s in slices])

    def __call__(self, rng: np.random.Generator) -> tuple[Labelled, int]:
        index, organ = self.balanced.draw(rng)
        return self.slices[index], organ


def _channels_first(labelled: Labelled) -> tuple[np.ndarray, np.ndarray]:
    """Picture and labels as (C, H, W), where C is 1 and 1, 3 colours and 1, or the slices of a stack."""
    if isinstance(labelled, LabelledStack):
        return np.stack([s.picture for s in labelled.slices]), np.stack([s.labels for s in labelled.slices])
    picture = labelled.picture
    return picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1), labelled.labels[None]


def _with_channels(labelled: Labelled, image: np.ndarray, label: np.ndarray) -> Labelled:
    if isinstance(labelled, LabelledStack):
        parts = zip(labelled.slices, image, label, strict=True)
        return LabelledStack(tuple(replace(part, picture=p, labels=truth) for part, p, truth in parts))
    picture = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    return replace(labelled, picture=picture, labels=label[0])
