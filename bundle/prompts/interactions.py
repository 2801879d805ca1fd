"""What a user does to an image for one object: a point, box, scribble, lasso or mask, on the object or off it.

Positions are voxel indices (i, j, k) of the stored image, of any plane: an interaction lies where it was drawn, and the
model of slices or volumes that answers it decides what it makes of that. All of them are valid for an image only after
``validated``, which says what is wrong with one, and can be written as JSON, which a journal and a prompts file hold.
"""

from __future__ import annotations

import base64
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from bundle._moved import renamed
from bundle.errors import PromptError
from bundle.prompts.crossings import Slices, crossings_of_area, pieces_of_line, section_of_box
from bundle.prompts.drawing import densely_along, draw_area
from bundle.prompts.positions import as_rows, check_inside, checked_line, ordered_box
from bundle.prompts.simulation import tight_box
from bundle.prompts.slice_prompts import SliceInteraction
from bundle.transforms.frames import SliceFrame, nearest_index


@dataclass(frozen=True, eq=False)
class Interaction(ABC):
    """One thing that a user does.

    Attributes:
        kind: its name in JSON.
        json_keys: what its JSON must say beside kind and positive.
        positive: whether it lies on the object; otherwise it says what the object is not.
    """

    kind: ClassVar[str]
    json_keys: ClassVar[tuple[str, ...]]
    positive: bool = field(default=True, kw_only=True)

    @abstractmethod
    def validated(self, shape: Sequence[int], *, affine: np.ndarray | None = None, name: str = "object") -> Interaction:
        """The interaction with its positions as float64 arrays, if it fits a volume.

        Args:
            shape: (I, J, K) of the volume.
            affine: (4, 4) of the volume, voxel index to RAS+ mm; with it, positions outside of the volume that would
                lie inside as millimetres are refused as such.
            name: of the object, for messages.

        Raises:
            PromptError: a value that is not a number, or a position outside of the volume.
        """

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that ``interaction_from_json`` reads."""
        return {"kind": self.kind, "positive": self.positive, **self._values()}

    @abstractmethod
    def _values(self) -> dict[str, Any]: ...

    @abstractmethod
    def on_slices(self, frame: SliceFrame) -> Slices:
        """What the slices along an axis see of it, whatever plane it was drawn on; valid for the frame's volume."""

    def named_voxels(self, shape: Sequence[int]) -> np.ndarray:
        """(N, 3) int indices of the voxels that it names; none of a box, which says where to look."""
        return np.zeros((0, 3), dtype=np.int64)

    def mark(self, drawn: np.ndarray, shape: Sequence[int], low: Sequence[int] | np.ndarray = (0, 0, 0)) -> None:
        """Set where it says what is the object, or is not: the voxels that it names, and all that a box takes off.

        Args:
            drawn: (A, B, C) bool, a part of the volume.
            shape: (I, J, K) of the volume, for which it is valid.
            low: (3,) int, voxel index where the part begins.
        """
        where = self.named_voxels(shape) - np.asarray(low)
        drawn[tuple(where[((where >= 0) & (where < drawn.shape)).all(axis=1)].T)] = True

    def same(self, other: Interaction) -> bool:
        """Whether both say the same."""
        return self is other or (type(self) is type(other) and self.to_json() == other.to_json())


@dataclass(frozen=True, eq=False)
class Point(Interaction):
    """A click; ``voxel`` is (3,) float."""

    kind: ClassVar[str] = "point"
    json_keys: ClassVar[tuple[str, ...]] = ("voxel",)
    voxel: np.ndarray

    def validated(self, shape: Sequence[int], *, affine: np.ndarray | None = None, name: str = "object") -> Point:
        """As ``Interaction``."""
        voxel = as_rows(self.voxel, "points", 3)
        check_inside(voxel, shape, affine)
        return replace(self, voxel=voxel[0])

    def on_slices(self, frame: SliceFrame) -> Slices:
        """As ``Interaction``: a point on its slice."""
        xy, (index,) = frame.to_pixels(self.voxel)
        return {int(index): [SliceInteraction("point", xy, self.positive)]}

    def named_voxels(self, shape: Sequence[int]) -> np.ndarray:
        """As ``Interaction``."""
        return nearest_index(np.reshape(self.voxel, (1, 3)), shape)

    def _values(self) -> dict[str, Any]:
        return {"voxel": np.asarray(self.voxel, dtype=float).tolist()}


