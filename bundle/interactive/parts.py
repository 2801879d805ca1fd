"""A part of a volume, so that a click costs what the object and the look at it take and not what the volume has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np

from bundle.prompts.simulation import tight_box
from bundle.transforms.frames import SliceFrame

Part = tuple[slice, slice, slice]
"""Of a volume, along its three axes; start and stop are voxel indices."""


def bounds_of(voxels: np.ndarray) -> Part | None:
    """The smallest part of (I, J, K) bool that holds all true voxels; None of none."""
    if not voxels.any():
        return None
    ends = [np.flatnonzero(voxels.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return tuple(slice(int(end[0]), int(end[-1]) + 1) for end in ends)


def around(parts: Iterable[Part]) -> Part:
    """The smallest part that holds all of some, of which there is at least one."""
    return reduce(_around_both, parts)


def within_part(inner: Part, outer: Part) -> Part:
    """Where a part lies in an array that holds another one around it."""
    return tuple(slice(q.start - p.start, q.stop - p.start) for q, p in zip(inner, outer, strict=True))


def shifted(inner: Part, outer: Part) -> Part:
    """Where a part of an array lies in the volume that the array is a part of; the inverse of ``within_part``."""
    return tuple(slice(q.start + p.start, q.stop + p.start) for q, p in zip(inner, outer, strict=True))


def common(one: Part, other: Part) -> Part | None:
    """What two parts share; None of nothing."""
    both = tuple(slice(max(p.start, q.start), min(p.stop, q.stop)) for p, q in zip(one, other, strict=True))
    return both if all(p.start < p.stop for p in both) else None


@dataclass(frozen=True)
class PartSlices:
    """The slices of a volume as far as a part of it reaches: of pictures (H, W), some rows and columns.

    Attributes:
        frame: of the slices of the whole volume.
        part: along (i, j, k).
    """

    frame: SliceFrame
    part: Part

    @classmethod
    def holding(cls, frame: SliceFrame, masks: Mapping[int, np.ndarray]) -> PartSlices | None:
        """The smallest part that holds (H, W) masks of some slices; None where all of them are empty."""
        boxes = {index: tight_box(mask).astype(int) for index, mask in masks.items() if mask.any()}
        if not boxes:
            return None
        x0, y0 = np.min([box[:2] for box in boxes.values()], axis=0).tolist()
        x1, y1 = (np.max([box[2:] for box in boxes.values()], axis=0) + 1).tolist()
        part = [slice(min(boxes), max(boxes) + 1)] * 3
        part[frame.row_axis] = _flipped(slice(y0, y1), frame.height) if frame.row_flip else slice(y0, y1)
        part[frame.col_axis] = _flipped(slice(x0, x1), frame.width) if frame.col_flip else slice(x0, x1)
        return cls(frame, tuple(part))

    @property
    def indices(self) -> range:
        """The slices, by their index in the volume."""
        along = self.part[self.frame.slice_axis]
        return range(along.start, along.stop)

    @cached_property
    def pixels(self) -> tuple[slice, slice]:
        """The rows and columns of a picture."""
        frame, part = self.frame, self.part
        rows, columns = part[frame.row_axis], part[frame.col_axis]
        return (
            _flipped(rows, frame.height) if frame.row_flip else rows,
            _flipped(columns, frame.width) if frame.col_flip else columns,
        )

    def stack(self, voxels: np.ndarray) -> np.ndarray:
        """(d, h, w) view of an (i, j, k) array on the part, writable if that is."""
        return replace(self.frame, shape=voxels.shape).stack(voxels)

    def voxels(self, stack: np.ndarray) -> np.ndarray:
        """The inverse of ``stack``: a copy, (i, j, k)."""
        found = np.empty([p.stop - p.start for p in self.part], dtype=stack.dtype, order="F")
        self.stack(found)[...] = stack
        return found

    def cut(self, masks: Mapping[int, np.ndarray]) -> np.ndarray:
        """(d, h, w) bool of what (H, W) masks show on the part; a slice without one shows nothing."""
        rows, columns = self.pixels
        found = np.zeros((len(self.indices), rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
        for place, index in enumerate(self.indices):
            if index in masks:
                found[place] = masks[index][self.pixels]
        return found

    def pictures(self, stack: np.ndarray) -> dict[int, np.ndarray]:
        """Slice index -> (H, W) of each slice that something of a (d, h, w) stack lies on, which is 0 elsewhere."""
        found = {}
        for place in np.flatnonzero(stack.any(axis=(1, 2))).tolist():
            picture = np.zeros((self.frame.height, self.frame.width), dtype=stack.dtype)
            picture[self.pixels] = stack[place]
            found[self.indices[place]] = picture
        return found


def _around_both(one: Part, other: Part) -> Part:
    return tuple(slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in zip(one, other, strict=True))


def _flipped(along: slice, size: int) -> slice:
    """A range of indices counted from the other end."""
    return slice(size - along.stop, size - along.start)
