"""Objects that may overlap, gathered into one label map: the one overlap rule of session, app, batch and demo."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bundle.data.values import smallest_unsigned
from bundle.interactive.regions import Box, Region, union
from bundle.interactive.segmentation import GIVEN, Segmentation
from bundle.prompts.prompts import ObjectPrompts

_ENCLOSED = 0.5  # share of the smaller object: most of it lies in the larger one


class LabelMap:
    """Gathers objects that may overlap. A voxel that several of them claim goes to one by the first rule that decides:

    1. A locked object is never painted over.
    2. What was drawn on an object, by a click, scribble, lasso or mask, belongs to it; to the last one where several
       were drawn there.
    3. An object leaves a smaller one that lies in it (`encloses`) its voxels, so that a tumour is seen in its organ in
       whatever order they came; but not those that are known less well than its own: what the user gave is not left to
       what the model answered, nor that to what was only proposed.
    4. The object of higher predicted IoU on that slice has it; where the user gave the mask, that object.
    5. The object that came first.

    Args:
        shape: (I, J, K).
        locked: (I, J, K) unsigned integers, objects that stay as they are; 0 elsewhere. None without any.
    """

    def __init__(self, shape: Sequence[int], *, locked: np.ndarray | None = None) -> None:
        self._shape, self._locked = tuple(shape), np.zeros(shape, np.uint8) if locked is None else locked
        self._objects: dict[int, _Object] = {}

    def add(
        self,
        segmentation: Segmentation,
        label: int,
        prompts: ObjectPrompts | None = None,
        *,
        whole: Region | None = None,
        is_proposed: bool = False,
    ) -> None:
        """Add an object, or a part of one.

        Args:
            segmentation: of the object; only the slices that have a score count.
            label: its value.
            prompts: what it was asked with, valid for the volume; what was drawn on the object stays with it.
            whole: all of the object, where this is a label map of a part of the volume; in indices of any origin that
                is the same for all objects.
            is_proposed: whether something found it by itself and nobody has worked on it.
        """
        one = self._objects.setdefault(label, _Object(whole))
        one.parts.append(_Part.of(segmentation, is_proposed))
        for interaction in () if prompts is None else prompts.interactions:
            if interaction.positive:
                drawn = interaction.named_voxels(self._shape)
                one.drawn.append(drawn[segmentation.mask[tuple(drawn.T)]])

    @property
    def labels(self) -> np.ndarray:
        """(I, J, K) of the smallest unsigned type that holds the labels; worked out anew each time."""
        kind = smallest_unsigned(max([*self._objects, int(self._locked.max(initial=0))]))
        labels = self._locked.astype(kind, order="F")  # the order that files have: writing is several times as fast
        best = np.where(labels != 0, np.float32(np.inf), np.float32(0))
        wholes = {label: one.whole or _together(one.parts) for label, one in self._objects.items()}
        for label, one in self._objects.items():
            within = [other for key, other in self._objects.items() if encloses(wholes[label], wholes[key])]
            for part in one.parts:
                _paint(labels, best, part, label, [inner for other in within for inner in other.parts])
        for label, one in self._objects.items():
            for drawn in one.drawn:
                free = drawn[self._locked[tuple(drawn.T)] == 0]
                labels[tuple(free.T)] = label
        return labels

    @property
    def contested_voxels(self) -> int:
        """Voxels that more than one object claimed."""
        claims = (self._locked != 0).astype(np.uint8)
        for one in self._objects.values():
            claimed = _together(one.parts)
            if not claimed.is_empty:
                here = claims[_slices(claimed.box)]
                here[...] = np.minimum(here + claimed.voxels, 2)
        return int(np.count_nonzero(claims > 1))


def encloses(outer: Region, inner: Region) -> bool:
    """Whether most of a smaller object lies in a larger one."""
    if outer.is_empty or inner.is_empty or outer.size <= inner.size:
        return False
    low, high = np.maximum(outer.box[0], inner.box[0]), np.minimum(outer.box[1], inner.box[1])
    if (low >= high).any():
        return False
    both = outer.within(np.stack([low, high])) & inner.within(np.stack([low, high]))
    return int(np.count_nonzero(both)) > _ENCLOSED * inner.size


@dataclass(frozen=True, eq=False)
class _Part:
    """What was answered of an object along one axis: its voxels on the slices that have a score."""

    region: Region
    scores: Mapping[int, float]
    axis: int
    is_proposed: bool

    @classmethod
    def of(cls, segmentation: Segmentation, is_proposed: bool) -> _Part:
        found = Region.of(segmentation.mask)
        scores, axis = dict(segmentation.scores), segmentation.axis
        return cls(_on_slices(found, axis, scores), scores, axis, is_proposed)

    def level(self, index: int) -> int:
        """How well it is known on a slice: proposed, answered, given."""
        return 0 if self.is_proposed else 2 if self.scores[index] == GIVEN else 1

    def known(self, level: int) -> Region:
        """Its voxels where it is known so well or better."""
        return _on_slices(self.region, self.axis, [index for index in self.scores if self.level(index) >= level])


@dataclass(eq=False)
class _Object:
    whole: Region | None
    parts: list[_Part] = field(default_factory=list)
    drawn: list[np.ndarray] = field(default_factory=list)


def _paint(labels: np.ndarray, best: np.ndarray, part: _Part, label: int, within: Sequence[_Part]) -> None:
    """Paint a part of an object slice by slice, but for what it leaves to the objects within it."""
    if part.region.is_empty:
        return
    box, axis = part.region.box, part.axis
    labels, best = labels[_slices(box)], best[_slices(box)]
    shown = [index for index in part.scores if box[0, axis] <= index < box[1, axis]]
    left = {level: _taken(box, [one.known(level) for one in within]) for level in map(part.level, shown)}
    for index in shown:
        at = tuple(index - box[0, axis] if along == axis else slice(None) for along in range(3))
        mask = part.region.voxels[at] & ~left[part.level(index)][at]
        score = np.float32(part.scores[index])
        won = mask & ((labels[at] == 0) | (score > best[at]))
        labels[at][won], best[at][won] = label, score


def _together(parts: Iterable[_Part]) -> Region:
    regions = [part.region for part in parts]
    box = union([region.box for region in regions])
    return Region.empty() if box is None else Region.of(_taken(box, regions), box[0])


def _taken(box: Box, regions: Iterable[Region]) -> np.ndarray:
    """(A, B, C) bool, what regions take of a box."""
    taken = np.zeros(box[1] - box[0], bool, order="F")
    for region in regions:
        taken |= region.within(box)
    return taken


def _on_slices(region: Region, axis: int, indices: Collection[int]) -> Region:
    """What a region has on some slices along an axis."""
    if region.is_empty:
        return region
    chosen = np.isin(np.arange(*region.box[:, axis]), list(indices))
    if chosen.all():
        return region
    sides = [-1 if along == axis else 1 for along in range(3)]
    return Region.of(region.voxels & chosen.reshape(sides), region.low)


def _slices(box: Box) -> tuple[slice, ...]:
    return tuple(slice(int(first), int(last)) for first, last in box.T)
