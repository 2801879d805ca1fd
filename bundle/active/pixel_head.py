"""A cheap learner for simulated active learning: a small network over the shipped network's frozen features.

What it costs to train is a second, so that curves of many strategies and seeds can be had on two cores. It is not the
model that users click with; what carries over is how strategies compare, and only as far as this learner is like it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.active.asking import Committee
from bundle.active.scores import ImageScores, summarised
from bundle.errors import FamilyError
from bundle.interactive.slice_model import SlicePredictor, SliceView
from bundle.networks.prompted_unet import PromptedUNet, prompt_maps
from bundle.transforms.placement import Placement

GRID = 64  # pixels of a slice's side
_LEVELS = 4  # of the network's way down
_CHANNELS = 48  # drawn from the features of all levels by a fixed random projection
_HIDDEN = 32
_PIXELS = 200  # of each labelled slice, half of them of structures where there are as many
_STEPS, _RATE, _DECAY = 40, 0.03, 1e-4
_MEMBERS = 3


@dataclass(frozen=True, eq=False)
class SeenSlice:
    """A slice as the learner sees it, and its truth.

    Attributes:
        features: (H * W, C) float32, H = W = GRID.
        truth: (H, W) int64, 0 or the number of a structure from 1.
        inside: (H, W) bool, without the padding of the model square.
        patient: who it shows.
    """

    features: Tensor
    truth: np.ndarray
    inside: np.ndarray
    patient: str

    def every(self, step: int) -> SeenSlice:
        """Every so many pixels of it, which is enough to choose by."""
        features = self.features.reshape(*self.inside.shape, -1)[::step, ::step]
        rest = self.truth[::step, ::step], self.inside[::step, ::step]
        return SeenSlice(features.reshape(-1, features.shape[-1]), *rest, self.patient)


def see(view: SliceView, labels: np.ndarray, predictor: SlicePredictor, *, patient: str) -> SeenSlice:
    """Run the shipped U-Net over a slice, without prompts.

    Args:
        view: the slice.
        labels: (H, W) truth, numbers of structures.
        predictor: of a ``PromptedUNet``.
        patient: who it shows.

    Raises:
        FamilyError: the predictor is of another network.
    """
    if not isinstance(predictor.network, PromptedUNet):
        raise FamilyError(f"expected a predictor of a PromptedUNet, got {type(predictor.network).__name__}")
    placement = predictor.contract.placement(*labels.shape, view.pixel_spacing)
    image = predictor.contract.to_input(view.picture, view.intensity, placement)[None].to(predictor.device)
    with torch.inference_mode(), torch.autocast(predictor.device.type, torch.bfloat16, enabled=predictor.bfloat16):
        levels = predictor.network.mask_decoder.encode(image, prompt_maps(None, None, like=image))[:_LEVELS]
    maps = torch.cat([F.interpolate(level.float(), (GRID, GRID), mode="bilinear") for level in levels], dim=1)[0].cpu()
    draw = np.random.default_rng(0).normal(size=(len(maps), _CHANNELS)) / np.sqrt(len(maps))
    mixed = maps.flatten(1).T @ torch.from_numpy(draw).float()  # (GRID * GRID, _CHANNELS)
    mixed = (mixed - mixed.mean()) / mixed.std().clamp_min(1e-6)
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, GRID), torch.linspace(-1, 1, GRID), indexing="ij")
    features = torch.cat([mixed, rows.reshape(-1, 1), columns.reshape(-1, 1)], dim=1).clone()
    truth = F.interpolate(_square(placement, labels), (GRID, GRID), mode="nearest")[0, 0].long().numpy()
    inside = F.interpolate(_square(placement, np.ones_like(labels)), (GRID, GRID), mode="nearest")[0, 0].numpy() > 0
    return SeenSlice(features, truth, inside, patient)


def save_slices(path: str, slices: Mapping[str, SeenSlice]) -> None:
    """Keep what ``see`` made of a patient, so that a simulation that was stopped need not run the network again."""
    every = list(slices.values())
    with open(path, "wb") as file:
        np.savez(
            file,
            names=np.array(list(slices)),
            features=np.stack([one.features.numpy().astype(np.float16) for one in every]),
            truth=np.stack([one.truth.astype(np.uint8) for one in every]),
            inside=np.stack([one.inside for one in every]),
            patients=np.array([one.patient for one in every]),
        )


def load_slices(path: str | Path) -> dict[str, SeenSlice]:
    """What ``save_slices`` kept."""
    with np.load(path, allow_pickle=False) as kept:
        parts = [kept[name] for name in ("names", "features", "truth", "inside", "patients")]
    return {
        str(name): SeenSlice(torch.from_numpy(f.astype(np.float32)), t.astype(np.int64), i, str(patient))
        for name, f, t, i, patient in zip(*parts, strict=True)
    }


def _square(placement: Placement, labels: np.ndarray) -> Tensor:
    return torch.from_numpy(placement.mask_to_square(labels).astype(np.float32))[None, None]


class PixelLearner:
    """Learns structures from labelled slices; a committee, each member from other slices (bagging, Breiman 1996).

    Args:
        slices: name -> slice, the pool.
        held_out: slices that it is scored on.
        structures: names of the structures 1, 2, ...
        seed: of weights and pixels.
    """

    def __init__(
        self,
        slices: Mapping[str, SeenSlice],
        held_out: Sequence[SeenSlice],
        structures: Sequence[str],
        *,
        seed: int,
    ) -> None:
        self._slices, self._held_out, self._structures = slices, held_out, tuple(structures)
        self._rng = np.random.default_rng(seed)
        self._torch = torch.Generator().manual_seed(seed)
        self._members: list[nn.Module] = []
        self._trained = 0

    def train(self, labelled: Sequence[str]) -> None:
        """Learn anew from these slices."""
        self._trained += 1
        self._members = []
        for member in range(_MEMBERS):
            drawn = labelled if member == 0 else self._rng.choice(labelled, len(labelled)).tolist()
            pixels = [self._pixels(self._slices[name]) for name in drawn]
            features = torch.cat([part[0] for part in pixels])
            self._members.append(self._fitted(features, torch.cat([part[1] for part in pixels])))

    def scores(self, name: str) -> ImageScores:
        """What it says of a slice without label."""
        one = self._slices[name]
        coarse = one.every(2)
        votes = np.stack([_probabilities(member, coarse) for member in self._members])  # (K, C, GRID / 2, GRID / 2)
        committees = [
            Committee(structure, 0, votes[:, number], [_expected_iou(vote[number]) for vote in votes])
            for number, structure in enumerate(self._structures, start=1)
        ]
        return summarised(committees, f"pixel head {self._trained}", coarse.features.mean(dim=0).numpy())

    def evaluate(self) -> float:
        """Mean DSC over the held-out patients and structures, each patient's slices taken together."""
        counts: dict[tuple[str, int], np.ndarray] = {}
        for one in self._held_out:
            found = np.mean([_probabilities(member, one) for member in self._members], axis=0).argmax(axis=0)
            for number in range(1, len(self._structures) + 1):
                mask, truth = (found == number) & one.inside, (one.truth == number) & one.inside
                sums = np.array([(mask & truth).sum(), mask.sum() + truth.sum()])
                counts[one.patient, number] = counts.get((one.patient, number), 0) + sums
        return float(np.mean([2 * both / total for both, total in counts.values() if total]))

    def _pixels(self, one: SeenSlice) -> tuple[Tensor, Tensor]:
        truth, inside = one.truth.ravel(), one.inside.ravel()
        objects, rest = np.flatnonzero((truth > 0) & inside), np.flatnonzero((truth == 0) & inside)
        objects = self._rng.permutation(objects)[: _PIXELS // 2]
        chosen = np.concatenate([objects, self._rng.permutation(rest)[: _PIXELS - len(objects)]])
        return one.features[chosen], torch.from_numpy(truth[chosen])

    def _fitted(self, features: Tensor, truth: Tensor) -> nn.Module:
        head = nn.Sequential(
            nn.Linear(features.shape[1], _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, len(self._structures) + 1)
        )
        for parameter in head.parameters():
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5, generator=self._torch)
        optimizer = torch.optim.AdamW(head.parameters(), lr=_RATE, weight_decay=_DECAY)
        for _ in range(_STEPS):
            optimizer.zero_grad()
            F.cross_entropy(head(features), truth).backward()
            optimizer.step()
        return head.eval()


def _probabilities(member: nn.Module, one: SeenSlice) -> np.ndarray:
    """(C, H, W) float32, background first; outside of the slice all is background."""
    with torch.inference_mode():
        found = member(one.features).softmax(dim=1).T.reshape(-1, *one.inside.shape).numpy().copy()
    found[1:, ~one.inside], found[0, ~one.inside] = 0, 1
    return found


def _expected_iou(probability: np.ndarray) -> float:
    """The IoU that a mask expects of itself: certain pixels in it, over all that may belong to the object."""
    mask = probability > 0.5
    if not mask.any():
        return 1.0 if probability.max() < 0.05 else 0.5
    return float(probability[mask].sum() / (mask.sum() + probability[~mask].sum()))
