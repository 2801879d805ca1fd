"""The objects of a session: what the user said of each, and what it was answered with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from bundle.data.palette import color_of
from bundle.errors import SessionError
from bundle.interactive.answer_options import NO_OPTIONS, AnswerOptions
from bundle.interactive.regions import Region
from bundle.interactive.segmentation import GIVEN, Segmentation
from bundle.prompts.interactions import Box as BoxInteraction
from bundle.prompts.interactions import Interaction, Lasso, Mask, Point, Scribble
from bundle.prompts.prompts import ObjectPrompts
from bundle.transforms.frames import nearest_index

Scope = tuple[int, int | None]
"""What an answer is about: a stored axis and the index of a slice along it, or None for the volume."""


THIRD = 2
"""The stored axis that requests are about which name no plane; all were, before they could name one."""


class Placed(NamedTuple):
    """Where an interaction came from.

    Attributes:
        client: that sent it in a list of all that it has; None where nobody did, or is known.
        axis: stored axis of the slices that the request was about which brought it, be it of a slice or of the volume.
    """

    client: str | None = None
    axis: int = THIRD


@dataclass(frozen=True, eq=False)
class SegmentedObject:
    """One object of a session.

    Attributes:
        id: never given to another object of the session.
        name: unique in the session.
        label: its value in the label map, unique in the session.
        color: red, green and blue from 0 to 1.
        locked: whether it stays as it is, and no other object is painted over it.
        interactions: in the order of the user, or of the client that sends them all each time.
        base: the mask that the user gave it to begin with, see ``Region.to_bytes``; empty without one.
        scores: stored axis -> slice index -> predicted IoU, None on a slice whose mask the user gave.
        confirmed: slices (axis, index) that the user said are right.
        warnings: why its answer is doubtful, a sentence each.
        asked: what it was asked, the interactions of each time that one after the other continued.
        shown: which of these answers the mask is made of, and the model of each, "" where something was said since.
            The one that was asked last comes last, and shows where slices of several planes cross.
        proposed: whether something found it by itself and nobody has worked on it since.
        unprompted: whether its mask is still that which something found by itself; a name or a tick changes no mask.
        filled: slices (axis, index) that were filled between confirmed ones.
        options: how its answers are bounded and cleaned.
        placed: of each interaction who placed it, and along which axis.
    """

    id: int
    name: str
    label: int
    color: tuple[float, float, float]
    locked: bool = False
    interactions: tuple[Interaction, ...] = ()
    base: bytes = b""
    scores: Mapping[int, Mapping[int, float | None]] = field(default_factory=dict)
    confirmed: frozenset[tuple[int, int]] = frozenset()
    warnings: tuple[str, ...] = ()
    asked: Mapping[Scope, tuple[tuple[Interaction, ...], ...]] = field(default_factory=dict)
    shown: Mapping[Scope, str] = field(default_factory=dict)
    proposed: bool = False
    unprompted: bool = False
    filled: frozenset[tuple[int, int]] = frozenset()
    options: AnswerOptions = NO_OPTIONS
    placed: tuple[Placed, ...] = ()

    @property
    def predicted_iou(self) -> dict[int, dict[int, float]]:
        """Stored axis -> slice index -> the network's own estimate of the mask's IoU, where it was asked."""
        return {a: {i: iou for i, iou in found.items() if iou is not None} for a, found in self.scores.items()}

    @property
    def kept(self) -> frozenset[tuple[int, int]]:
        """The slices (axis, index) that answers leave as they are."""
        return self.confirmed | self.filled

    def prompts(self, scope: Scope, shape: Sequence[int], given: Sequence[Interaction] | None = None) -> ObjectPrompts:
        """What the model is asked: the mask to begin with, where there is one, and the interactions of a scope.

        Args:
            scope: a slice or the volume.
            shape: (I, J, K) of the volume.
            given: these interactions of it; by default all.
        """
        given = self.of_scope(scope, shape) if given is None else given
        axis, index = scope
        base = Region.from_bytes(self.base, tuple(shape))
        if index is not None:
            base = on_slice(base, axis, index)
        first = () if base.is_empty else (Mask(base.voxels, corner=tuple(base.low.tolist())),)
        return ObjectPrompts((*first, *given), name=self.name, label=self.label)

    def of_scope(self, scope: Scope, shape: Sequence[int]) -> tuple[Interaction, ...]:
        """The interactions that a scope is asked with: all in the volume, those that lie on it alone of a slice."""
        axis, index = scope
        if index is None:
            return self.interactions
        return tuple(one for one in self.interactions if lies_on(one, axis, index, shape))

    def places_of(self, scope: Scope, shape: Sequence[int], client: str | None) -> tuple[list[int], list[int]]:
        """The positions of those interactions of a scope that a client may have placed; without one, of all.

        Returns:
            Those that a list of the scope's interactions is about, and those that a request about another plane
            brought and that lie where that crosses this slice: no list of this slice need name them.
        """
        axis, index = scope
        about, crossing = [], []
        for position, (one, placed) in enumerate(zip(self.interactions, self.placed, strict=True)):
            if client is not None and placed.client not in (client, None):
                continue
            if index is None or lies_on(one, axis, index, shape):
                elsewhere = index is not None and placed.axis != axis
                (crossing if elsewhere else about).append(position)
        return about, crossing

    def chain(self, scope: Scope, shape: Sequence[int]) -> tuple[tuple[Interaction, ...], ...]:
        """What was asked of a scope and is continued by its interactions as they are now, and these as the last.

        Each answer on a slice goes along with the next as a mask prompt, so an answer is that of the chain.
        """
        now = self.of_scope(scope, shape)
        chain = [asked for asked in self.asked.get(scope, ()) if same_interactions(now[: len(asked)], asked)]
        if self.can_ask(now) and (not chain or len(chain[-1]) < len(now)):
            chain.append(now)
        return tuple(chain)

    def can_ask(self, given: Sequence[Interaction]) -> bool:
        """Whether interactions leave something to ask: one on the object, or any where there is a mask to change."""
        return bool(given) if self.base else any(one.positive for one in given)

    def answered(self, scope: Scope, shape: Sequence[int], model: str) -> bool:
        """Whether the mask shows what a model answers to the interactions of a scope as they are now."""
        asked = self.asked.get(scope, ())
        return (
            self.shown.get(scope) == model and bool(asked) and same_interactions(asked[-1], self.of_scope(scope, shape))
        )

    def segmentations(self, mask: np.ndarray, low: np.ndarray) -> list[Segmentation]:
        """Its mask in a box as the overlap rule takes it, a part for each axis that it was answered along.

        A mask without a predicted IoU has the score `GIVEN` where the user gave it, and 0 where something found it.

        Args:
            mask: (A, B, C) bool, the object in the box.
            low: (3,) int, where the box begins.
        """
        parts = []
        for axis, found in self.scores.items():
            start, depth = int(low[axis]), mask.shape[axis]
            said = {i: self._score(axis, i, iou) for i, iou in found.items() if start <= i < start + depth}
            scores = {i - start: iou for i, iou in said.items()}
            parts.append(Segmentation(mask, scores, axis))
        return parts

    def _score(self, axis: int, index: int, iou: float | None) -> float:
        """A slice's predicted IoU; without one it is the user's as long as they gave the object or keep the slice."""
        if iou is not None:
            return iou
        return GIVEN if not self.unprompted and (self.base or (axis, index) in self.kept) else 0.0


Objects = tuple[SegmentedObject, ...]


def named(objects: Objects, name: str) -> SegmentedObject | None:
    """The object of a name; None where there is none."""
    return next((one for one in objects if one.name == name), None)


def existing(objects: Objects, name: str) -> SegmentedObject:
    """The object of a name.

    Raises:
        SessionError: there is none.
    """
    found = named(objects, name)
    if found is None:
        known = ", ".join(repr(one.name) for one in objects) or "none"
        raise SessionError(f"there is no object {name!r} in this session; it has {known}")
    return found


def new_object(
    objects: Objects, id: int, name: str, label: int | None, color: Sequence[float] | None
) -> SegmentedObject:
    """An object with the next free label and its colour where nothing else is said.

    Raises:
        SessionError: the name or label is taken, or cannot be used.
    """
    check_name(objects, name)
    used = {one.label for one in objects}
    label = max(used, default=0) + 1 if label is None else label
    if isinstance(label, bool) or not isinstance(label, int) or not 1 <= label < 2**31:
        raise SessionError(f"label of {name!r} must be a whole number from 1, got {label!r:.80}")
    if label in used:
        raise SessionError(f"label {label} belongs to another object; choose another or leave it out")
    return SegmentedObject(id, name, label, checked_color(color_of(label) if color is None else color))


def check_name(objects: Objects, name: str) -> None:
    """Refuse a name that is empty or taken.

    Raises:
        SessionError: saying so.
    """
    if not isinstance(name, str) or not name.strip() or len(name) > 200:
        raise SessionError(f"a name must be a text of 1 to 200 characters, got {name!r:.80}")
    if named(objects, name):
        raise SessionError(f"there is an object {name!r} already; choose another name")


def checked_color(color: Sequence[float]) -> tuple[float, float, float]:
    """Three numbers from 0 to 1.

    Raises:
        SessionError: it is something else.
    """
    try:
        red, green, blue = (float(value) for value in color)
    except (TypeError, ValueError) as error:
        raise SessionError(f"a colour must be red, green and blue from 0 to 1, got {color!r:.80}") from error
    if not all(0 <= value <= 1 for value in (red, green, blue)):
        raise SessionError(f"a colour must be red, green and blue from 0 to 1, got {color!r:.80}")
    return red, green, blue


def same_interactions(one: Sequence[Interaction], other: Sequence[Interaction]) -> bool:
    """Whether both lists say the same in the same order."""
    return len(one) == len(other) and all(a is b or a.same(b) for a, b in zip(one, other, strict=True))


def is_turned(one: Interaction, other: Interaction, shape: Sequence[int]) -> bool:
    """Whether an interaction says that the object is what another one, at the same voxels, says that it is not."""
    if type(one) is not type(other) or one.positive == other.positive:
        return False
    if isinstance(one, Mask):
        return replace(one, positive=other.positive).same(other)
    at = [nearest_index(np.asarray(_positions(given), dtype=float), shape) for given in (one, other)]
    return np.array_equal(*at)


def lies_on(interaction: Interaction, axis: int, index: int, shape: Sequence[int]) -> bool:
    """Whether an interaction lies on one slice and on no other."""
    return slices_of(interaction, axis, shape) == (index, index)


def slices_of(interaction: Interaction, axis: int, shape: Sequence[int]) -> tuple[int, int]:
    """First and last slice along a stored axis that an interaction lies on."""
    if isinstance(interaction, Mask):
        used = np.flatnonzero(interaction.voxels.any(axis=tuple(other for other in range(3) if other != axis)))
        used += 0 if interaction.corner is None else interaction.corner[axis]
        return int(used[0]), int(used[-1])
    where = nearest_index(np.asarray(_positions(interaction), dtype=float)[..., axis], shape[axis])
    return int(np.min(where)), int(np.max(where))


def _positions(interaction: Interaction) -> np.ndarray:
    fields = {Point: "voxel", BoxInteraction: "corners", Scribble: "path", Lasso: "outline"}
    return getattr(interaction, fields[type(interaction)])


def on_slice(region: Region, axis: int, index: int) -> Region:
    """The part of a region on a slice."""
    box = region.box
    if box is None or not box[0, axis] <= index < box[1, axis]:
        return Region.empty()
    box = box.copy()
    box[:, axis] = index, index + 1
    return Region.of(region.within(box), box[0])


def with_object(objects: Objects, changed: SegmentedObject) -> Objects:
    """The objects with one of them changed."""
    return tuple(changed if one.id == changed.id else one for one in objects)


def emptied(one: SegmentedObject) -> SegmentedObject:
    """An object of which nothing was said or answered yet; how its answers are cleaned stays, their limits go."""
    options = replace(one.options, limits=None)
    return SegmentedObject(one.id, one.name, one.label, one.color, one.locked, options=options)
