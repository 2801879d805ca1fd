"""The history of a session: steps that can be undone and done again without limit, bit for bit, without the model."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bundle.errors import JournalError, MonaiSamError
from bundle.interactive.event_json import event_from_json, event_to_json
from bundle.interactive.events import Add, Event, Move, Recolor, Rename
from bundle.interactive.mask_events import Confirm
from bundle.interactive.objects import Objects, SegmentedObject
from bundle.interactive.regions import Box, Region, union
from bundle.prompts.interactions import Interaction

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, eq=False)
class Step:
    """What the user did at once, and what it changed.

    Attributes:
        events: in their order.
        changes: id of an object -> the voxels in which its mask changed, see ``Region.to_bytes``.
    """

    events: tuple[Event, ...]
    changes: Mapping[int, bytes] = field(default_factory=dict)

    def box(self, shape: tuple[int, int, int]) -> Box | None:
        """Where it changed masks."""
        return union([Region.from_bytes(change, shape).box for change in self.changes.values()])

    def painted(self) -> set[int]:
        """The objects whose place in the label map it may have changed."""
        return {event.object for event in self.events if not isinstance(event, (Rename, Recolor, Confirm))}

    def to_bytes(self) -> bytes:
        """The record of it; ``record_from_bytes`` reads it."""
        head = {
            "events": [event_to_json(event) for event in self.events],
            "changes": [[key, len(change)] for key, change in self.changes.items()],
        }
        text = json.dumps(head, separators=(",", ":")).encode()
        return b"".join([_LENGTH.pack(len(text)), text, *self.changes.values()])


UNDO, REDO = "undo", "redo"


@dataclass(frozen=True)
class GivenIds:
    """All ids of objects up to ``last`` were given, also by steps that are forgotten."""

    last: int


Record = Step | GivenIds | str
"""A step, ``UNDO`` or ``REDO``; before the steps of a record that was compacted, the ids that were given."""


def record_to_bytes(record: Record) -> bytes:
    """What stands in the journal of a record."""
    if isinstance(record, Step):
        return record.to_bytes()
    text = json.dumps({"ids": record.last} if isinstance(record, GivenIds) else {"history": record}).encode()
    return _LENGTH.pack(len(text)) + text


def record_from_bytes(data: bytes, shape: Sequence[int]) -> Record:
    """Read what ``record_to_bytes`` wrote.

    Raises:
        JournalError: it is something else.
    """
    try:
        (length,) = _LENGTH.unpack_from(data)
        head, rest = json.loads(data[_LENGTH.size : _LENGTH.size + length]), data[_LENGTH.size + length :]
        if "history" in head:
            if head["history"] not in (UNDO, REDO):
                raise JournalError(f'"history" must be {UNDO} or {REDO}, got {head["history"]!r:.40}')
            return head["history"]
        if "ids" in head:
            if type(head["ids"]) is not int or head["ids"] < 0:
                raise JournalError(f'"ids" must be a whole number, got {head["ids"]!r:.40}')
            return GivenIds(head["ids"])
        voxels = shape[0] * shape[1] * shape[2]
        changes = {}
        for key, size in head["changes"]:
            changes[int(key)], rest = rest[:size], rest[size:]
        return Step(tuple(event_from_json(entry, voxels) for entry in head["events"]), changes)
    except (struct.error, KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, MonaiSamError):
            raise
        raise JournalError(f"a record of a session is damaged ({error})") from error


class Draft:
    """A step that is being made: the objects and masks as they will be.

    Args:
        history: that it will be a step of; it stays as it is.
    """

    def __init__(self, history: History) -> None:
        self.objects = history.objects
        self.events: list[Event] = []
        self._history, self._masks = history, {}

    def add(self, event: Event) -> None:
        """Let something happen."""
        self.objects = event.apply(self.objects, self._history.shape)
        self.events.append(event)

    def next_id(self) -> int:
        """An id that no object had, undone ones included."""
        return max([self._history.next_id(), *(event.object + 1 for event in self.events)])

    def of(self, key: int) -> SegmentedObject:
        """The object of an id."""
        return next(one for one in self.objects if one.id == key)

    def said_of(self, key: int) -> list[Interaction]:
        """What was said of an object in this step."""
        return [event.interaction for event in self.events if isinstance(event, (Add, Move)) and event.object == key]

    def mask(self, key: int) -> Region:
        """The mask of an object."""
        return self._masks.get(key, self._history.mask(key))

    def set_mask(self, key: int, mask: Region) -> None:
        """Give an object another mask."""
        self._masks[key] = mask

    @property
    def masks(self) -> dict[int, Region]:
        """id -> mask of each object that is there."""
        return {one.id: self.mask(one.id) for one in self.objects}

    @contextmanager
    def or_nothing(self) -> Iterator[None]:
        """Keep what happens while the block runs, or nothing of it if the block raises."""
        before = self.objects, list(self.events), dict(self._masks)
        try:
            yield
        except BaseException:
            self.objects, self.events, self._masks = before
            raise

    def step(self) -> Step:
        """The step: what happened and what that changed."""
        changes = {key: self._history.mask(key).xor(mask).to_bytes() for key, mask in self._masks.items()}
        return Step(tuple(self.events), {key: change for key, change in changes.items() if change})


class History:
    """The objects of a session, their masks, and the steps that led there.

    Args:
        shape: (I, J, K) of the volume.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self.objects: Objects = ()
        self._masks: dict[int, Region] = {}
        self._done: list[tuple[Objects, Step]] = []
        self._undone: list[tuple[Objects, Step]] = []
        self._last_id = 0

    @property
    def undo_depth(self) -> int:
        """How many steps can be undone."""
        return len(self._done)

    @property
    def redo_depth(self) -> int:
        """How many undone steps can be done again."""
        return len(self._undone)

    @property
    def masks(self) -> dict[int, Region]:
        """id -> mask of each object that is there."""
        return {one.id: self.mask(one.id) for one in self.objects}

    def mask(self, key: int) -> Region:
        """The mask of an object."""
        return self._masks.get(key, Region.empty())

    def next_id(self) -> int:
        """An id that no object had, undone ones included."""
        return self._last_id + 1

    def take(self, record: Record) -> Step | None:
        """Do a step, undo the last one, or do it again; the step that was done or undone, None without any.

        Raises:
            SessionError: a record that does not belong here; then nothing has changed.
        """
        if isinstance(record, GivenIds):
            self._last_id = max(self._last_id, record.last)
            return None
        if record == UNDO:
            return self._turn(self._done, self._undone)
        if record == REDO:
            return self._turn(self._undone, self._done)
        objects = self.objects
        try:
            for event in record.events:
                objects = event.apply(objects, self.shape)
        except IndexError as error:
            raise JournalError(
                f"an event names an interaction that is not there: {event_to_json(event)!r:.120}"
            ) from error
        changed = self._changed(record)
        self._done.append((self.objects, record))
        self._undone.clear()
        self.objects = objects
        self._masks.update(changed)
        self._last_id = max([self._last_id, *(event.object for event in record.events)])
        return record

    def records(self, *, redo: bool = True) -> list[Record]:
        """The shortest list of records that leads here: without the steps that were undone and can not come back.

        Args:
            redo: whether those that can come back stay; a new step forgets them.
        """
        undone = [step for _, step in reversed(self._undone)] if redo else []
        return [GivenIds(self._last_id), *(step for _, step in self._done), *undone, *[UNDO] * len(undone)]

    def last(self, record: str) -> Step | None:
        """The step that an undo or redo would take."""
        stack = self._done if record == UNDO else self._undone
        return stack[-1][1] if stack else None

    def _turn(self, source: list[tuple[Objects, Step]], target: list[tuple[Objects, Step]]) -> Step | None:
        if not source:
            return None
        objects, step = source[-1]
        changed = self._changed(step)
        source.pop()
        target.append((self.objects, step))
        self.objects = objects
        self._masks.update(changed)
        return step

    def _changed(self, step: Step) -> dict[int, Region]:
        changes = {key: Region.from_bytes(change, self.shape) for key, change in step.changes.items()}
        return {key: self.mask(key).xor(change) for key, change in changes.items() if not change.is_empty}
