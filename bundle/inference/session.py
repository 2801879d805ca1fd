"""One image that is being worked on: prompts in voxel index in, masks on the image's own grid out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile

import numpy as np

from bundle.data.volume import Volume
from bundle.inference.following import Click, Followed, Follower, Start
from bundle.inference.predictor import SliceMask, SlicePredictor, SlicePrompt, SliceView
from bundle.inference.propagation import PropagationRule
from bundle.transforms.frames import SliceFrame
from bundle.transforms.prompts import ObjectPrompts, PromptError


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The answer for one object.

    Attributes:
        mask: (I, J, K) bool on the grid of the volume.
        scores: slice index -> the network's own estimate of the mask's IoU, for every slice that was answered.
        axis: the stored axis that the slices are stacked along.
        seconds: time spent in ``encode``, ``decode`` and in all (``total``).
        encoded: how many times the encoder had to run.
    """

    mask: np.ndarray
    scores: dict[int, float]
    axis: int
    seconds: dict[str, float]
    encoded: int


@dataclass(eq=False)
class _Clock:
    """Adds up the time spent in each kind of work of one request."""

    seconds: dict[str, float] = field(default_factory=lambda: {"encode": 0.0, "decode": 0.0})
    started: float = field(default_factory=time.perf_counter)
    encoded: int = 0

    def add(self, answer: SliceMask, seconds: float) -> None:
        """Count an answer that took so many seconds."""
        self.encoded += answer.encoded
        self.seconds["encode"] += answer.encode_seconds
        self.seconds["decode"] += seconds - answer.encode_seconds

    def total(self) -> dict[str, float]:
        """All times so far."""
        return {**self.seconds, "total": time.perf_counter() - self.started}


@dataclass(eq=False)
class _Steps:
    """One object as it was followed through the volume: after its start, and after each click.

    Attributes:
        of: name of the object and axis.
        start: of the object.
        states: the first without a click, each with one more than that before.
    """

    of: tuple[str, int]
    start: Start
    states: list[Followed]

    def known(self, clicks: Sequence[Click]) -> int:
        """How many of these clicks, from the first on, were answered."""
        answered = zip(self.states[-1].clicks, clicks, strict=False)
        return sum(takewhile(bool, (one.same(other) for one, other in answered)))


class InteractiveSession:
    """A volume with the answers given so far. Safe to use from many threads: requests wait for each other.

    A client sends all prompts of an object with every request. Where they continue an earlier request (its points come
    first, the box is the same), the earlier answer goes along as a mask prompt, as in training; otherwise the object
    starts anew. In a volume every point is an interaction of its own: it corrects the answer to those before it, also
    where several come with the first request. So the same prompts in the same order always give the same answer, and
    taking a point back gives the answer from before it. What was asked already is not computed again: of the object
    that was followed through the volume last, a further click costs only the slices that it changes.

    Args:
        volume: the image.
        predictor: the model.
        rule: how a slice's answer travels through the volume; by default with what the family's contract carries.
    """

    def __init__(self, volume: Volume, predictor: SlicePredictor, *, rule: PropagationRule | None = None) -> None:
        self.volume, self.predictor = volume, predictor
        self.rule = rule or PropagationRule(carried=predictor.contract.carried)
        self.intensity = predictor.contract.intensity(volume.array, volume.modality)
        self._history: dict[tuple[str, int, int], list[tuple[SlicePrompt, SliceMask]]] = {}
        self._steps: _Steps | None = None  # of one object only: they hold a mask and logits of every slice
        self._lock = threading.Lock()

    def segment_slice(self, prompts: ObjectPrompts, *, axis: int = 2) -> Segmentation:
        """Segment an object on the slices that its prompts lie on.

        Args:
            prompts: of one object, in voxel index.
            axis: stored axis that slices are stacked along; 2 is what Slicer calls K.

        Raises:
            PromptError: for prompts that cannot be used; among them a box of several slices without a point that says
                which of them is meant.
        """
        with self._lock:
            clock = _Clock()
            frame = self.frame(axis)
            prompts = prompts.validated(self.volume.shape)
            asked = _prompts_of_slices(prompts, frame)
            if not asked:
                low, high = _slice_range(prompts, frame)
                raise PromptError(
                    f"the box covers slices {low} to {high}; a 2D prompt needs one slice, so make the box one voxel "
                    "thick along the slice axis, add a point, or segment in 3D"
                )
            answers = {index: self._ask_again(prompts.name, frame, index, p, clock) for index, p in asked.items()}
            return self._result(answers, frame, clock)

    def segment_volume(
        self, prompts: ObjectPrompts, *, axis: int = 2, progress: Callable[[int], None] | None = None
    ) -> Segmentation:
        """Segment an object through the volume.

        The object starts from its box or, without one, from its first foreground point. A box that covers a range of
        slices bounds it; otherwise it is followed until it ends. Every other point corrects the answer so far, on
        whatever slice it lies: see ``following.Follower``.

        Args:
            prompts: of one object, in voxel index.
            axis: stored axis to travel along.
            progress: called with the index of every slice that is asked, of some more than once.

        Raises:
            PromptError: for prompts that cannot be used.
        """
        with self._lock:
            clock = _Clock()
            frame = self.frame(axis)
            prompts = prompts.validated(self.volume.shape)
            start, clicks = _started_by(prompts, frame)

            def ask(index: int, prompt: SlicePrompt) -> SliceMask:
                if progress is not None:
                    progress(index)
                return self._ask(frame, index, prompt, clock)

            picture = partial(frame.extract, self.volume.array)
            follower = Follower(ask, start, depth=frame.depth, rule=self.rule, picture=picture)
            found = self._followed((prompts.name, axis), start, clicks, follower)
            return self._result(found.answers, frame, clock)

    def reset(self, name: str | None = None) -> None:
        """Forget the answers given for one object, or for all."""
        with self._lock:
            self._history = {key: value for key, value in self._history.items() if name is not None and key[0] != name}
            if self._steps is not None and name in (None, self._steps.of[0]):
                self._steps = None

    def frame(self, axis: int) -> SliceFrame:
        """The slices of the volume along a stored axis."""
        return SliceFrame.along(self.volume.shape, self.volume.affine, axis)

    def _followed(self, of: tuple[str, int], start: Start, clicks: Sequence[Click], follower: Follower) -> Followed:
        """The object after all clicks; those that were answered before are not answered again."""
        steps = self._steps
        if steps is None or steps.of != of or not steps.start.same(start):
            steps = self._steps = _Steps(of, start, [follower.begin()])
        known = steps.known(clicks)
        if known < len(clicks):
            del steps.states[known + 1 :]
        for click in clicks[known:]:
            steps.states.append(follower.correct(steps.states[-1], click))
        return steps.states[len(clicks)]

    def _ask_again(self, name: str, frame: SliceFrame, index: int, prompt: SlicePrompt, clock: _Clock) -> SliceMask:
        """Ask with the answer that these prompts continue, and remember this one."""
        history = self._history.setdefault((name, frame.slice_axis, index), [])
        while history and not _continues(prompt, history[-1][0]):
            history.pop()
        previous = history[-1][1] if history else None
        if history and _same(prompt, history[-1][0]):
            return previous
        answer = self._ask(frame, index, replace(prompt, previous=previous), clock)
        history.append((prompt, answer))
        return answer

    def _ask(self, frame: SliceFrame, index: int, prompt: SlicePrompt, clock: _Clock) -> SliceMask:
        started = time.perf_counter()
        picture = frame.extract(self.volume.array, index)
        view = SliceView(picture, self.intensity, frame.pixel_spacing(self.volume.spacing))
        answer = self.predictor.predict(view, prompt)
        clock.add(answer, time.perf_counter() - started)
        return answer

    def _result(self, answers: dict[int, SliceMask], frame: SliceFrame, clock: _Clock) -> Segmentation:
        mask = np.zeros(self.volume.shape, dtype=bool, order="F")  # as files store it: saving is several times as fast
        for index, answer in answers.items():
            frame.insert(mask, index, answer.mask)
        scores = {index: answers[index].iou for index in sorted(answers)}
        return Segmentation(mask, scores, frame.slice_axis, clock.total(), clock.encoded)


