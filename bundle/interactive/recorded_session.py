"""The objects of an image and what was done to them, in memory and on disk: all of a session that needs no model."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from bundle.errors import SessionError
from bundle.interactive import events as happened
from bundle.interactive.journal import Journal
from bundle.interactive.object_labels import label_map
from bundle.interactive.objects import (
    check_name,
    checked_color,
    existing,
    named,
    new_object,
)
from bundle.interactive.regions import Region, union
from bundle.interactive.shown_objects import ShownObjects
from bundle.interactive.steps import REDO, UNDO, Draft, History, Record, Step, record_from_bytes, record_to_bytes
from bundle.interactive.update import Update

_log = logging.getLogger(__name__)


class RecordedSession(ShownObjects):
    """Objects with their masks, and the steps that led there. Safe to use from many threads: they wait for each other.

    Each method that changes something is one step, which ``undo`` takes back bit for bit, and which is on the disk
    before the method returns, where there is a journal. One that raises leaves the session as it was.

    Args:
        shape: (I, J, K) of the image.
        journal: keeps the session on disk; what it holds already is restored.

    Raises:
        JournalError: the journal cannot be used.
    """

    def __init__(self, shape: tuple[int, int, int], journal: Journal | None = None) -> None:
        super().__init__(shape)
        self._journal = journal
        if journal is not None and journal.path.exists():
            with self._held():
                _log.info("session %s restored: %d steps", journal.path.name[:12], self.undo_depth)

    # ---- objects ----------------------------------------------------------------------------------------------------

    def new_object(self, name: str, *, label: int | None = None, color: Sequence[float] | None = None) -> Update:
        """Begin an object without a mask.

        Args:
            name: unique in the session.
            label: its value in the label map; by default the next one.
            color: red, green and blue from 0 to 1; by default that of the label.

        Raises:
            SessionError: name or label are taken or cannot be used.
        """
        with self._draft() as draft:
            self._begin_object(draft, name, label, color)
            return self._commit(draft)

    def remove_object(self, name: str) -> Update:
        """Remove an object and its mask; ``undo`` brings both back.

        Raises:
            SessionError: there is none, or it is locked.
        """
        with self._draft() as draft:
            key = self._unlocked(draft, name)
            draft.set_mask(key, Region.empty())
            draft.add(happened.RemoveObject(key))
            return self._commit(draft)

    def rename(self, name: str, new: str) -> Update:
        """Give an object another name, locked or not."""
        with self._draft() as draft:
            one = existing(draft.objects, name)
            if new != name:
                check_name(draft.objects, new)
                draft.add(happened.Rename(one.id, new))
            return self._commit(draft)

    def recolor(self, name: str, color: Sequence[float]) -> Update:
        """Give an object another colour, red, green and blue from 0 to 1."""
        with self._draft() as draft:
            draft.add(happened.Recolor(existing(draft.objects, name).id, checked_color(color)))
            return self._commit(draft)

    def lock(self, name: str) -> Update:
        """Keep an object as the label map shows it now: no prompt changes it, no other object is painted over it."""
        with self._draft() as draft:
            one = existing(draft.objects, name)
            box = draft.mask(one.id).box
            if not one.locked and box is not None:
                shown = label_map(draft.objects, draft.masks, box, self._shape) == one.label
                draft.set_mask(one.id, Region.of(shown, box[0]))
            if not one.locked:
                draft.add(happened.Lock(one.id, True))
            return self._commit(draft)

    def unlock(self, name: str) -> Update:
        """Let an object change again."""
        with self._draft() as draft:
            one = existing(draft.objects, name)
            if one.locked:
                draft.add(happened.Lock(one.id, False))
            return self._commit(draft)

    def set_mask(self, mask: np.ndarray, object: str = "object") -> Update:
        """Give an object the mask to begin with, as it is; interactions from before are forgotten.

        Args:
            mask: (I, J, K), nonzero on the object; later interactions refine it.
            object: its name; it begins where it is not there.

        Raises:
            SessionError: the mask is of another shape, or the object is locked.
        """
        mask = np.asarray(mask) != 0
        if mask.shape != tuple(self._shape):
            raise SessionError(f"the mask of {object!r} must have {tuple(self._shape)} voxels, got {mask.shape}")
        with self._draft() as draft:
            key, region = self._unlocked(draft, object, new=True), Region.of(mask)
            draft.set_mask(key, region)
            slices = () if region.is_empty else np.flatnonzero(region.voxels.any(axis=(0, 1))) + region.low[2]
            draft.add(happened.SetMask(key, region.to_bytes(), tuple(map(int, slices))))
            return self._commit(draft)

    def confirm(self, index: int, object: str = "object", *, axis: int = 2, confirmed: bool = True) -> Update:
        """Say that a slice of an object is right: answers through the volume leave it as it is.

        A prompt on the slice itself changes it, and takes the confirmation back.

        Args:
            index: of the slice.
            object: name of the object.
            axis: stored axis of the slice.
            confirmed: False takes it back.

        Raises:
            SessionError: there is no such slice or object, or it is locked.
        """
        if axis not in (0, 1, 2) or not 0 <= index < self._shape[axis]:
            raise SessionError(f"there is no slice {index} along axis {axis} of {tuple(self._shape)} voxels")
        with self._draft() as draft:
            draft.add(happened.Confirm(self._unlocked(draft, object), axis, int(index), bool(confirmed)))
            return self._commit(draft)

    def reset(self, name: str | None = None) -> Update:
        """Take interactions and mask from an object, or from all that are not locked; ``undo`` brings them back.

        Raises:
            SessionError: the object is locked.
        """
        with self._draft() as draft:
            for one in draft.objects:
                is_new = not (one.interactions or one.base) and draft.mask(one.id).is_empty
                if name in (None, one.name) and not is_new and not (name is None and one.locked):
                    self._reset(draft, self._unlocked(draft, one.name))
            return self._commit(draft)

    # ---- steps ------------------------------------------------------------------------------------------------------

    @property
    def undo_depth(self) -> int:
        """How many steps can be undone."""
        return self._history.undo_depth

    @property
    def redo_depth(self) -> int:
        """How many undone steps can be done again; a new step forgets them."""
        return self._history.redo_depth

    def undo(self) -> Update | None:
        """Take the last step back; None where there is none."""
        return self._turn(UNDO)

    def redo(self) -> Update | None:
        """Do the step again that was undone last; None where there is none."""
        return self._turn(REDO)

    def _turn(self, record: str) -> Update | None:
        with self._held():
            step = self._history.last(record)
            if step is None:
                return None
            return self._taken(record, step)

    @contextlib.contextmanager
    def _draft(self) -> Iterator[Draft]:
        with self._held():
            yield Draft(self._history)

    def _commit(self, draft: Draft, **answered: object) -> Update:
        """Make a draft the last step; nothing where nothing happened in it."""
        if not draft.events:
            return Update(**answered)
        step = draft.step()
        return replace(self._taken(step, step), **answered)

    def _taken(self, record: Record, step: Step) -> Update:
        """Take a record, and say what its step changed."""
        keys = dict.fromkeys(event.object for event in step.events)
        names = {one.id: one.name for one in self.objects}
        boxes = [self._history.mask(key).box for key in step.painted()]
        self._take(record)
        names |= {one.id: one.name for one in self.objects}
        boxes += [self._history.mask(key).box for key in step.painted()]
        return Update(tuple(names[key] for key in keys), step.box(self._shape), union(boxes))

    def _take(self, record: Record) -> None:
        try:
            if self._journal is not None:
                self._journal.append(record_to_bytes(record))
            self._history.take(record)
        except BaseException:
            if self._journal is not None:
                self._journal.rewind()  # what is on the disk counts: all is read again before the next step
            raise

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the session while the block runs, as it is with the steps of other processes."""
        with self._lock:
            if self._journal is None:
                yield
                return
            with self._journal.held() as (begins_anew, records):
                try:
                    if begins_anew:
                        self._history = History(self._shape)
                    for record in records:
                        self._history.take(record_from_bytes(record, self._shape))
                except BaseException:
                    self._journal.rewind()
                    raise
                yield

    def _begin_object(
        self, draft: Draft, name: str, label: int | None = None, color: Sequence[float] | None = None
    ) -> int:
        one = new_object(draft.objects, self._history.next_id(), name, label, color)
        draft.add(happened.NewObject(one.id, one.name, one.label, one.color))
        return one.id

    def _unlocked(self, draft: Draft, name: str, *, new: bool = False) -> int:
        """The id of an object that may change; a new one where it is not there and may begin."""
        if new and named(draft.objects, name) is None:
            return self._begin_object(draft, name)
        one = existing(draft.objects, name)
        if one.locked:
            raise SessionError(f"object {name!r} is locked; unlock it first")
        return one.id

    @staticmethod
    def _reset(draft: Draft, key: int) -> None:
        draft.set_mask(key, Region.empty())
        draft.add(happened.Reset(key))
