"""What a network of volumes answered in one cube or in several, and where the object goes on beyond them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from bundle.interactive.cube_predictor import ABSENT, CubeAnswer
from bundle.interactive.parts import Part, around, bounds_of, common, shifted, within_part
from bundle.interactive.slice_model import SliceMask
from bundle.prompts.interactions import Mask
from bundle.prompts.on_slices import prompts_on_slices
from bundle.prompts.prompts import ObjectPrompts
from bundle.prompts.slice_prompts import CERTAIN
from bundle.transforms.cube import Cube
from bundle.transforms.frames import SliceFrame

_EDGE = 3  # layers of cells at a face of the cube, ...
_TOUCHED = 0.002  # ... of which this share belongs to the object where it goes on beyond the face
_SLENDER = 0.4  # of the cube's side: an object no thicker than that at a face is followed along, not fitted in


@dataclass(frozen=True, eq=False)
class CubesAnswer:
    """An object as the network sees it, after some interactions.

    Attributes:
        logits: (i, j, k) float16 on the voxels of ``part``; everything beside it is not the object.
        part: of the volume.
        cubes: that were looked at.
        iou: the network's own estimate, the mean over the cubes.
        touched: whether the object goes on beyond the last cube.
        looks: how many times the network was asked.
    """

    logits: np.ndarray
    part: Part
    cubes: tuple[Cube, ...]
    iou: float
    touched: bool
    looks: int

    @classmethod
    def of(cls, answer: CubeAnswer, shape: Sequence[int], *, looks: int = 1, touched: bool = False) -> CubesAnswer:
        """The answer of one cube on the voxels of a volume of (I, J, K) ``shape``."""
        values, part = answer.cube.spread(answer.logits, shape)
        return cls(values.astype(np.float16), part, (answer.cube,), answer.iou, touched, looks)

    @classmethod
    def as_given(cls, voxels: np.ndarray, corner: Sequence[int], cube: Cube, *, iou: float = 1.0) -> CubesAnswer:
        """An answer that the network did not give itself, as certain as what somebody drew.

        Args:
            voxels: (i, j, k) bool.
            corner: (3,) voxel index of its first voxel.
            cube: around it.
            iou: that is expected of it.
        """
        part = tuple(slice(int(first), int(first) + size) for first, size in zip(corner, voxels.shape, strict=True))
        return cls(np.where(voxels, CERTAIN, -CERTAIN).astype(np.float16), part, (cube,), iou, False, 0)

    def mask(self, shape: Sequence[int]) -> np.ndarray:
        """(I, J, K) bool on the grid of the volume."""
        return self.mask_on(tuple(slice(0, size) for size in shape))

    def seen_in(self, cube: Cube, shape: Sequence[int]) -> Tensor:
        """(S, S, S) logits of it in another cube."""
        ends = zip(self.part, shape, strict=True)
        padded = tuple(slice(max(p.start - 1, 0), min(p.stop + 1, size)) for p, size in ends)
        moved = cube.at([c - p.start for c, p in zip(cube.centre, padded, strict=True)])
        return moved.sample(self.logits_on(padded).astype(np.float32), smooth=False)

    def joined(self, values: np.ndarray, part: Part, *, larger: bool = False) -> CubesAnswer:
        """With other logits on some voxels.

        Args:
            values: (i, j, k) float.
            part: where they lie.
            larger: the larger of both logits counts where both are known; otherwise the new ones.
        """
        if not values.size:
            return self
        both = around([self.part, part])
        logits, here = self.logits_on(both), within_part(part, both)
        logits[here] = np.maximum(logits[here], values) if larger else values
        return replace(self, logits=logits, part=both)

    def within(self, part: Part) -> CubesAnswer:
        """Without what lies beside a part; of what shares no voxel with it that part, of which nothing is known."""
        here = common(self.part, part) or part
        return replace(self, logits=self.logits_on(here), part=here)

    def changed_only(self, before: CubesAnswer, changed: np.ndarray, part: Part) -> CubesAnswer:
        """This answer where it changed something that counts, and the one before it elsewhere.

        Args:
            before: the answer before.
            changed: (i, j, k) bool on the voxels of a part; beside it nothing changed.
            part: where they lie.
        """
        inside = bounds_of(changed)  # elsewhere, beyond the part before, nothing is known: it needs no memory
        if inside is None:
            return replace(self, logits=before.logits, part=before.part)
        there = shifted(inside, part)
        whole = around([before.part, there])
        logits = before.logits_on(whole)
        view, here = logits[within_part(there, whole)], changed[inside]
        view[here] = self.logits_on(there)[here]
        return replace(self, logits=logits, part=whole)

    def overwritten(self, changed: np.ndarray, mask: np.ndarray, part: Part) -> CubesAnswer:
        """With some voxels as somebody said for certain that they are.

        Args:
            changed: (i, j, k) bool on the voxels of a part, those voxels.
            mask: (i, j, k) bool, the object there.
            part: where they lie.
        """
        inside = bounds_of(changed)
        if inside is None:
            return self
        there, here = shifted(inside, part), changed[inside]
        logits = self.logits_on(there)
        logits[here] = np.where(mask[inside][here], CERTAIN, -CERTAIN)
        return self.joined(logits, there)

    def differing(self, other: CubesAnswer) -> Part | None:
        """The smallest part that holds every voxel that one of two masks shows alone; None of none."""
        part = around([self.part, other.part])
        inside = bounds_of(self.mask_on(part) ^ other.mask_on(part))
        return None if inside is None else shifted(inside, part)

    def extent(self) -> tuple[np.ndarray, int] | None:
        """The object's (2, 3) lowest and highest voxel index and its number of voxels; None of an empty one."""
        shown = self.logits > 0
        inside = bounds_of(shown)
        if inside is None:
            return None
        first = [p.start for p in self.part]
        low = np.array([one.start + start for one, start in zip(inside, first, strict=True)], dtype=float)
        high = np.array([one.stop - 1 + start for one, start in zip(inside, first, strict=True)], dtype=float)
        return np.stack([low, high]), int(np.count_nonzero(shown))

    def known(self, part: Part) -> float:
        """Share of the voxels of a part that were looked at."""
        return float((self.logits_on(part) > ABSENT).mean())

    def logits_on(self, part: Part) -> np.ndarray:
        """(i, j, k) float16 on the voxels of a part, a copy."""
        values = np.full([p.stop - p.start for p in part], ABSENT, dtype=np.float16)
        if (both := common(self.part, part)) is not None:
            values[within_part(both, part)] = self.logits[within_part(both, self.part)]
        return values

    def mask_on(self, part: Part) -> np.ndarray:
        """(i, j, k) bool on the voxels of a part."""
        found = np.zeros([p.stop - p.start for p in part], dtype=bool, order="F")
        if (both := common(self.part, part)) is not None:
            found[within_part(both, part)] = self.logits[within_part(both, self.part)] > 0
        return found


