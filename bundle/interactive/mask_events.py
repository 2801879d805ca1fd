"""What gives an object its mask: the user, a model, or something that found it by itself. See ``events``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from bundle.interactive.events import Event
from bundle.interactive.objects import Scope, SegmentedObject, emptied
from bundle.prompts.interactions import Interaction

Scores = Mapping[int, Mapping[int, float | None]]
Asked = Mapping[Scope, tuple[tuple[Interaction, ...], ...]]
"""Both as the attributes of ``SegmentedObject``."""


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
        repainted: whether the mask became another one; taken to be so in journals of versions that did not write it.
    """

    kind: ClassVar[str] = "predict"
    axis: int
    slices: tuple[int, ...] | None
    scores: Mapping[int, float | None]
    model: str
    warnings: tuple[str, ...] = ()
    repainted: bool = True

    def changed(self, before: SegmentedObject, shape: Sequence[int]) -> SegmentedObject:
        """As ``Event``. Confirmed and filled slices keep their score; without one of their axis they are the user's."""
        scopes: list[Scope] = [(self.axis, index) for index in (self.slices or (None,))]
        asked = {**before.asked, **{scope: before.chain(scope, shape) for scope in scopes}}
        scores = self._scores(before)
        stays = [one for one in before.shown if one not in scopes and self._leaves(one, before, scores, asked)]
        shown = {one: before.shown[one] for one in stays} | dict.fromkeys(scopes, self.model)
        return replace(before, asked=asked, shown=shown, scores=scores, warnings=self.warnings)

    def _scores(self, before: SegmentedObject) -> dict[int, dict[int, float | None]]:
        """Those of the object afterwards: on slices beside what is there, through the volume instead of it."""
        scores: dict[int, dict[int, float | None]] = {}
        if self.slices is not None or not self.repainted:
            again = {(self.axis, index) for index in self.slices or before.scores.get(self.axis, ())}
            scores = {a: {i: v for i, v in of.items() if (a, i) not in again} for a, of in before.scores.items()}
        for axis, index in before.kept:
            scores.setdefault(axis, {})[index] = before.scores.get(axis, {}).get(index)
        scores[self.axis] = {**scores.get(self.axis, {}), **self.scores}
        return scores

    def _leaves(self, scope: Scope, before: SegmentedObject, scores: Scores, asked: Asked) -> bool:
        """Whether the mask still shows what it showed of another scope.

        An answer on a slice leaves those on other slices: where they cross, it shows, as what was said last, until
        something new is said on one of them. Were the older answer asked again for that line, two planes would take it
        from each other for ever. A slice that is emptied takes something from those that cross it, and the volume, or
        a slice of it, is another answer where a voxel or a score of it changed.
        """
        axis, index = scope
        if index is not None and self.slices is not None:
            return axis == self.axis or all(asked[self.axis, one] for one in self.slices)
        return not self.repainted and (axis != self.axis or scores[axis] == before.scores.get(axis))


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
        if self.confirmed:
            return replace(before, confirmed=before.confirmed | this, proposed=False)
        # What it was asked while the slice was kept, no answer shows there.
        shown = {
            scope: model if scope[0] == self.axis and scope[1] not in (self.index, None) else ""
            for scope, model in before.shown.items()
        }
        return replace(before, confirmed=before.confirmed - this, shown=shown, proposed=False)
