"""Objects that may overlap, gathered into one label map: the one overlap rule of session, app, batch and demo."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bundle.data.values import smallest_unsigned
from bundle.interactive.regions import Box, Region, union
from bundle.interactive.segmentation import Segmentation
from bundle.prompts.prompts import ObjectPrompts

_ENCLOSED = 0.5  # share of the smaller object: most of it lies in the larger one
_SMALLER = 0.8  # of the larger one's size, at most: two answers to one question are not within each other


class LabelMap:
    """Gathers objects that may overlap. A voxel that several of them claim goes to one by the first rule that decides:

    1. A locked object is never painted over.
    2. What was drawn on an object, by a click, scribble, lasso or mask, belongs to it; to the last one where several
       were drawn there.
    3. An object leaves a smaller one that lies in it (`enclosed`) its voxels, so that a tumour is seen in its organ in
       whatever order they came. What was asked for or given leaves nothing to what something found by itself.
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
        unprompted: bool = False,
    ) -> None:
        """Add an object, or a part of one.

        Args:
            segmentation: of the object; only the slices that have a score count.
            label: its value.
            prompts: what it was asked with, valid for the volume; what was drawn on the object stays with it.
            whole: all of the object, where this is a label map of a part of the volume; in indices of any origin that
                is the same for all objects.
            unprompted: whether something found it by itself.
        """
        one = self._objects.setdefault(label, _Object(whole, unprompted))
        one.parts.append(_Part.of(segmentation))
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
        objects = list(self._objects.values())
        within = enclosed([one.whole or _together(one.parts) for one in objects])
        for (label, one), inner in zip(self._objects.items(), within, strict=True):
            seen = [objects[at] for at in inner if one.unprompted or not objects[at].unprompted]
            for part in one.parts:
                _paint(labels, best, part, label, [other.region for found in seen for other in found.parts])
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


def enclosed(regions: Sequence[Region]) -> list[list[int]]:
    """Of each of some objects the places of those that are smaller and lie in it for the most part."""
    held = [place for place, region in enumerate(regions) if not region.is_empty]
    boxes, sizes = [regions[place].box for place in held], np.array([regions[place].size for place in held])
    lows, highs = (np.array([box[end] for box in boxes]).reshape(-1, 3) for end in (0, 1))
    found: list[list[int]] = [[] for _ in regions]
    for place, outer in enumerate(held):
        meet = (lows < highs[place]).all(axis=1) & (lows[place] < highs).all(axis=1)
        for other in np.flatnonzero(meet & (sizes <= _SMALLER * sizes[place])).tolist():
            both = np.stack([np.maximum(lows[place], lows[other]), np.minimum(highs[place], highs[other])])
            shared = regions[outer].within(both) & regions[held[other]].within(both)
            if np.count_nonzero(shared) > _ENCLOSED * sizes[other]:
                found[outer].append(held[other])
    return found


@dataclass(frozen=True, eq=False)
class _Part:
    """What was answered of an object along one axis: its voxels on the slices that have a score."""

    region: Region
    scores: Mapping[int, float]
    axis: int

    @classmethod
    def of(cls, segmentation: Segmentation) -> _Part:
        scores, axis = dict(segmentation.scores), segmentation.axis
        return cls(_on_slices(Region.of(segmentation.mask), axis, scores), scores, axis)


@dataclass(eq=False)
class _Object:
    whole: Region | None
    unprompted: bool
    parts: list[_Part] = field(default_factory=list)
    drawn: list[np.ndarray] = field(default_factory=list)


def _paint(labels: np.ndarray, best: np.ndarray, part: _Part, label: int, within: Sequence[Region]) -> None:
    """Paint a part of an object slice by slice, but for what it leaves to the objects within it."""
    if part.region.is_empty:
        return
    box, axis = part.region.box, part.axis
    labels, best = labels[_slices(box)], best[_slices(box)]
    own = part.region.voxels & ~_taken(box, within) if within else part.region.voxels
    for index in (index for index in part.scores if box[0, axis] <= index < box[1, axis]):
        at = tuple(index - box[0, axis] if along == axis else slice(None) for along in range(3))
        score = np.float32(part.scores[index])
        won = own[at] & ((labels[at] == 0) | (score > best[at]))
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