@dataclass(frozen=True, eq=False)
class Box(Interaction):
    """A box; ``corners`` is (2, 3) float, two opposite corners, both inclusive, lowest first once it is valid.

    A box that is one voxel thick along an axis is a 2D box on that slice. One that leaves the volume is clipped, which
    is logged; one that has no voxel of it is refused.
    """

    kind: ClassVar[str] = "box"
    json_keys: ClassVar[tuple[str, ...]] = ("corners",)
    corners: np.ndarray

    def validated(self, shape: Sequence[int], *, affine: np.ndarray | None = None, name: str = "object") -> Box:
        """As ``Interaction``."""
        return replace(self, corners=ordered_box(self.corners, shape, affine, name))

    def on_slices(self, frame: SliceFrame) -> Slices:
        """As ``Interaction``: its cross-section on every slice that it covers."""
        xy, (first, last) = section_of_box(self.corners, frame)
        return {index: [SliceInteraction("box", xy, self.positive)] for index in range(first, last + 1)}

    def mark(self, drawn: np.ndarray, shape: Sequence[int], low: Sequence[int] | np.ndarray = (0, 0, 0)) -> None:
        """As ``Interaction``: a box around the object only says where to look."""
        if not self.positive:
            first, last = nearest_index(self.corners, shape) - np.asarray(low)
            drawn[tuple(slice(max(a, 0), max(b + 1, 0)) for a, b in zip(first, last, strict=True))] = True

    def _values(self) -> dict[str, Any]:
        return {"corners": np.asarray(self.corners, dtype=float).tolist()}


@dataclass(frozen=True, eq=False)
class Scribble(Interaction):
    """A stroke; ``path`` is (N, 3) float, the positions that it passes through in their order."""

    kind: ClassVar[str] = "scribble"
    json_keys: ClassVar[tuple[str, ...]] = ("path",)
    path: np.ndarray

    def validated(self, shape: Sequence[int], *, affine: np.ndarray | None = None, name: str = "object") -> Scribble:
        """As ``Interaction``."""
        return replace(self, path=checked_line(self.path, "scribble", 1, shape, affine))

    def on_slices(self, frame: SliceFrame) -> Slices:
        """As ``Interaction``: the pieces of the line that lie on each slice."""
        return pieces_of_line(self.path, frame, self.positive)

    def named_voxels(self, shape: Sequence[int]) -> np.ndarray:
        """As ``Interaction``: those that the line passes."""
        return np.unique(nearest_index(densely_along(self.path), shape), axis=0)

    def _values(self) -> dict[str, Any]:
        return {"path": np.asarray(self.path, dtype=float).tolist()}


@dataclass(frozen=True, eq=False)
class Lasso(Interaction):
    """A line around something on one slice; ``outline`` is (N, 3) float, the corners of a polygon that closes itself.

    One of its three indices is the same for all corners: the slice that it was drawn on.
    """

    kind: ClassVar[str] = "lasso"
    json_keys: ClassVar[tuple[str, ...]] = ("outline",)
    outline: np.ndarray

    @property
    def axis(self) -> int:
        """The stored axis that it is flat along, the last one where there are several."""
        flat = np.flatnonzero(np.ptp(np.asarray(self.outline, dtype=float), axis=0) == 0)
        return int(flat[-1])

    def validated(self, shape: Sequence[int], *, affine: np.ndarray | None = None, name: str = "object") -> Lasso:
        """As ``Interaction``; PromptError also for a line that does not lie on one slice."""
        outline = checked_line(self.outline, "lasso", 3, shape, affine)
        indices = nearest_index(outline, shape)
        flat = np.flatnonzero(np.ptp(indices, axis=0) == 0)
        if not len(flat):
            low, high = indices.min(axis=0).tolist(), indices.max(axis=0).tolist()
            raise PromptError(f"a lasso must lie on one slice, got corners from {low} to {high}; draw it on one plane")
        if not (np.ptp(outline, axis=0) == 0).any():  # between slices: on the one that it is nearest to
            outline[:, flat[-1]] = indices[0, flat[-1]]
        return replace(self, outline=outline)

    def on_slices(self, frame: SliceFrame) -> Slices:
        """As ``Interaction``: the line on its own slice; slices that cross it see where they do, as scribbles.

        A lasso is drawn roughly: of one around the object they see the middle half of each crossing.
        """
        outline = np.asarray(self.outline, dtype=float)
        if np.ptp(outline[:, frame.slice_axis]) == 0:
            closed = densely_along(np.concatenate([outline, outline[:1]]))  # in voxels, see ``pieces_of_line``
            xy, indices = frame.to_pixels(closed)
            return {int(indices[0]): [SliceInteraction("lasso", xy, self.positive)]}
        return crossings_of_area(
            self.named_voxels(frame.shape), frame, self.positive, share=0.5 if self.positive else 1.0
        )

    def named_voxels(self, shape: Sequence[int]) -> np.ndarray:
        """As ``Interaction``: those inside, and those that the line passes."""
        across = self.axis
        first, second = (axis for axis in range(3) if axis != across)
        outline = np.asarray(self.outline, dtype=float)
        rows, columns = np.nonzero(draw_area(outline[:, [second, first]], shape[first], shape[second]))
        found = np.empty((len(rows), 3), dtype=np.int64)
        found[:, first], found[:, second] = rows, columns
        found[:, across] = nearest_index(outline[0, across], shape[across])
        return found

    def _values(self) -> dict[str, Any]:
        return {"outline": np.asarray(self.outline, dtype=float).tolist()}