def touched_faces(answer: CubeAnswer) -> list[tuple[int, int]]:
    """The faces of the cube that the object touches, as (axis of the cells, 0 or -1)."""
    faces = []
    for place in range(3):
        layers = np.moveaxis(answer.mask, place, 0)
        faces += [
            (place, end) for end in (0, -1) if (layers[:_EDGE] if end == 0 else layers[-_EDGE:]).mean() > _TOUCHED
        ]
    return faces


def slender(answer: CubeAnswer, faces: Sequence[tuple[int, int]]) -> bool:
    """Whether what touches the faces is thin beside the cube, and the object is thin and long."""
    if len({place for place, _ in faces}) != 1:
        return False
    for place, end in faces:
        layer = np.moveaxis(answer.mask, place, 0)[_EDGE if end == 0 else -_EDGE - 1]
        if not layer.any():
            continue
        extent = [np.ptp(np.flatnonzero(layer.any(axis=axis))) + 1 for axis in (0, 1)]
        if max(extent) > _SLENDER * answer.cube.cells:
            return False
    return True


def beyond(here: CubeAnswer, place: int, end: int, shape: Sequence[int]) -> tuple[Cube, Mask, int] | None:
    """Where an object goes on beyond a face of a cube.

    Args:
        here: the answer of the cube.
        place, end: the face, as ``touched_faces`` names it.
        shape: (I, J, K) of the volume.

    Returns:
        The next cube, which overlaps this one by an eighth, the section of the object that it is asked with, and the
        index of that section's slice; None where the volume ends, or the object does.
    """
    axis, inside = here.cube.axes[place], here.cube.cells // 8
    layer = np.moveaxis(here.mask, place, 0)[inside if end == 0 else -1 - inside]
    if not layer.any():
        return None
    cells = np.insert(np.argwhere(layer).mean(axis=0), place, inside if end == 0 else here.cube.cells - 1 - inside)
    centre = here.cube.to_voxels(cells)[0]
    index = round(centre[axis])
    step = here.cube.side / here.cube.spacing[axis] * 3 / 8 * (1 if end else -1)
    if not (0 <= index < shape[axis] and 0 <= round(centre[axis] + step / 3) < shape[axis]):
        return None
    values, part = here.cube.spread(here.logits, shape)
    section = values.take([index - part[axis].start], axis=axis) > 0
    if not section.any():
        return None
    corner = [p.start for p in part]
    corner[axis] = index
    centre[axis] += step
    cube = replace(here.cube.at(centre), axes=(axis, *(other for other in range(3) if other != axis)))
    return cube, Mask(section, corner=tuple(corner)).validated(shape), index


def from_slice_on(values: np.ndarray, part: Part, axis: int, index: int, end: int) -> tuple[np.ndarray, Part]:
    """Of values on a part of a volume those beyond a slice, in the direction of a face."""
    whole = part[axis]
    first, last = (max(index + 1, whole.start), whole.stop) if end else (whole.start, min(index, whole.stop))
    last = max(first, last)
    chosen, kept = [slice(None)] * 3, list(part)
    chosen[axis], kept[axis] = slice(first - whole.start, last - whole.start), slice(first, last)
    return values[tuple(chosen)], tuple(kept)


def honoured(mask: np.ndarray, prompts: ObjectPrompts, frame: SliceFrame) -> np.ndarray:
    """An (I, J, K) mask in which every interaction holds where it lies, see ``SlicePrompt.honoured``."""
    stack = frame.stack(mask)
    for index, prompt in prompts_on_slices(prompts, frame).items():
        answer = SliceMask(np.ascontiguousarray(stack[index]))
        stack[index] = (prompt.given(frame.height, frame.width) or prompt.honoured(answer)).mask
    return mask
