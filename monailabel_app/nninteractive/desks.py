"""Open work by name, for dialects without leases; who worked longest ago is closed beyond a number."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from monailabel_app.nninteractive.workbench import Opener, Seats, Workbench


@dataclass(eq=False)
class _Desk:
    work: Workbench
    lock: threading.RLock = field(default_factory=threading.RLock)


class Desks:
    """Works by name; safe to use from many threads, requests of one name wait for each other.

    Args:
        open_session: opens an image for a user.
        most: works that are kept open.
    """

    def __init__(self, open_session: Opener, *, most: int = 8) -> None:
        self._open, self._most, self._seats = open_session, most, Seats()
        self._desks: OrderedDict[str, _Desk] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, name: str, user: str) -> None:
        """Let there be a work of this name."""
        with self._lock:
            if name not in self._desks:
                self._desks[name] = _Desk(Workbench(user, self._open, self._seats))
            self._desks.move_to_end(name)
            gone = [self._desks.popitem(last=False)[1] for _ in range(len(self._desks) - self._most)]
        for desk in gone:
            _close(desk)

    @contextmanager
    def at(self, name: str) -> Iterator[Workbench | None]:
        """The work of a name, which nobody else uses meanwhile; None where there is none."""
        with self._lock:
            desk = self._desks.get(name)
            if desk is not None:
                self._desks.move_to_end(name)
        if desk is None:
            yield None
            return
        with desk.lock:
            yield desk.work

    def end(self, name: str) -> None:
        """Close a work; what was done is kept."""
        with self._lock:
            desk = self._desks.pop(name, None)
        if desk is not None:
            _close(desk)


def _close(desk: _Desk) -> None:
    with desk.lock:
        desk.work.close()
