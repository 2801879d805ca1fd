"""Training samples as a pure function of a draw number, so that an interrupted run goes on with the same data."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bundle import _moved
from bundle.data.augmentation import random_view, randomize_intensity
from bundle.data.hounsfield import estimate_hounsfield
from bundle.data.labelled_slice import LabelledSlice, LabelledStack, resized
from bundle.errors import TrainingError
from bundle.prompts.simulation import tight_box
from bundle.training.batches import Sample
from bundle.training.draws import DRAWS, Labelled
from bundle.training.slice_dictionary import (
    Preprocessing,
    augmented,
    for_augmentation,
    input_of_contract,
    network_input,
)
from bundle.transforms.contract import Contract, View

_TRIES = 200
# Context around an object in training: from tight to twice what the shipped contract takes, because augmentation may
# magnify the window once more, and a box in use is not tight.
_ZOOM_MARGINS = (0.25, 1.1)


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
        preprocessing: MONAI transform that makes the network's input of an augmented slice, see ``network_input``; by
            default that of the contract.

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
        preprocessing: Preprocessing | None = None,
    ) -> None:
        if balance not in DRAWS:
            raise TrainingError(f"balance must be one of {', '.join(DRAWS)}, got {balance!r}")
        if empty := [name for name, source in sources.items() if not len(source["slices"])]:
            raise TrainingError(f"source {empty[0]!r} has no labelled slice")
        if zoom_share and contract.zoom is None:
            raise TrainingError(f"zoom_share is {zoom_share}, but the family's contract has no zoom; take 0")
        self.draws = [DRAWS[balance](source["slices"]) for source in sources.values()]
        self.length = sum(len(source["slices"]) for source in sources.values())
        weights = np.asarray([source["weight"] for source in sources.values()], dtype=float)
        self.weights = weights / weights.sum()
        self.contract, self.seed, self.objects, self.augmentation = contract, seed, objects, augmentation
        self.variants, self.min_pixels = variants, min_pixels
        self.preprocessing = preprocessing or input_of_contract(contract)
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
        image, labels = network_input(changed, self.preprocessing)
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
        image, label = for_augmentation(chosen)
        out = self.augmentation({"image": image.astype(np.float32), "label": label.astype(np.float32)})
        return augmented(chosen, np.asarray(out["image"]), np.asarray(out["label"]).astype(int))


class EverySample(Dataset):
    """Every slice or stack once, as it is and without objects to ask for: what automatic networks validate on.

    Args:
        items: slices or stacks.
        contract: turns a slice into the network input.
        preprocessing: as in ``DrawnSamples``.

    Raises:
        TrainingError: there is none: without a score no checkpoint would be chosen.
    """

    def __init__(
        self, items: Sequence[Labelled], contract: Contract, *, preprocessing: Preprocessing | None = None
    ) -> None:
        if not items:
            raise TrainingError("validation has no slice; give it patients, by another split or another data list")
        self.items, self.preprocessing = items, preprocessing or input_of_contract(contract)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        """The sample of an item; its draw number is its index."""
        item = self.items[index]
        image, labels = network_input(item, self.preprocessing)
        masks = torch.zeros(0, *labels.shape[-2:], dtype=torch.bool)
        return Sample(image, masks, labels, item.annotated, index, item.patient)


__getattr__ = _moved.renamed(__name__)  # former names
