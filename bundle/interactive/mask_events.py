"""What gives an object its mask: the user, a model, or something that found it by itself. See ``events``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from bundle.interactive.events import Event
from bundle.interactive.objects import Scope, SegmentedObject, emptied


@dataclass(frozen=True, eq=False)
class SetMask(Event):
    """The user gives the mask; earlier interactions are forgotten.

    Attributes:
        base: the mask, see ``Region.to_bytes``.
        slices: that it lies on, along the last axis.
    """

    kind: ClassVar[str] = "set mask"
    base: bytes
    slices: tuple[int, ...]

    def changed(self, before: SegmentedObject, shape: Sequence[int]) -> SegmentedObject:
        """As ``Event``."""
        return replace(emptied(before), base=self.base, scores={2: dict.fromkeys(self.slices)})


@dataclass(frozen=True, eq=False)
class Propose(Event):
    """Something that was not prompted gives the mask: everything mode, a semantic head, a class prompt.

    Attributes:
        base: the mask, see ``Region.to_bytes``.
        axis: stored axis of the scores.
        scores: slice index -> predicted IoU, of every slice that the mask lies on; None where nobody says it.
        model: that found it.
    """

    kind: ClassVar[str] = "propose"
    base: bytes
    axis: int
    scores: Mapping[int, float | None]
    model: str

    def changed(self, before: SegmentedObject, shape: Sequence[int]) -> SegmentedObject:
        """As ``Event``."""
        found = replace(emptied(before), proposed=True, unprompted=True)
        return replace(found, base=self.base, scores={self.axis: dict(self.scores)})


@dataclass(frozen=True, eq=False)
class Predict(Event):
    """The model answers.

    Attributes:
        axis: stored axis of the slices.
        slices: those that were asked; None for the volume.
        scores: slice index -> predicted IoU; None where the mask is that which the user gave.
        model: that answered, see ``PromptedVolume.identity``.
        warnings: a sentence each.
    """

    kind: ClassVar[str] = "predict"
    axis: int
    slices: tuple[int, ...] | None
    scores: Mapping[int, float | None]
    model: str
    warnings: tuple[str, ...] = ()

    def changed(self, before: SegmentedObject, shape: Sequence[int]) -> SegmentedObject:
        """As ``Event``. Confirmed and filled slices keep their score; without one of their axis they are the user's."""
        scopes: list[Scope] = [(self.axis, index) for index in (self.slices or (None,))]
        asked = {**before.asked, **{scope: before.chain(scope, shape) for scope in scopes}}
        shown = dict.fromkeys(scopes, self.model)
        scores: dict[int, dict[int, float | None]] = {}
        if self.slices is not None:
            again = {(self.axis, index) for index in self.slices}
            scores = {a: {i: v for i, v in of.items() if (a, i) not in again} for a, of in before.scores.items()}
            shown = {s: by for s, by in before.shown.items() if s[0] == self.axis and s[1] is not None} | shown
        for axis, index in before.kept:
            scores.setdefault(axis, {})[index] = before.scores.get(axis, {}).get(index)
        scores[self.axis] = {**scores.get(self.axis, {}), **self.scores}
        return replace(before, asked=asked, shown=shown, scores=scores, warnings=self.warnings)


@dataclass(frozen=True, eq=False)
class Fill(Event):
    """Slices between confirmed ones are filled from their shape, see ``fill.fill_between``.

    Attributes:
        axis: stored axis of the slices.
        slices: those that were filled.
    """

    kind: ClassVar[str] = "fill"
    axis: int
    slices: tuple[int, ...]

    def changed(self, before: SegmentedObject, shape: Sequence[int]) -> SegmentedObject:
        """As ``Event``."""
        filled = before.filled | {(self.axis, index) for index in self.slices}
        scores = before.scores.get(self.axis, {}) | dict.fromkeys(self.slices)
        now = replace(before, proposed=False, unprompted=False)
        return replace(now, filled=filled, scores={**before.scores, self.axis: scores})


@dataclass(frozen=True, eq=False)
class Confirm(Event):
    """The user says that a slice is right, or that it may change again."""

    kind: ClassVar[str] = "confirm"
    axis: int
    index: int
    confirmed: bool

    def changed(self, before: SegmentedObject, shape: Sequence[int]) -> SegmentedObject:
        """As ``Event``."""
        this = {(self.axis, self.index)}
        confirmed = before.confirmed | this if self.confirmed else before.confirmed - this
        return replace(before, confirmed=confirmed, proposed=False)
