"""The label map of a session's objects, or of a part of the volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bundle.data.values import smallest_unsigned
from bundle.interactive.label_map import LabelMap
from bundle.interactive.objects import Objects, SegmentedObject
from bundle.interactive.regions import Box, Region, union
from bundle.prompts.interactions import Mask
from bundle.prompts.prompts import ObjectPrompts


def label_map(objects: Objects, masks: Mapping[int, Region], box: Box, shape: Sequence[int]) -> np.ndarray:
    """The label map of a box by the overlap rule (`LabelMap`), which shows what the one of the volume shows there.

    Args:
        objects: of the session.
        masks: id -> what the object takes.
        box: half-open.
        shape: (I, J, K) of the volume.

    Returns:
        (A, B, C) of the smallest unsigned type that holds the labels.
    """
    highest = max((one.label for one in objects), default=0)
    labels = np.zeros(box[1] - box[0], smallest_unsigned(highest), order="F")
    around = union([_meet(masks[one.id].box, box) for one in objects if one.id in masks])
    if around is None:
        return labels
    here = [(one, masks[one.id].within(around)) for one in objects if one.id in masks]
    locked = np.zeros(around[1] - around[0], labels.dtype, order="F")
    for one, mask in here:
        if one.locked:
            locked[mask] = one.label
    gathered = LabelMap(locked.shape, locked=locked)
    for one, mask in here:
        if not one.locked and mask.any():
            _gather(gathered, one, mask, masks[one.id], around[0], shape)
    inner = tuple(slice(a, b) for a, b in zip(around[0] - box[0], around[1] - box[0], strict=True))
    labels[inner] = gathered.labels
    return labels


def _gather(
    gathered: LabelMap, one: SegmentedObject, mask: np.ndarray, whole: Region, low: np.ndarray, shape: Sequence[int]
) -> None:
    parts = one.segmentations(mask, low)
    for number, part in enumerate(parts, start=1):
        prompts = _drawn_in(one, whole, low, mask.shape, shape) if number == len(parts) else None
        gathered.add(part, one.label, prompts, whole=whole, unprompted=one.unprompted)


def _drawn_in(
    one: SegmentedObject, whole: Region, low: np.ndarray, sides: Sequence[int], shape: Sequence[int]
) -> ObjectPrompts:
    """What was drawn on an object in a box of the volume, where it has voxels, as a mask in indices of the box."""
    positive, found = [given for given in one.interactions if given.positive], []
    box = _meet(whole.box, np.stack([low, low + sides])) if positive else None
    if box is not None:
        drawn = np.zeros(box[1] - box[0], bool)
        for given in positive:
            given.mark(drawn, shape, box[0])
        found = [Mask(drawn, corner=tuple((box[0] - low).tolist()))]
    return ObjectPrompts(found, name=one.name, label=one.label)


def _meet(one: Box | None, other: Box) -> Box | None:
    if one is None:
        return None
    low, high = np.maximum(one[0], other[0]), np.minimum(one[1], other[1])
    return np.stack([low, high]) if (low < high).all() else None
