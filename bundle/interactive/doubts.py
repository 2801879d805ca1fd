"""Why an answer may be wrong, as sentences for the user."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence

import numpy as np

from bundle.data.volume import Volume
from bundle.interactive.objects import THIRD
from bundle.interactive.regions import Region
from bundle.prompts.interactions import Interaction, Point
from bundle.transforms.frames import SliceFrame, nearest_index

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

    def of(
        self,
        scores: Mapping[int, float],
        mask: Region,
        axis: int,
        given: Sequence[Interaction],
        *,
        answered: Collection[int],
    ) -> tuple[str, ...]:
        """What is doubtful about an answer, a sentence each; slices of another axis than the third are named by plane.

        Args:
            scores: slice index -> predicted IoU, of those that were answered now.
            mask: the object with the answer.
            axis: stored axis of the slices.
            given: the interactions that it answers.
            answered: slices along the axis that show the object; others have of it what slices of another plane show.
        """
        found = filter(None, (_unsure(scores), _jump(mask, axis, answered, now=scores)))
        of_slices = [f"{self._named(axis)}{said}" for said in found]
        return (*of_slices, *filter(None, (self._in_background(one, axis) for one in given)))

    def of_kept(self, said: Sequence[Interaction], mask: Region, kept: Collection[tuple[int, int]]) -> tuple[str, ...]:
        """Which clicks changed nothing where they lie, a sentence each.

        Args:
            said: the interactions of this step.
            mask: the object with the answer.
            kept: slices (axis, index) that answers leave as they are.
        """
        found = []
        for one in said:
            if not isinstance(one, Point):
                continue
            voxel = nearest_index(np.asarray(one.voxel, dtype=float), self._volume.shape)
            on = sorted((axis, index) for axis, index in kept if voxel[axis] == index)
            if on and bool(mask.within(np.array([voxel, voxel + 1])).item()) != one.positive:
                (axis, index), where = on[0], [round(float(v), 1) for v in one.voxel]
                found.append(
                    f"the point {where} changes nothing where it lies, on the {self._plane(axis)} slice {index}: that "
                    "one is confirmed or filled, and stays until it is prompted itself"
                )
        return tuple(found)

    def _named(self, axis: int) -> str:
        """What slices along an axis are called in front of a sentence: by nothing, where they are those of the file."""
        return "" if axis == THIRD else f"{self._plane(axis)}: "

    def _plane(self, axis: int) -> str:
        """What slices along an axis are called."""
        frame = SliceFrame.along(self._volume.shape, self._volume.affine, axis)
        return frame.plane if self._volume.placed else f"axis {axis}"

    def _in_background(self, one: Interaction, axis: int) -> str | None:
        """Whether a click on the object lies on nothing but air or background, with the 8 pixels around it."""
        if not (isinstance(one, Point) and one.positive):
            return None
        voxel = nearest_index(np.asarray(one.voxel, dtype=float), self._volume.shape).tolist()
        reach = [0 if along == axis else 1 for along in range(3)]
        around = tuple(slice(max(at - far, 0), at + far + 1) for at, far in zip(voxel, reach, strict=True))
        value = float(np.max(self._volume.array[around]))
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


def _jump(mask: Region, axis: int, answered: Collection[int], *, now: Container[int]) -> str | None:
    """Where the area jumps from one answered slice to the next, of which at least one was answered now."""
    if mask.is_empty:
        return None
    areas = mask.voxels.sum(axis=tuple(other for other in range(3) if other != axis))
    areas = np.where(np.isin(np.arange(len(areas)) + mask.low[axis], list(answered)), areas, 0)
    small, large = np.minimum(areas[1:], areas[:-1]), np.maximum(areas[1:], areas[:-1])
    for at in np.flatnonzero((small >= JUMP_PIXELS) & (large > JUMP * small)):
        first = int(at + mask.low[axis])
        if first in now or first + 1 in now:
            return f"the area jumps from {areas[at]} to {areas[at + 1]} pixels between slices {first} and {first + 1}"
    return None


def _listed(indices: Sequence[int], most: int = 6) -> str:
    return ", ".join(map(str, indices[:most])) + (", ..." if len(indices) > most else "")
