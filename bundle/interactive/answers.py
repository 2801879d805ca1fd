"""What the model says to the interactions of an object in a session, put into a step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bundle.errors import PromptError
from bundle.interactive import events as happened
from bundle.interactive.answer_memory import Memory
from bundle.interactive.doubts import Doubts
from bundle.interactive.mask_events import Predict
from bundle.interactive.objects import Scope, SegmentedObject, is_turned, on_slice, slices_of
from bundle.interactive.prompted_volume import PromptedVolume
from bundle.interactive.regions import Region, union
from bundle.interactive.segmentation import Timer
from bundle.interactive.steps import Draft
from bundle.interactive.volume_model import Progress
from bundle.prompts.interactions import Interaction, Mask


@dataclass(frozen=True)
class Asked:
    """What asking the model took, and what it said; see ``Update``."""

    predicted_iou: dict[str, dict[int, float]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    encoded: int = 0
    predicted: bool = False

    def then(self, other: Asked) -> Asked:
        """This and what was asked after it, along another axis: predicted IoU are of the slices of that."""
        stages = (*self.seconds, *other.seconds)
        seconds = {stage: self.seconds.get(stage, 0.0) + other.seconds.get(stage, 0.0) for stage in stages}
        return Asked(
            other.predicted_iou,
            (*self.warnings, *other.warnings),
            seconds,
            self.encoded + other.encoded,
            self.predicted or other.predicted,
        )


class Answers:
    """Asks the model for the objects of a session.

    Args:
        image: before its model.
    """

    def __init__(self, image: PromptedVolume) -> None:
        self._image, self._shape = image, image.volume.shape
        self._doubts = Doubts(image.volume)

    def through_volume(
        self, draft: Draft, key: int, memory: Memory, *, axis: int, progress: Progress | None = None
    ) -> Asked:
        """Answer an object through the volume; confirmed and filled slices stay, and are prompts for the others.

        Raises:
            PromptError: its interactions cannot be used.
        """
        one, before = draft.of(key), draft.mask(key)
        prompts = one.prompts((axis, None), self._shape)
        kept = [on_slice(before, *at) for at in sorted(one.kept)]
        # By their own boxes: to lay out the volume for each of them took 490 times as long.
        right = [Mask(part.voxels, corner=tuple(part.low.tolist())) for part in kept if not part.is_empty]
        prompts = prompts.with_interactions((*prompts.interactions, *right))
        found = self._image.segment_volume(key, prompts, memory, axis=axis, options=one.options, progress=progress)
        scores = {index: float(iou) for index, iou in found.scores.items()}
        event = Predict(key, axis, None, scores, self._image.identity)
        return self._put(draft, one, Region.of(found.mask), event, found.seconds, found.encoded)

    def on_slices(self, draft: Draft, key: int, memory: Memory, *, axis: int, slices: Sequence[int]) -> Asked:
        """Answer an object on some slices; the others stay as they are, and so do confirmed and filled ones.

        Raises:
            PromptError: its interactions on them cannot be used.
        """
        timer, mask, scores = Timer(), draft.mask(key), {}
        one, frame = draft.of(key), self._image.frame(axis)
        open_to_change = [index for index in slices if (axis, index) not in one.kept]
        if not open_to_change and not any(event.object == key for event in draft.events):  # nothing happened
            return Asked()
        for index in open_to_change:
            chain = one.chain((axis, index), self._shape) or (one.of_scope((axis, index), self._shape),)
            prompts = [one.prompts((axis, index), self._shape, given) for given in chain]
            answer = self._image.answer_chain(
                key, prompts, memory, axis=axis, index=index, timer=timer, options=one.options
            )
            whole = np.zeros(self._shape, bool, order="F")  # only the pages of the slice are ever touched
            frame.insert(whole, index, answer.mask)
            at = np.array([0, 0, 0])
            at[axis] = index
            mask = _with_slice(mask, axis, index, Region.of(np.take(whole, [index], axis), at))
            scores[index] = float(answer.iou)
        event = Predict(key, axis, tuple(slices), scores, self._image.identity)
        return self._put(draft, one, mask, event, timer.total(), timer.encoded, asked=bool(open_to_change))

    def unasked(self, draft: Draft, key: int, scopes: Sequence[Scope]) -> Asked:
        """Give scopes on which nothing is said of an object any more the mask that it began with, or none."""
        one, axis = draft.of(key), scopes[0][0]
        base = Region.from_bytes(one.base, self._shape)
        slices = [index for _, index in scopes if index is not None]
        mask = draft.mask(key) if slices else base
        for index in slices:
            mask = _with_slice(mask, axis, index, on_slice(base, axis, index))
        given = [index for index in slices or range(self._shape[axis]) if not on_slice(base, axis, index).is_empty]
        event = Predict(key, axis, tuple(slices) or None, dict.fromkeys(given), self._image.identity)
        return self._put(draft, one, mask, event, {}, 0, asked=False)

    def _put(
        self,
        draft: Draft,
        one: SegmentedObject,
        mask: Region,
        event: Predict,
        seconds: dict[str, float],
        encoded: int,
        *,
        asked: bool = True,
    ) -> Asked:
        """Put an answer into the step, but for the confirmed and filled slices: they stay, with their scores."""
        axis, slices = event.axis, event.slices
        # Others of the axis have no voxel of the answer.
        touched = [at for at in one.kept if slices is None or at[0] != axis or at[1] in slices]
        mask = with_slices_of(mask, draft.mask(one.id), touched)
        found = {index: iou for index, iou in event.scores.items() if (axis, index) not in one.kept}
        scores = {index: iou for index, iou in found.items() if iou is not None}
        answered = {index for along, index in one.kept if along == axis} | set(found)
        answered |= set() if slices is None else set(one.scores.get(axis, ()))
        warnings = self._doubts.of(scores, mask, axis, one.interactions, answered=answered)
        warnings += self._doubts.of_kept(draft.said_of(one.id), mask, one.kept)
        repainted = not draft.mask(one.id).same(mask)
        draft.set_mask(one.id, mask)
        draft.add(replace(event, scores=found, warnings=warnings, repainted=repainted))
        return Asked({one.name: scores}, warnings, dict(seconds), encoded, asked)


def scopes_of(given: Sequence[Interaction], dimension: int, axis: int, shape: Sequence[int]) -> list[Scope]:
    """What is to be answered after some interactions: the volume (``dimension`` 3), or the slices that they lie on (2).

    Raises:
        PromptError: another dimension or axis, or an interaction on several slices where one is asked.
    """
    check_about(dimension, axis)
    if dimension == 3:
        return [(axis, None)]
    slices = set()
    for one in given:
        low, high = slices_of(one, axis, shape)
        if low != high:
            raise PromptError(
                f"the {one.kind} covers slices {low} to {high}; a 2D prompt needs one slice, so make it one voxel "
                "thick along the slice axis, or segment in 3D"
            )
        slices.add(low)
    return [(axis, index) for index in sorted(slices)]


def check_about(dimension: int, axis: int) -> None:
    """Refuse what no step can be about.

    Raises:
        PromptError: another dimension or axis.
    """
    if dimension not in (2, 3):
        raise PromptError(f"dimension must be 2 (a slice) or 3 (the volume), got {dimension!r}")
    if axis not in (0, 1, 2):
        raise PromptError(f"axis must be 0, 1 or 2, got {axis!r}")


def edits(
    one: SegmentedObject,
    scope: Scope,
    wanted: Sequence[Interaction],
    shape: Sequence[int],
    client: str | None = None,
) -> list[happened.Event]:
    """The events that make the interactions of a scope those of a list, in its order; no others are touched.

    What a request about another plane brought is not touched where that crosses this slice, whether the list names it,
    as that of a client that shows a point on all planes, or leaves it out. But what the list turns round, as a point
    off the object on one on it, takes its place: one voxel is not said to be both.

    Args:
        one: the object as it is.
        scope: a slice or the volume.
        wanted: all that lie on it.
        shape: (I, J, K) of the volume.
        client: whose list it is; what another client placed is not touched. None where it is all that there is.
    """
    where, crossing = one.places_of(scope, shape, client)
    there = [one.interactions[position] for position in crossing]
    about = {"along": scope[0], "dimension": 3 if scope[1] is None else 2}
    turned = [at for at, other in zip(crossing, there, strict=True) if any(is_turned(g, other, shape) for g in wanted)]
    if turned:
        gone: list[happened.Event] = [happened.Remove(one.id, at, **about) for at in reversed(turned)]
        for event in gone:
            one = event.changed(one, shape)
        return gone + edits(one, scope, wanted, shape, client)
    wanted = [given for given in wanted if not any(given.same(other) for other in there)]
    now = [one.interactions[position] for position in where]
    first = 0
    while first < min(len(now), len(wanted)) and now[first].same(wanted[first]):
        first += 1
    last = 0
    while last < min(len(now), len(wanted)) - first and now[-1 - last].same(wanted[-1 - last]):
        last += 1
    old, new = where[first : len(now) - last], list(wanted[first : len(wanted) - last])
    both = min(len(old), len(new))
    found: list[happened.Event] = [
        happened.Move(one.id, at, new[n], client, **about) for n, at in enumerate(old[:both])
    ]
    found += [happened.Remove(one.id, at, **about) for at in reversed(old[both:])]
    behind = where[len(now) - last] if last else len(one.interactions)
    return found + [happened.Add(one.id, behind + n, given, client, **about) for n, given in enumerate(new[both:])]


def with_slices_of(mask: Region, other: Region, slices: Iterable[tuple[int, int]]) -> Region:
    """A mask with what another one has on some slices (axis, index)."""
    for at in sorted(slices):
        mask = _with_slice(mask, *at, on_slice(other, *at))
    return mask


def _with_slice(mask: Region, axis: int, index: int, part: Region) -> Region:
    """A mask with another part on one slice."""
    box = union([mask.box, part.box])
    if box is None:
        return mask
    voxels = mask.within(box)
    if box[0, axis] <= index < box[1, axis]:
        at = tuple(
            slice(index - box[0, axis], index - box[0, axis] + 1) if a == axis else slice(None) for a in range(3)
        )
        one = box.copy()
        one[:, axis] = index, index + 1
        voxels[at] = part.within(one)
    return Region.of(voxels, box[0])
