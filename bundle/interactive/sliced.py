"""An interaction as the slices of a walk through the volume see it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from bundle.prompts.interactions import Interaction
from bundle.prompts.slice_prompts import SliceInteraction
from bundle.transforms.frames import SliceFrame


@dataclass(frozen=True, eq=False)
class SlicedInteraction:
    """An interaction as the slices along an axis see it.

    Attributes:
        interaction: in the volume.
        slices: index -> what that slice sees; not empty.
    """

    interaction: Interaction
    slices: Mapping[int, tuple[SliceInteraction, ...]]

    @classmethod
    def of(cls, interaction: Interaction, frame: SliceFrame) -> SlicedInteraction:
        """As the slices of a frame see it; the interaction is valid for the frame's volume."""
        return cls(interaction, {index: tuple(seen) for index, seen in interaction.on_slices(frame).items()})

    @property
    def positive(self) -> bool:
        """Whether it lies on the object."""
        return self.interaction.positive

    @property
    def kind(self) -> str:
        """Of what the slices see."""
        return next(iter(self.slices.values()))[0].kind

    @property
    def thick(self) -> bool:
        """Whether it encloses something on several slices: a 3D box, a segmentation.

        What was drawn on one slice, and a line, holds there against what comes from the neighbours. What covers a range
        of slices says less of each of them, which may be corrected by its neighbours.
        """
        return len(self.slices) > 1 and next(iter(self.slices.values()))[0].encloses

    @property
    def is_3d_box(self) -> bool:
        """Whether it is a box of several slices, which says along all axes how far the object reaches."""
        return self.kind == "box" and self.thick

    @property
    def ends(self) -> tuple[int, int]:
        """The first and the last slice that see it."""
        return min(self.slices), max(self.slices)

    def box(self) -> np.ndarray:
        """(4,) pixels (x0, y0, x1, y1) around all that the slices see of it."""
        corners = np.concatenate([one.corners() for seen in self.slices.values() for one in seen])
        return np.concatenate([corners.min(axis=0), corners.max(axis=0)])

    def where_most(self) -> int:
        """The middle one of the slices that see at least half as much of it as any."""
        width, height = np.ceil(self.box()[2:]).astype(int) + 1
        sizes = {index: np.count_nonzero(self.covered(index, height, width)) for index in self.slices}
        best = [index for index in sorted(sizes) if 2 * sizes[index] >= max(sizes.values())]
        return best[(len(best) - 1) // 2]

    def covered(self, index: int, height: int, width: int) -> np.ndarray:
        """(H, W) bool: what lies under it on a slice."""
        return np.any([one.pixels(height, width) for one in self.slices[index]], axis=0)

    def within(self, limits: tuple[int, int]) -> SlicedInteraction:
        """The part on some slices, first and last; it may be empty."""
        first, last = limits
        return replace(self, slices={index: seen for index, seen in self.slices.items() if first <= index <= last})

    def same(self, other: SlicedInteraction) -> bool:
        """Whether both say the same, on the same slices."""
        return self.slices.keys() == other.slices.keys() and self.interaction.same(other.interaction)


Given = TypeVar("Given", Interaction, SlicedInteraction)


def started_first(given: Sequence[Given]) -> list[Given]:
    """The first interaction on the object, which starts it, and the others in their order."""
    first = next(place for place, one in enumerate(given) if one.positive)
    return [given[first], *given[:first], *given[first + 1 :]]


def on_slice(interactions: Iterable[SlicedInteraction], index: int) -> list[SliceInteraction]:
    """What a slice sees of some interactions, in their order."""
    return [one for sliced in interactions for one in sliced.slices.get(index, ())]


def bounded(interactions: Sequence[SlicedInteraction]) -> Sequence[SlicedInteraction]:
    """The last 3D box around the object, which says where it ends, and what came after it; empty without one."""
    boxes = [place for place, one in enumerate(interactions) if one.is_3d_box and one.positive]
    return interactions[boxes[-1] :] if boxes else ()


def reach_of(interactions: Sequence[SlicedInteraction]) -> tuple[int, int]:
    """First and last slice of a box or segmentation, widened to what was said later to lie on the object."""
    first, *later = interactions
    ends = [end for one in (first, *(one for one in later if one.positive)) for end in one.ends]
    return min(ends), max(ends)


def limit_of(interactions: Sequence[SlicedInteraction]) -> np.ndarray | None:
    """(4,) pixels that a 3D box, widened to what was said later to lie on the object, leaves; None without one."""
    since = bounded(interactions)
    if not since:
        return None
    corners = np.concatenate([one.box().reshape(2, 2) for one in since if one.positive])
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])
