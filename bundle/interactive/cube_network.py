"""A volume model that asks a network of volumes: a cube around the prompt that grows or slides along the object."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np
from torch import Tensor

from bundle.data.volume import Volume
from bundle.interactive.cube_predictor import ABSENT, CubeAnswer, CubePredictor, VolumeView
from bundle.interactive.segmentation import Segmentation, Timer
from bundle.interactive.slice_model import SliceMask
from bundle.interactive.volume_model import Progress, VolumePrediction
from bundle.prompts.cube_maps import area_axis, flat_axis
from bundle.prompts.interactions import Box, Interaction, Lasso, Mask
from bundle.prompts.on_slices import prompts_on_slices
from bundle.prompts.prompts import ObjectPrompts
from bundle.transforms.cube import Cube
from bundle.transforms.frames import SliceFrame

# Sides of the first cube, in multiples of the prompt's longest side, and its least side in mm: as in training, where
# the cube is 1.25 to 3.2 times as long as the object.
_AROUND_SLICE = 2.0
_AROUND_BOX = 1.6
_SMALLEST = 24.0
_AROUND_POINT = 80.0  # mm; a point does not say how large the object is
_GROWTH = 1.5
_GROWTHS = 3
_EDGE = 3  # layers of cells at a face of the cube, ...
_TOUCHED = 0.002  # ... of which this share belongs to the object where it goes on beyond the face
_SLENDER = 0.4  # of the cube's side: an object no thicker than that at a face is followed along, not fitted in
_SLIDES = 12  # cubes along an object at most
_SMALL = 3.2  # times as long as the object, see above: the cube around a point is drawn closer


@dataclass(frozen=True, eq=False)
class CubesAnswer:
    """An object as the network sees it, after some interactions.

    Attributes:
        logits: (I, J, K) float16 on the voxels of ``part``; everything beside it is not the object.
        part: of the volume.
        cubes: that were looked at, the last answer of each place.
        iou: the network's own estimate, the mean over the cubes.
        touched: whether the object goes on beyond the last cube.
        looks: how many times the network was asked.
    """

    logits: np.ndarray
    part: tuple[slice, slice, slice]
    cubes: tuple[Cube, ...]
    iou: float
    touched: bool
    looks: int

    def mask(self, shape: Sequence[int]) -> np.ndarray:
        """(I, J, K) bool on the grid of the volume."""
        whole = np.zeros(tuple(shape), dtype=bool, order="F")
        whole[self.part] = self.logits > 0
        return whole

    def seen_in(self, cube: Cube, shape: Sequence[int]) -> Tensor:
        """(S, S, S) logits of it in another cube."""
        padded = tuple(
            slice(max(p.start - 1, 0), min(p.stop + 1, size)) for p, size in zip(self.part, shape, strict=True)
        )
        values = np.full([p.stop - p.start for p in padded], ABSENT, dtype=np.float32)
        inner = tuple(slice(p.start - q.start, p.stop - q.start) for p, q in zip(self.part, padded, strict=True))
        values[inner] = self.logits
        moved = cube.at([c - p.start for c, p in zip(cube.centre, padded, strict=True)])
        return moved.sample(values, smooth=False)


@dataclass(frozen=True, eq=False)
class _Steps:
    """One object after its start, and after each further interaction."""

    axis: int
    given: tuple[Interaction, ...]
    states: tuple[CubesAnswer, ...]

    def known(self, given: Sequence[Interaction]) -> int:
        answered = zip(self.given, given, strict=False)
        return sum(takewhile(bool, (one.same(other) for one, other in answered)))


class CubeNetwork:
    """Asks a network of volumes for an object, as a ``VolumeModel``.

    The first interaction on the object starts it: the network looks at a cube around it. Where the answer touches a
    face of the cube, the cube grows and is asked again with the answer so far; where what touches the face is slender,
    as a vessel is, the next cube stands beyond that face and is asked with the section that the object has there. Each
    further interaction is asked together with those before it and with the answer so far.

    Args:
        predictor: the network.
    """

    def __init__(self, predictor: CubePredictor) -> None:
        self.predictor = predictor

    @property
    def identity(self) -> str:
        """As ``VolumeModel``."""
        return f"{type(self).__name__} {self.predictor.identity} {self.predictor.contract}"

    def start(self, volume: Volume) -> VolumeView:
        """See ``VolumeModel``."""
        return self.predictor.view(volume)

    def predict(
        self,
        state: VolumeView,
        prompts: ObjectPrompts,
        previous: VolumePrediction | None,
        *,
        axis: int = 2,
        progress: Progress | None = None,
        limits: tuple[int, int] | None = None,
    ) -> VolumePrediction:
        """As ``VolumeModel``; ``progress`` is called with the middle slice of each cube."""
        timer, shape = Timer(), state.volume.shape
        frame = SliceFrame.along(shape, state.volume.affine, axis)
        given = started_first(prompts.interactions)
        before = None if previous is None else previous.memory
        known = 0 if before is None or before.axis != axis else before.known(given)
        states = list(before.states[:known]) if known else [self.begin(state, given[0], axis=axis, progress=progress)]
        for count in range(len(states) + 1, len(given) + 1):
            states.append(self._corrected(state, states[-1], given[:count], axis, progress))
        mask = honoured(states[-1].mask(shape), prompts, frame)
        if limits is not None:
            outside = np.ones(frame.depth, dtype=bool)
            outside[limits[0] : limits[1] + 1] = False
            frame.stack(mask)[outside] = False
        shown = np.flatnonzero(frame.stack(mask).any(axis=(1, 2)))
        scores = dict.fromkeys(shown.tolist() or [0], states[-1].iou)
        found = Segmentation(mask, scores, axis, timer.total(), 0)
        return VolumePrediction(found, _Steps(axis, tuple(given), tuple(states)))

    # ---- the start --------------------------------------------------------------------------------------------------

    def begin(
        self, view: VolumeView, start: Interaction, *, axis: int, progress: Progress | None = None
    ) -> CubesAnswer:
        """The object as its start alone shows it."""
        given = as_answer(start, view.volume.shape)
        if given is not None:
            return given
        cube = self._first_cube(view, start, axis)
        answer = self._look(view, cube, [start], None, progress)
        looks, grown = 1, 0
        extent = answer.extent()
        pointed = start.kind in ("point", "scribble")
        if pointed and extent is not None and not touched_faces(answer):
            around = Cube.around(extent, spacing=cube.spacing, axis=axis, cells=cube.cells, margin=_AROUND_SLICE)
            if cube.side > _SMALL / _AROUND_SLICE * around.side:
                closer = replace(around, side=max(around.side, _SMALLEST))
                so_far = self._carried(view, answer, closer)
                answer, looks = self._look(view, closer, [start], so_far, progress), looks + 1
        while (faces := touched_faces(answer)) and grown < _GROWTHS and not _slender(answer, faces):
            if answer.cube.side > 2 * _longest(view.volume):  # all of the volume is in it
                break
            larger = answer.cube.grown(_GROWTH)
            answer = self._look(view, larger, [start], self._carried(view, answer, larger), progress)
            looks, grown = looks + 1, grown + 1
        found = self._pasted(view, answer, looks, bool(faces))
        if faces and _slender(answer, faces):
            found = self._slid(view, answer, found, progress)
        return found

    def _first_cube(self, view: VolumeView, start: Interaction, axis: int) -> Cube:
        shape = np.array(view.volume.shape)
        if isinstance(start, Box):
            flat, corners = flat_axis(start.corners), np.asarray(start.corners, dtype=float)
            axis, margin, smallest = (
                axis if flat is None else flat,
                _AROUND_BOX if flat is None else _AROUND_SLICE,
                _SMALLEST,
            )
        elif isinstance(start, Lasso | Mask):
            voxels = start.named_voxels(shape)
            corners = np.stack([voxels.min(axis=0), voxels.max(axis=0)])
            axis, margin, smallest = area_axis(start), _AROUND_SLICE, _SMALLEST
        else:
            voxels = start.named_voxels(shape)
            corners = np.stack([voxels.min(axis=0), voxels.max(axis=0)])
            margin, smallest = _AROUND_SLICE, min(_AROUND_POINT, _longest(view.volume))
        return Cube.around(
            corners,
            spacing=view.volume.spacing,
            axis=axis,
            cells=self.predictor.cells,
            margin=margin,
            smallest=smallest,
        )

    def _slid(self, view: VolumeView, first: CubeAnswer, found: CubesAnswer, progress: Progress | None) -> CubesAnswer:
        """The object with what lies beyond the faces that it touches, cube by cube along it."""
        shape, waiting = view.volume.shape, deque([first])
        ious, cubes, looks = [first.iou], [first.cube], found.looks
        logits = np.full(shape, ABSENT, dtype=np.float16)
        logits[found.part] = found.logits
        while waiting and len(cubes) <= _SLIDES:
            here = waiting.popleft()
            for place, end in touched_faces(here):
                step = _beyond(here, place, end, shape)
                if step is None or len(cubes) > _SLIDES:
                    continue
                cube, section, beyond = step
                axis = here.cube.axes[place]
                cube = replace(cube, axes=(axis, *(other for other in range(3) if other != axis)))
                answer = self._look(view, cube, [section], None, progress)
                looks += 1
                values, part = cube.spread(answer.logits, shape)
                part, values = _only(part, values, axis, beyond, end)
                if not (values > 0).any() or (logits[part] > ABSENT).mean() > 0.9:
                    continue
                known = logits[part] > ABSENT
                logits[part] = np.where(known, np.maximum(logits[part], values), values)
                ious.append(answer.iou)
                cubes.append(cube)
                waiting.append(answer)
        return _trimmed(logits, tuple(cubes), float(np.mean(ious)), bool(waiting), looks)

    # ---- corrections ------------------------------------------------------------------------------------------------

    def _corrected(
        self,
        view: VolumeView,
        before: CubesAnswer,
        given: Sequence[Interaction],
        axis: int,
        progress: Progress | None,
    ) -> CubesAnswer:
        """The object after the last of these interactions, in the cube of those before that it lies nearest to."""
        last, shape = given[-1], view.volume.shape
        if (whole := as_answer(last, shape)) is not None:
            return whole
        voxels = last.named_voxels(shape) if not isinstance(last, Box) else np.asarray(last.corners, dtype=float)
        corners = np.stack([voxels.min(axis=0), voxels.max(axis=0)])
        cube = min(before.cubes, key=lambda one: np.abs((corners.mean(axis=0) - one.centre) * one.spacing).max())
        reach = max(float(np.abs((corner - cube.centre) * cube.spacing).max()) for corner in corners)
        if 2 * reach > 0.9 * cube.side:
            cube = cube.grown(2 * reach / (0.9 * cube.side))
        answer = self._look(view, cube, given, before.seen_in(cube, shape), progress)
        values, part = cube.spread(answer.logits, shape)
        logits = np.full(shape, ABSENT, dtype=np.float16)
        logits[before.part] = before.logits
        logits[part] = values
        cubes = (*(one for one in before.cubes if one.centre != cube.centre), cube)
        return _trimmed(logits, cubes, answer.iou, before.touched, before.looks + 1)

    # ---- what is asked ----------------------------------------------------------------------------------------------

    def _look(
        self,
        view: VolumeView,
        cube: Cube,
        interactions: Sequence[Interaction],
        so_far: Tensor | None,
        progress: Progress | None,
    ) -> CubeAnswer:
        if progress is not None:
            middle = round(cube.centre[cube.axes[0]])
            progress(int(np.clip(middle, 0, view.volume.shape[cube.axes[0]] - 1)))
        return self.predictor.predict(view, cube, interactions, so_far)

    def _carried(self, view: VolumeView, answer: CubeAnswer, cube: Cube) -> Tensor:
        return self._pasted(view, answer, 1, False).seen_in(cube, view.volume.shape)

    def _pasted(self, view: VolumeView, answer: CubeAnswer, looks: int, touched: bool) -> CubesAnswer:
        values, part = answer.cube.spread(answer.logits, view.volume.shape)
        return CubesAnswer(values.astype(np.float16), part, (answer.cube,), answer.iou, touched, looks)


def started_first(interactions: Sequence[Interaction]) -> list[Interaction]:
    """The first interaction on the object, and the others in their order."""
    first = next(place for place, one in enumerate(interactions) if one.positive)
    return [interactions[first], *interactions[:first], *interactions[first + 1 :]]


def as_answer(start: Interaction, shape: Sequence[int]) -> CubesAnswer | None:
    """A segmentation of several slices, which is its own answer; None of anything else."""
    if not isinstance(start, Mask) or not start.positive or area_axis(start) is not None:
        return None
    low = np.asarray(start.corner or (0, 0, 0))
    voxels = np.asarray(start.voxels, dtype=bool)
    part = tuple(slice(int(first), int(first) + size) for first, size in zip(low, voxels.shape, strict=True))
    spacing = (1.0, 1.0, 1.0)
    cube = Cube.around(np.stack([low, low + voxels.shape - 1]), spacing=spacing, axis=2, cells=2, margin=_AROUND_BOX)
    return CubesAnswer(np.where(voxels, 8.0, -8.0).astype(np.float16), part, (cube,), 1.0, False, 0)


def honoured(mask: np.ndarray, prompts: ObjectPrompts, frame: SliceFrame) -> np.ndarray:
    """An (I, J, K) mask in which every interaction holds where it lies, see ``SlicePrompt.honoured``."""
    stack = frame.stack(mask)
    for index, prompt in prompts_on_slices(prompts, frame).items():
        answer = SliceMask(np.ascontiguousarray(stack[index]))
        stack[index] = (prompt.given(frame.height, frame.width) or prompt.honoured(answer)).mask
    return mask


def touched_faces(answer: CubeAnswer) -> list[tuple[int, int]]:
    """The faces of the cube that the object touches, as (axis of the cells, 0 or -1)."""
    faces = []
    for place in range(3):
        layers = np.moveaxis(answer.mask, place, 0)
        faces += [
            (place, end) for end in (0, -1) if (layers[:_EDGE] if end == 0 else layers[-_EDGE:]).mean() > _TOUCHED
        ]
    return faces


def _slender(answer: CubeAnswer, faces: Sequence[tuple[int, int]]) -> bool:
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


def _beyond(here: CubeAnswer, place: int, end: int, shape: Sequence[int]) -> tuple[Cube, Mask, int] | None:
    """The next cube beyond a face, the section of the object that it is asked with, and the index of its slice."""
    axis, cells = here.cube.axes[place], here.cube.cells
    inside = cells // 8
    layer = np.moveaxis(here.mask, place, 0)[inside if end == 0 else -1 - inside]
    if not layer.any():
        return None
    middle = np.insert(np.argwhere(layer).mean(axis=0), place, inside if end == 0 else cells - 1 - inside)
    centre = here.cube.to_voxels(middle)[0]
    index = round(centre[axis])
    step = here.cube.side / here.cube.spacing[axis] * 3 / 8 * (1 if end else -1)
    if not 0 <= index < shape[axis] or not 0 <= round(centre[axis] + step / 3) < shape[axis]:
        return None
    values, part = here.cube.spread(here.logits, shape)
    section = np.zeros(tuple(shape), dtype=bool)
    section[part] = values > 0
    keep = np.zeros_like(section)
    chosen = [slice(None)] * 3
    chosen[axis] = slice(index, index + 1)
    keep[tuple(chosen)] = section[tuple(chosen)]
    if not keep.any():
        return None
    mask = Mask(keep).validated(shape)
    centre[axis] += step
    return here.cube.at(centre), mask, index


def _only(
    part: tuple[slice, ...], values: np.ndarray, axis: int, index: int, end: int
) -> tuple[tuple[slice, ...], np.ndarray]:
    """Of the voxels of a cube those beyond a slice."""
    place = part[axis]
    first, last = (index + 1, place.stop) if end else (place.start, index)
    first, last = max(first, place.start), min(last, place.stop)
    cut = slice(first - place.start, max(last, first) - place.start)
    chosen = [slice(None)] * 3
    chosen[axis] = cut
    whole = list(part)
    whole[axis] = slice(first, max(last, first))
    return tuple(whole), values[tuple(chosen)]


def _trimmed(logits: np.ndarray, cubes: tuple[Cube, ...], iou: float, touched: bool, looks: int) -> CubesAnswer:
    """An answer without the voxels around it that nobody looked at."""
    known = logits > ABSENT
    part = tuple(
        slice(int(found[0]), int(found[-1]) + 1)
        for found in (np.flatnonzero(known.any(axis=tuple(o for o in range(3) if o != axis))) for axis in range(3))
    )
    return CubesAnswer(logits[part].copy(), part, cubes, iou, touched, looks)


def _longest(volume: Volume) -> float:
    """mm, the longest side of a volume."""
    return float((np.array(volume.shape) * volume.spacing).max())
