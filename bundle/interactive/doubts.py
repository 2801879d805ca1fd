"""Why an answer may be wrong, as sentences for the user."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import numpy as np

from bundle.data.volume import Volume
from bundle.interactive.regions import Region
from bundle.prompts.interactions import Interaction, Point
from bundle.transforms.frames import nearest_index

# docs/results.md, "Does it know when it is wrong?": over 3672 answers of the shipped model, those that expect 0.6 to
# 0.7 reach 0.09 less than they expect, worse ones as much, 0.7 to 0.8 0.05 less, and better ones are right.
RELIABLE_IOU = 0.7
# Of two neighbouring slices that both show so many pixels. In 143 label maps of CT and MR (abdomen, chest, brain,
# heart, tumours) it happens between 1.3 % of 9338 neighbours.
JUMP = 2.0
JUMP_PIXELS = 50
AIR_HU = -900.0  # below aerated lung (-850 to -500 HU)
_DARK = 0.02  # of the way from the darkest value to the 99.5th percentile
_SAMPLES = 1 << 18


class Doubts:
    """Judges the answers of one image.

    Args:
        volume: the image.
    """

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._dark: float | None = None

    def of(self, scores: Mapping[int, float], mask: Region, axis: int, given: Sequence[Interaction]) -> tuple[str, ...]:
        """What is doubtful about an answer, a sentence each.

        Args:
            scores: slice index -> predicted IoU, of those that were answered.
            mask: the object with the answer.
            axis: stored axis of the slices.
            given: the interactions that it answers.
        """
        found = [_unsure(scores), _jump(mask, axis, scores), *(self._in_background(one) for one in given)]
        return tuple(sentence for sentence in found if sentence)

    def _in_background(self, one: Interaction) -> str | None:
        """Whether a click on the object lies on nothing but air or background, with the 8 pixels around it."""
        if not (isinstance(one, Point) and one.positive):
            return None
        i, j, k = nearest_index(np.asarray(one.voxel, dtype=float), self._volume.shape)
        around = self._volume.array[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2, k]
        value = float(np.max(around))
        where = [round(float(v), 1) for v in one.voxel]
        if self._volume.modality == "CT":
            return f"the point {where} lies in air ({value:.0f} HU and less around it)" if value < AIR_HU else None
        return f"the point {where} lies in the dark background" if value <= self._background() else None

    def _background(self) -> float:
        """The largest value of what is background in an image that is no CT."""
        if self._dark is None:
            flat = self._volume.array.reshape(-1)
            some = flat[:: max(1, flat.size // _SAMPLES)].astype(float)
            low = float(some.min())
            self._dark = low + _DARK * (float(np.percentile(some, 99.5)) - low)
        return self._dark


def _unsure(scores: Mapping[int, float]) -> str | None:
    unsure = sorted(index for index, iou in scores.items() if iou < RELIABLE_IOU)
    if not unsure:
        return None
    worst = min(unsure, key=lambda index: scores[index])
    return (
        f"predicted IoU below {RELIABLE_IOU} on {len(unsure)} of {len(scores)} slices ({_listed(unsure)}), lowest "
        f"{max(scores[worst], 0):.2f} on slice {worst}; such answers are worse than they expect"
    )


def _jump(mask: Region, axis: int, answered: Container[int]) -> str | None:
    """Where the area jumps from one slice to the next, of which at least one was answered now."""
    if mask.is_empty:
        return None
    areas = mask.voxels.sum(axis=tuple(other for other in range(3) if other != axis))
    small, large = np.minimum(areas[1:], areas[:-1]), np.maximum(areas[1:], areas[:-1])
    for at in np.flatnonzero((small >= JUMP_PIXELS) & (large > JUMP * small)):
        first = int(at + mask.low[axis])
        if first in answered or first + 1 in answered:
            return f"the area jumps from {areas[at]} to {areas[at + 1]} pixels between slices {first} and {first + 1}"
    return None


def _listed(indices: Sequence[int], most: int = 6) -> str:
    return ", ".join(map(str, indices[:most])) + (", ..." if len(indices) > most else "")