@dataclass(frozen=True, eq=False)
class Mask(Interaction):
    """A segmentation as it is, to start from or to refine: on the slices that it covers, the object is this.

    Attributes:
        voxels: (i, j, k) bool, on the grid of the volume, or on the part of it from ``corner`` on; once it is valid, on
            the smallest part that holds it, so that many masks of single slices need little memory.
        corner: (i, j, k) of the part's first voxel; None for the whole grid.
    """

    kind: ClassVar[str] = "mask"
    json_keys: ClassVar[tuple[str, ...]] = ("shape", "bits")
    voxels: np.ndarray
    corner: tuple[int, int, int] | None = field(default=None, kw_only=True)

    def validated(self, shape: Sequence[int], *, affine: np.ndarray | None = None, name: str = "object") -> Mask:
        """As ``Interaction``; PromptError for another grid, or where nothing is set."""
        voxels, corner = np.asarray(self.voxels) != 0, np.asarray((0, 0, 0) if self.corner is None else self.corner)
        if voxels.ndim != 3 or (self.corner is None and voxels.shape != tuple(shape)):
            raise PromptError(f"the mask of {name!r} must have {tuple(shape)} voxels, got {voxels.shape}")
        if corner.shape != (3,) or corner.dtype.kind not in "iu":
            raise PromptError(
                f"the corner of the mask of {name!r} must be three whole numbers, got {self.corner!r:.80}"
            )
        if (corner < 0).any() or (corner + voxels.shape > shape).any():
            raise PromptError(
                f"the mask of {name!r} must lie in {tuple(shape)} voxels, got {voxels.shape} from {corner.tolist()} on"
            )
        if not voxels.any():
            raise PromptError(f"the mask of {name!r} is empty; leave it out")
        low, high = np.split(tight_box(voxels).astype(int), 2)
        part = tuple(slice(first, last + 1) for first, last in zip(low, high, strict=True))
        return replace(self, voxels=voxels[part].copy(), corner=tuple((corner + low).tolist()))

    def on_slices(self, frame: SliceFrame) -> Slices:
        """As ``Interaction``: its part on each slice; where it is a single slice of another plane, as a scribble."""
        corner = np.asarray(self.corner or (0, 0, 0))
        others = [axis for axis in range(3) if axis != frame.slice_axis and frame.shape[axis] > 1]
        if self.voxels.shape[frame.slice_axis] > 1 and any(self.voxels.shape[axis] == 1 for axis in others):
            return crossings_of_area(self.named_voxels(frame.shape), frame, self.positive)
        part = replace(frame, shape=self.voxels.shape)
        ends, _ = frame.to_pixels(np.stack([corner, corner + self.voxels.shape - 1]))
        found = {}
        for index, area in enumerate(part.stack(self.voxels)):
            if area.any():
                first = ends.min(axis=0)[None]
                found[int(corner[frame.slice_axis]) + index] = [SliceInteraction("mask", first, self.positive, area)]
        return found

    def named_voxels(self, shape: Sequence[int]) -> np.ndarray:
        """As ``Interaction``."""
        return np.argwhere(self.voxels) + (self.corner or (0, 0, 0))

    def mark(self, drawn: np.ndarray, shape: Sequence[int], low: Sequence[int] | np.ndarray = (0, 0, 0)) -> None:
        """As ``Interaction``; without a list of its voxels, which takes 24 times the memory."""
        begin = np.asarray(self.corner or (0, 0, 0)) - np.asarray(low)
        first, last = np.maximum(begin, 0), np.minimum(begin + self.voxels.shape, drawn.shape)
        if (first < last).all():
            own = tuple(slice(a, b) for a, b in zip(first - begin, last - begin, strict=True))
            drawn[tuple(slice(a, b) for a, b in zip(first, last, strict=True))] |= self.voxels[own] != 0

    def same(self, other: Interaction) -> bool:
        """Whether both say the same."""
        if self is other or not isinstance(other, Mask):
            return self is other
        alike = (self.positive, self.corner) == (other.positive, other.corner)
        return alike and np.array_equal(np.asarray(self.voxels) != 0, np.asarray(other.voxels) != 0)

    def _values(self) -> dict[str, Any]:
        voxels = np.asarray(self.voxels) != 0
        bits = base64.b64encode(zlib.compress(np.packbits(voxels), 1)).decode()
        corner = {} if self.corner is None else {"corner": list(self.corner)}
        return {"shape": list(voxels.shape), "bits": bits, **corner}


__getattr__ = renamed(__name__)


KINDS: dict[str, type[Interaction]] = {one.kind: one for one in (Point, Box, Scribble, Lasso, Mask)}
"""The kinds of interaction by their names in JSON."""
