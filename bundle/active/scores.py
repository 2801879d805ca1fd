"""What a model's answers about an image say to someone who has to choose: how unsure they are, and what is in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from bundle.active.asking import Committee, Progress, ask
from bundle.active.places import Place
from bundle.data.volume import Volume
from bundle.interactive.slice_model import SlicePredictor
from bundle.interactive.volume_slices import VolumeSlices

FEATURES = 32  # numbers that tell images apart, drawn from the network's by a fixed random projection
_LOOKED_AT = 0.05  # mean probability from which on a pixel counts for the entropy


@dataclass(frozen=True)
class StructureScores:
    """Of one structure in one image; all from 0 to 1.

    Attributes:
        entropy: predictive entropy in bits, averaged over the pixels that may belong to the structure.
        disagreement: 1 minus the mean DSC of each answer with what all of them say together.
        predicted_iou: the network's own estimate, averaged over the answers.
        foreground: share of the slice that is taken for the structure.
    """

    entropy: float
    disagreement: float
    predicted_iou: float
    foreground: float

    @property
    def doubt(self) -> float:
        """What the answers' disagreement and the network's own estimate say together, 0 (sure) to 1."""
        return (self.disagreement + 1 - self.predicted_iou) / 2


@dataclass(frozen=True)
class ImageScores:
    """What a model says of an image.

    Attributes:
        model: identity of the network.
        structures: name -> its scores; ``asking.ANYTHING`` where no labelled image says what to ask for.
        features: (``FEATURES``,) what the image looks like to the network.
        slice: index of the slice with the greatest doubt; None where nothing was found.
    """

    model: str
    structures: Mapping[str, StructureScores]
    features: tuple[float, ...] = ()
    slice: int | None = None

    @property
    def foreground(self) -> float:
        """The largest share of a slice that a structure takes."""
        return max((one.foreground for one in self.structures.values()), default=0.0)

    @property
    def doubt(self) -> float:
        """The mean over the structures."""
        return float(np.mean([one.doubt for one in self.structures.values()])) if self.structures else 0.0

    @property
    def entropy(self) -> float:
        """The mean over the structures."""
        return float(np.mean([one.entropy for one in self.structures.values()])) if self.structures else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values, rounded to four places."""
        return {
            "model": self.model,
            "structures": {
                name: {key: round(value, 4) for key, value in asdict(one).items()}
                for name, one in self.structures.items()
            },
            "features": [round(value, 4) for value in self.features],
            "slice": self.slice,
        }

    @classmethod
    def from_json(cls, value: object) -> ImageScores | None:
        """What ``to_json`` wrote; None of anything else, as a client may have put it there."""
        if not isinstance(value, Mapping) or not isinstance(value.get("model"), str):
            return None
        structures, features, index = value.get("structures"), value.get("features"), value.get("slice")
        if not isinstance(structures, Mapping) or not isinstance(features, Sequence):
            return None
        names = {field.name for field in fields(StructureScores)}
        for one in structures.values():
            if not isinstance(one, Mapping) or set(one) != names or not all(map(_is_number, one.values())):
                return None
        if len(features) not in (0, FEATURES) or not all(map(_is_number, features)):
            return None
        known = {str(name): StructureScores(**one) for name, one in structures.items()}
        index = index if isinstance(index, int) and not isinstance(index, bool) else None
        return cls(value["model"], known, tuple(map(float, features)), index)


def score_image(
    volume: Volume,
    predictor: SlicePredictor,
    places: Mapping[str, Place],
    *,
    seed: int = 0,
    progress: Progress = lambda: None,
) -> ImageScores:
    """Ask a model about an image that nobody labelled, and score its answers.

    Args:
        volume: the image.
        predictor: the model of slices.
        places: name -> where labelled images have that structure (``places.mean_places``); may be empty.
        seed: of the boxes; the same seed gives the same scores.
        progress: called before each question; what it raises ends the scoring.
    """
    committees = ask(volume, predictor, places, seed=seed, progress=progress)
    progress()
    slices = VolumeSlices(volume, predictor)
    features = slices.describe(slices.frame(2), volume.shape[2] // 2)
    return summarised(committees, predictor.identity, features)


def summarised(committees: Sequence[Committee], model: str, features: np.ndarray) -> ImageScores:
    """The scores of an image from the answers about it.

    Args:
        committees: the answers; those of one structure are averaged.
        model: identity of the network.
        features: (C,) what the image looks like to it.
    """
    by_name: dict[str, list[StructureScores]] = {}
    doubts = {}
    for committee in committees:
        found = _scored(committee)
        by_name.setdefault(committee.name, []).append(found)
        doubts[committee.index] = max(found.doubt, doubts.get(committee.index, 0.0))
    names = [field.name for field in fields(StructureScores)]
    structures = {
        name: StructureScores(**{key: float(np.mean([getattr(one, key) for one in found])) for key in names})
        for name, found in by_name.items()
    }
    most = max(doubts, key=doubts.get, default=None)
    return ImageScores(model, structures, tuple(float(value) for value in _projected(features)), most)


def binary_entropy(probability: np.ndarray) -> np.ndarray:
    """Entropy in bits of a probability, elementwise (Shannon 1948)."""
    p = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))


def _scored(committee: Committee) -> StructureScores:
    mean = committee.mean
    together, looked_at = mean > 0.5, mean > _LOOKED_AT
    entropy = float(binary_entropy(mean)[looked_at].mean()) if looked_at.any() else 0.0
    overlaps = [_dsc(member > 0.5, together) for member in committee.probabilities]
    return StructureScores(
        entropy, 1 - float(np.mean(overlaps)), float(np.mean(committee.predicted_iou)), float(together.mean())
    )


def _dsc(mask: np.ndarray, other: np.ndarray) -> float:
    total = mask.sum() + other.sum()
    return float(2 * (mask & other).sum() / total) if total else 1.0


def _projected(features: np.ndarray) -> np.ndarray:
    """(``FEATURES``,), so that an index stays small; distances stay about as they are (Johnson, Lindenstrauss 1984)."""
    draw = np.random.default_rng(0).normal(size=(len(features), FEATURES)) / math.sqrt(FEATURES)
    return features.astype(np.float64) @ draw


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