def _continues(prompt: SlicePrompt, earlier: SlicePrompt) -> bool:
    """Whether ``prompt`` is ``earlier``, or that with more points behind it."""
    count = len(earlier.points)
    same_points = np.array_equal(prompt.points[:count], earlier.points)
    same_points = same_points and np.array_equal(prompt.point_labels[:count], earlier.point_labels)
    return same_points and _same_box(prompt, earlier)


def _same(prompt: SlicePrompt, earlier: SlicePrompt) -> bool:
    """Whether two prompts say the same."""
    return len(prompt.points) == len(earlier.points) and _continues(prompt, earlier)


def _same_box(prompt: SlicePrompt, earlier: SlicePrompt) -> bool:
    if prompt.box is None or earlier.box is None:
        return prompt.box is earlier.box
    return np.array_equal(prompt.box, earlier.box)


def _slice_range(prompts: ObjectPrompts, frame: SliceFrame) -> tuple[int, int]:
    """First and last slice of the box, or of the points where there is no box."""
    where = prompts.points if prompts.box is None else prompts.box
    _, indices = frame.to_pixels(where)
    return int(indices.min()), int(indices.max())


def _box_on_slice(prompts: ObjectPrompts, frame: SliceFrame) -> np.ndarray | None:
    """The box seen along the slices: (4,) pixels (x0, y0, x1, y1)."""
    if prompts.box is None:
        return None
    corners, _ = frame.to_pixels(prompts.box)
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])


def _prompts_of_slices(prompts: ObjectPrompts, frame: SliceFrame) -> dict[int, SlicePrompt]:
    """What each slice is asked: its points, and the box on every slice with a foreground point or that it is flat on.

    A slice that has background points alone is left out: there is nothing to segment on it.
    """
    xy, indices = frame.to_pixels(prompts.points)
    box = _box_on_slice(prompts, frame)
    first, last = _slice_range(prompts, frame)
    if prompts.box is None:
        wanted = set(indices[prompts.point_labels == 1].tolist())
    elif first == last:
        wanted = {first, *indices[prompts.point_labels == 1].tolist()}
    else:
        wanted = set(indices.tolist())
    asked = {}
    for index in sorted(wanted):
        here = indices == index
        inside = box is not None and first <= index <= last
        asked[index] = SlicePrompt(xy[here], prompts.point_labels[here], box if inside else None)
    return asked


def _started_by(prompts: ObjectPrompts, frame: SliceFrame) -> tuple[Start, list[Click]]:
    """What starts an object, its box or else its first point on it, and the other points in their order."""
    xy, indices = frame.to_pixels(prompts.points)
    clicks = [Click(int(i), at, int(label)) for at, i, label in zip(xy, indices, prompts.point_labels, strict=True)]
    if prompts.box is not None:
        return Start(*_slice_range(prompts, frame), box=_box_on_slice(prompts, frame)), clicks
    point = clicks.pop(next(position for position, click in enumerate(clicks) if click.label == 1))
    return Start(point.index, point.index, point=point), clicks
