"""The steps of a session: taken one after the other, in memory and on disk, undone and done again."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace

from bundle.errors import SessionError
from bundle.interactive.journal import Journal
from bundle.interactive.regions import union
from bundle.interactive.shown_objects import ShownObjects
from bundle.interactive.steps import REDO, UNDO, Draft, History, Record, Step, record_from_bytes, record_to_bytes
from bundle.interactive.update import Update

_log = logging.getLogger(__name__)
_WORTH = 0.5  # of a session's file: less than that is not worth writing the rest anew
# Times the size of a full file that undo and redo are taken up to. Their records are shorter than those of the steps,
# so that a compacted file never is as large: they are never refused.
_TURNED = 2


class SteppedSession(ShownObjects):
    """Objects with their masks, and the steps that led there. Safe to use from many threads: they wait for each other.

    ``undo`` takes a step back bit for bit. Where there is a journal, a step is on the disk before the method that takes
    it returns. A method that raises leaves the session as it was.

    Args:
        shape: (I, J, K) of the image.
        journal: keeps the session on disk; what it holds already is restored.

    Raises:
        JournalError: the journal cannot be used.
    """

    def __init__(self, shape: tuple[int, int, int], journal: Journal | None = None) -> None:
        super().__init__(shape)
        self._journal = journal
        self._together: Draft | None = None  # of all methods in the block of ``one_step``
        if journal is not None and journal.path.exists():
            with self._held():
                _log.info("session %s restored: %d steps", journal.path.name[:12], self.undo_depth)
                self._compacted(least=_WORTH)

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

    @contextlib.contextmanager
    def one_step(self) -> Iterator[None]:
        """Make one step of all methods that are called while the block runs.

        If one of them raises, and the block with it, the session is as it was before. Until its end, masks and objects
        are still those from before, and the updates say what was asked, not what changed.

        Raises:
            SessionError: within the block, of ``undo``, ``redo`` and ``compact``, which are no part of a step.
        """
        with self._draft() as draft:
            outer, self._together = self._together, draft
            try:
                yield
            finally:
                self._together = outer
            self._commit(draft)

    def compact(self) -> int:
        """Forget on disk the steps that were undone and can not come back; undo and redo stay as they are.

        Done by itself where a session is opened of which at least half can go, and where it grows too large.

        Returns:
            Bytes that the session's file became shorter by.
        """
        with self._held():
            return self._compacted()

    def _compacted(self, *, least: float = 0.0) -> int:
        """Compact where at least this share of the file goes; the session is held."""
        if self._journal is None:
            return 0
        contents = [record_to_bytes(record) for record in self._history.records()]
        if sum(map(len, contents)) > (1 - least) * self._journal.size:
            return 0
        return self._journal.rewrite(contents) or 0

    def _turn(self, record: str) -> Update | None:
        with self._held():
            step = self._history.last(record)
            if step is None:
                return None
            return self._taken(record, step)

    @contextlib.contextmanager
    def _draft(self) -> Iterator[Draft]:
        with self._lock:
            if self._together is not None:
                with self._together.or_nothing():  # its caller may go on after an error
                    yield self._together
                return
            with self._held():
                yield Draft(self._history)

    def _commit(self, draft: Draft, **answered: object) -> Update:
        """Make a draft the last step; nothing where nothing happened in it, or more is to happen (``one_step``)."""
        if not draft.events or draft is self._together:
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
        return Update(tuple(names[key] for key in keys if key in names), step.box(self._shape), union(boxes))

    def _take(self, record: Record) -> None:
        try:
            if self._journal is not None:
                self._write(self._journal, record)
            self._history.take(record)
        except BaseException:
            if self._journal is not None:
                self._journal.rewind()  # what is on the disk counts: all is read again before the next step
            raise

    def _write(self, journal: Journal, record: Record) -> None:
        """Put a record on the disk; where the file is full, without the steps that are forgotten."""
        content, most = record_to_bytes(record), journal.max_bytes * (_TURNED if isinstance(record, str) else 1)
        if not journal.has_room(content, most=most):
            if isinstance(record, Step):  # forgets what was undone: only together, in one write
                left = [*map(record_to_bytes, self._history.records(redo=False)), content]
                if journal.fits(left) and journal.rewrite(left) is not None:
                    return
            self._compacted()
        journal.append(content, most=most)

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the session while the block runs, as it is with the steps of other processes."""
        with self._lock:
            if self._together is not None:
                raise SessionError("undo, redo and compact are no part of a step; call them outside of one_step")
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
