"""What happens to a session: the objects after an event are a function of those before it and of the event alone.

Masks are not in here: what an event changed of them is kept beside it, see ``steps.Step``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from bundle.errors import JournalError
from bundle.interactive.answer_options import AnswerOptions
from bundle.interactive.objects import (
    THIRD,
    Objects,
    Placed,
    SegmentedObject,
    emptied,
    same_interactions,
    slices_of,
    with_object,
)
from bundle.prompts.interactions import Interaction


@dataclass(frozen=True, eq=False)
class Event(ABC):
    """One thing that happened to an object.

    Attributes:
        object: its id.
    """

    kind: ClassVar[str]
    object: int

    def apply(self, objects: Objects, shape: Sequence[int]) -> Objects:
        """The objects afterwards; ``shape`` is (I, J, K) of the volume."""
        before = next((one for one in objects if one.id == self.object), None)
        if before is None:
            raise JournalError(f"an event names the object {self.object}, which is not there")
        return with_object(objects, self.changed(before, shape))

    @abstractmethod
    def changed(self, before: SegmentedObject, shape: Sequence[int]) -> SegmentedObject:
        """The object afterwards."""


@dataclass(frozen=True, eq=False)
class NewObject(Event):
    """An object begins."""

    kind: ClassVar[str] = "new object"
    name: str
    label: int
    color: tuple[float, float, float]

    def apply(self, objects: Objects, shape: Sequence[int]) -> Objects:
        """As ``Event``."""
        return (*objects, SegmentedObject(self.object, self.name, self.label, self.color))

    def changed(self, before: SegmentedObject, shape: Sequence[int]) -> SegmentedObject:
        """As ``Event``: there was none."""
        return before


@dataclass(frozen=True, eq=False)
class RemoveObject(Event):
    """An object goes, with its mask."""

    kind: ClassVar[str] = "remove object"

    def apply(self, objects: Objects, shape: Sequence[int]) -> Objects:
        """As ``Event``."""
        return tuple(one for one in objects if one.id != self.object)

    def changed(self, before: SegmentedObject, shape: Sequence[int]) -> SegmentedObject:
        """As ``Event``: there is none any more."""
        return before


@dataclass(frozen=True, eq=False)
class Rename(Event):
    """An object gets another name."""

    kind: ClassVar[str] = "rename"
    name: str

    def changed(self, before: SegmentedObject, shape: Sequence[int]) -> SegmentedObject:
        """As ``Event``."""
        return replace(before, name=self.name, proposed=False)


@dataclass(frozen=True, eq=False)
class Recolor(Event):
    """An object gets another colour."""

    kind: ClassVar[str] = "recolor"
    color: tuple[float, float, float]

    def changed(self, before: SegmentedObject, shape: Sequence[int]) -> SegmentedObject:
        """As ``Event``."""
        return replace(before, color=self.color)


@dataclass(frozen=True, eq=False)
class Lock(Event):
    """An object stays as it is shown from now on, or may change again."""

    kind: ClassVar[str] = "lock"
    locked: bool

    def changed(self, before: SegmentedObject, shape: Sequence[int]) -> SegmentedObject:
        """As ``Event``. Its mask became what the label map showed of it, so no answer is shown any more as it was."""
        return replace(before, locked=self.locked, shown={}, proposed=False)


@dataclass(frozen=True, eq=False)
class SetOptions(Event):
    """The answers for an object are to be bounded and cleaned otherwise."""

    kind: ClassVar[str] = "set options"
    options: AnswerOptions

    def changed(self, before: SegmentedObject, shape: Sequence[int]) -> SegmentedObject:
        """As ``Event``. What it shows was answered with others."""
        return replace(before, options=self.options, shown={})


@dataclass(frozen=True, eq=False)
class Add(Event):
    """An interaction comes, before that at ``position``.

    Attributes:
        position: of it among the interactions.
        interaction: that comes.
        client: see ``Placed``.
        along: stored axis of the slices that the step is about; see ``Placed``.
        dimension: 2 where it is about slices, 3 about the volume. None in journals of versions that did not write it:
            they lifted slices of all axes.
    """

    kind: ClassVar[str] = "add"
    position: int
    interaction: Interaction
    client: str | None = None
    along: int = THIRD
    dimension: int | None = None

    def changed(self, before: SegmentedObject, shape: Sequence[int]) -> SegmentedObject:
        """As ``Event``."""
        given, placed = list(before.interactions), list(before.placed)
        given.insert(self.position, self.interaction)
        placed.insert(self.position, Placed(self.client, self.along))
        lifted = _lifted(self, before, given, [self.interaction], [], shape)
        return _with_interactions(replace(before, placed=tuple(placed)), given, lifted)


@dataclass(frozen=True, eq=False)
class Move(Event):
    """The interaction at ``position`` becomes another one, and that of the client who moved it; see ``Add``."""

    kind: ClassVar[str] = "move"
    position: int
    interaction: Interaction
    client: str | None = None
    along: int = THIRD
    dimension: int | None = None

    def changed(self, before: SegmentedObject, shape: Sequence[int]) -> SegmentedObject:
        """As ``Event``."""
        given, placed = list(before.interactions), list(before.placed)
        former, given[self.position] = given[self.position], self.interaction
        placed[self.position] = Placed(self.client or placed[self.position].client, self.along)
        lifted = _lifted(self, before, given, [self.interaction], [former], shape)
        return _with_interactions(replace(before, placed=tuple(placed)), given, lifted)


@dataclass(frozen=True, eq=False)
class Remove(Event):
    """The interaction at ``position`` is taken back; see ``Add``."""

    kind: ClassVar[str] = "remove"
    position: int
    along: int = THIRD
    dimension: int | None = None

    def changed(self, before: SegmentedObject, shape: Sequence[int]) -> SegmentedObject:
        """As ``Event``."""
        given, placed = list(before.interactions), list(before.placed)
        former, _ = given.pop(self.position), placed.pop(self.position)
        lifted = _lifted(self, before, given, [], [former], shape)
        return _with_interactions(replace(before, placed=tuple(placed)), given, lifted)


@dataclass(frozen=True, eq=False)
class Reset(Event):
    """Interactions and mask go, the object stays."""

    kind: ClassVar[str] = "reset"

    def changed(self, before: SegmentedObject, shape: Sequence[int]) -> SegmentedObject:
        """As ``Event``."""
        return emptied(before)


def _lifted(
    event: Add | Move | Remove,
    before: SegmentedObject,
    given: Sequence[Interaction],
    came: list[Interaction],
    went: list[Interaction],
    shape: Sequence[int],
) -> set[tuple[int, int]]:
    """The slices (axis, index) that a step prompts anew, so that they are no longer kept as they were.

    Those that somebody looked at: along the axis of the step, where something came. Where something went alone, that is
    so in 2D; through the volume nobody need have looked there. What only has another place in the list came or went
    not.
    """
    if event.dimension is not None:
        came = [one for one in came if not any(one.same(other) for other in before.interactions)]
        went = [one for one in went if not any(one.same(other) for other in given)]
    touched = came if event.dimension == 3 else came + went
    axes = range(3) if event.dimension is None else (event.along,)
    lying = {(axis, slices_of(one, axis, shape)) for one in touched for axis in axes}
    return {(axis, first) for axis, (first, last) in lying if first == last}


def _with_interactions(
    before: SegmentedObject, given: list[Interaction], lifted: set[tuple[int, int]]
) -> SegmentedObject:
    """The object with other interactions; slices that are prompted anew are not kept, nor answered, as they were."""
    if same_interactions(given, before.interactions):
        return before
    anew = {
        "confirmed": before.confirmed - lifted,
        "filled": before.filled - lifted,
        "shown": {scope: "" if scope in lifted else model for scope, model in before.shown.items()},
    }
    return replace(before, interactions=tuple(given), **anew, proposed=False, unprompted=False)
