"""A volume model that asks a network of volumes: a cube around the prompt that grows or slides along the object."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np
from torch import Tensor

from bundle.data.volume import Volume
from bundle.interactive.cube_answers import (
    CubesAnswer,
    beyond,
    from_slice_on,
    honoured,
    slender,
    touched_faces,
)
from bundle.interactive.cube_predictor import CubeAnswer, CubePredictor, VolumeView
from bundle.interactive.parts import Part, bounds_of, shifted
from bundle.interactive.segmentation import Segmentation, Timer
from bundle.interactive.sliced import started_first
from bundle.interactive.volume_model import Look, Progress, Teller, VolumePrediction, not_told
from bundle.prompts.cube_maps import area_axis, flat_axis
from bundle.prompts.interactions import Box, Interaction, Lasso, Mask
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
_SLIDES = 12  # cubes along an object at most
_SEEN = 0.9  # of what lies beyond a face: another cube has answered it
# Times as thick as the object, the side of a cube at most that corrects it: of a longer one the part around the
# correction is looked at. Training shows parts of long objects in cubes of 1.5 thicknesses up to 1.25 lengths.
_LONG = 6.0
_SMALL = 3.2  # times as long as the object, see above: the cube around a point is drawn closer


Tell = Callable[[Cube], None]
"""Called with every cube that is asked."""


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
        return f"{type(self).__name__} {self.predictor.computation} {self.predictor.contract}"

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
        look = Teller(progress, None).cube
        timer, shape = Timer(), state.volume.shape
        frame = SliceFrame.along(shape, state.volume.affine, axis)
        given = started_first(prompts.interactions)
        before = None if previous is None else previous.memory
        known = 0 if before is None or before.axis != axis else before.known(given)
        states = list(before.states[:known]) if known else [self.begin(state, given[0], axis=axis, look=look)]
        for count in range(len(states) + 1, len(given) + 1):
            states.append(self.correct(state, states[-1], given[:count], axis=axis, look=look))
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

    def begin(self, view: VolumeView, start: Interaction, *, axis: int, look: Look = not_told) -> CubesAnswer:
        """The object as its start alone shows it.

        Args:
            view: of the volume.
            start: the first interaction on the object.
            axis: stored axis that slices are stacked along.
            look: told the slice in the middle of each cube.
        """
        if is_whole(start):
            return self._as_given(view, start, axis)
        shape, tell = view.volume.shape, _teller(look, axis, view.volume.shape)
        answer = self._look(view, self._first_cube(view, start, axis), [start], None, tell)
        looks = 1
        if (closer := self._closer(answer, start)) is not None:
            answer, looks = self._again(view, answer, closer, start, tell), looks + 1
        for _ in range(_GROWTHS):
            faces, side = touched_faces(answer), answer.cube.side
            if not faces or slender(answer, faces) or side > 2 * _longest(view.volume):
                break
            answer, looks = self._again(view, answer, answer.cube.grown(_GROWTH), start, tell), looks + 1
        faces = touched_faces(answer)
        found = CubesAnswer.of(answer, shape, looks=looks, touched=bool(faces))
        return self._slid(view, answer, found, tell) if faces and slender(answer, faces) else found

    def _closer(self, answer: CubeAnswer, start: Interaction) -> Cube | None:
        """A cube that fits what a point or scribble found; None where the one that was asked does."""
        extent = answer.extent()
        if start.kind not in ("point", "scribble") or extent is None or touched_faces(answer):
            return None
        cube = answer.cube
        around = Cube.around(
            extent, spacing=cube.spacing, axis=cube.axes[0], cells=cube.cells, margin=_AROUND_SLICE, smallest=_SMALLEST
        )
        return around if cube.side > _SMALL / _AROUND_SLICE * around.side else None

    def _first_cube(self, view: VolumeView, start: Interaction, axis: int) -> Cube:
        flat, margin, smallest = None, _AROUND_SLICE, _SMALLEST
        if isinstance(start, Box | Lasso | Mask):
            flat = flat_axis(start.corners) if isinstance(start, Box) else area_axis(start)
            margin = _AROUND_BOX if flat is None else _AROUND_SLICE
        else:
            smallest = min(_AROUND_POINT, _longest(view.volume))
        flat = axis if flat is None else flat
        return self._cube(view.volume, _corners(start, view.volume.shape), flat, margin=margin, smallest=smallest)

    def _slid(self, view: VolumeView, first: CubeAnswer, found: CubesAnswer, tell: Tell) -> CubesAnswer:
        """The object with what lies beyond the faces that it touches, cube by cube along it."""
        shape, waiting, ious = view.volume.shape, deque([first]), [first.iou]
        while waiting and len(found.cubes) <= _SLIDES:
            here = waiting.popleft()
            for place, end in touched_faces(here):
                step = beyond(here, place, end, shape)
                if step is None or len(found.cubes) > _SLIDES:
                    continue
                cube, section, index = step
                answer = self._look(view, cube, [section], None, tell)
                found = replace(found, looks=found.looks + 1)
                values, part = from_slice_on(*cube.spread(answer.logits, shape), cube.axes[0], index, end)
                if (values > 0).any() and found.known(part) < _SEEN:
                    found = replace(found.joined(values, part, larger=True), cubes=(*found.cubes, cube))
                    ious.append(answer.iou)
                    waiting.append(answer)
        return replace(found, iou=float(np.mean(ious)), touched=bool(waiting))

    # ---- corrections ------------------------------------------------------------------------------------------------

    def correct(
        self,
        view: VolumeView,
        before: CubesAnswer,
        given: Sequence[Interaction],
        *,
        axis: int,
        look: Look = not_told,
    ) -> CubesAnswer:
        """The object after one more interaction, in a cube around both; of a long object around the interaction.

        Args:
            view: of the volume.
            before: the object as it was, whoever found it.
            given: all interactions, the one that started the object first and the new one last.
            axis: stored axis that slices are stacked along.
            look: told the slice in the middle of the cube.
        """
        last, shape = given[-1], view.volume.shape
        tell = _teller(look, axis, shape)
        if is_whole(last):
            return self._as_given(view, last, axis)
        cube = self._around_both(view.volume, before, _corners(last, shape), axis)
        answer = self._look(view, cube, given, before.seen_in(cube, shape), tell)
        now = before.joined(*cube.spread(answer.logits, shape))
        return replace(now, cubes=(*before.cubes, cube), iou=answer.iou, looks=before.looks + 1)

    def taken_over(self, volume: Volume, mask: np.ndarray, part: Part, *, axis: int, iou: float) -> CubesAnswer:
        """An object that something else found, to be corrected.

        Args:
            volume: the image.
            mask: (i, j, k) bool on the voxels of a part, not empty.
            part: where they lie; all of the object lies there.
            axis: stored axis that slices are stacked along.
            iou: that is expected of it.
        """
        inside = bounds_of(mask)
        where = shifted(inside, part)
        corners = np.array([[p.start for p in where], [p.stop - 1 for p in where]], dtype=float)
        return CubesAnswer.as_given(mask[inside], corners[0].astype(int), self._cube(volume, corners, axis), iou=iou)

    def _cube(
        self,
        volume: Volume,
        corners: np.ndarray,
        axis: int,
        *,
        margin: float = _AROUND_BOX,
        smallest: float = _SMALLEST,
    ) -> Cube:
        """The cube around a box of voxels; without options that around a 3D box."""
        cells, spacing = self.predictor.cells, volume.spacing
        return Cube.around(corners, spacing=spacing, axis=axis, cells=cells, margin=margin, smallest=smallest)

    def _around_both(self, volume: Volume, before: CubesAnswer, corners: np.ndarray, axis: int) -> Cube:
        """The cube around an object and a correction of it; around the correction where the object is long."""
        around = self._cube(volume, corners, axis)
        if (found := before.extent()) is None:
            return replace(around, side=max(around.side, before.cubes[-1].side))
        extent, voxels = found
        both = np.stack([np.minimum(extent[0], corners[0]), np.maximum(extent[1], corners[1])])
        whole = self._cube(volume, both, axis)
        spacing = np.asarray(volume.spacing)
        longest = ((extent[1] - extent[0] + 1) * spacing).max()
        thickness = float(np.sqrt(voxels * spacing.prod() / longest))
        most = max(_LONG * thickness, around.side)
        return whole if whole.side <= most else replace(around, side=most)

    # ---- what is asked ----------------------------------------------------------------------------------------------

    def _look(
        self, view: VolumeView, cube: Cube, interactions: Sequence[Interaction], so_far: Tensor | None, tell: Tell
    ) -> CubeAnswer:
        tell(cube)
        return self.predictor.predict(view, cube, interactions, so_far)

    def _again(self, view: VolumeView, answer: CubeAnswer, cube: Cube, start: Interaction, tell: Tell) -> CubeAnswer:
        """Another cube asked with the answer so far."""
        shape = view.volume.shape
        return self._look(view, cube, [start], CubesAnswer.of(answer, shape).seen_in(cube, shape), tell)

    def _as_given(self, view: VolumeView, whole: Mask, axis: int) -> CubesAnswer:
        """A segmentation of several slices as it is."""
        voxels = np.asarray(whole.voxels, dtype=bool)
        return CubesAnswer.as_given(voxels, whole.corner or (0, 0, 0), self._first_cube(view, whole, axis))


def is_whole(interaction: Interaction) -> bool:
    """Whether it is a segmentation of several slices, which is its own answer."""
    return isinstance(interaction, Mask) and interaction.positive and area_axis(interaction) is None


def _corners(interaction: Interaction, shape: Sequence[int]) -> np.ndarray:
    """(2, 3) lowest and highest voxel index of an interaction."""
    if isinstance(interaction, Box):
        return np.asarray(interaction.corners, dtype=float)
    voxels = interaction.named_voxels(shape)
    return np.stack([voxels.min(axis=0), voxels.max(axis=0)]).astype(float)


def _teller(look: Look, axis: int, shape: Sequence[int]) -> Tell:
    """Tells of a cube as of the slice in its middle."""

    def tell(cube: Cube) -> None:
        look(int(np.clip(round(cube.centre[axis]), 0, shape[axis] - 1)))

    return tell


def _longest(volume: Volume) -> float:
    """mm, the longest side of a volume."""
    return float((np.array(volume.shape) * volume.spacing).max())
