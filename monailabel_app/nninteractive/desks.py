"""Open work by name, for dialects without leases.

Who worked longest ago is closed beyond a number, and everybody who did nothing for long: what was done is kept.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from monailabel_app.nninteractive.workbench import Opener, Seats, Workbench


@dataclass(eq=False)
class _Desk:
    work: Workbench
    lock: threading.RLock = field(default_factory=threading.RLock)
    used: float = 0.0


class Desks:
    """Works by name; safe to use from many threads, requests of one name wait for each other.

    Args:
        open_session: opens an image for a user.
        most: works that are kept open.
        idle_seconds: after which a work that nothing was done with is closed.
        clock: seconds that only go up.
    """

    def __init__(
        self,
        open_session: Opener,
        *,
        most: int = 8,
        idle_seconds: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open, self._most, self._seats = open_session, most, Seats()
        self._idle_seconds, self._clock = idle_seconds, clock
        self._desks: OrderedDict[str, _Desk] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, name: str, user: str) -> None:
        """Let there be a work of this name."""
        with self._lock:
            if name not in self._desks:
                self._desks[name] = _Desk(Workbench(user, self._open, self._seats))
            self._desks[name].used = self._clock()
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
                desk.used = self._clock()
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

    def drop_idle(self) -> None:
        """Close the works that nothing was done with for long, but one that is being answered."""
        now = self._clock()
        with self._lock:
            idle = [name for name, desk in self._desks.items() if now - desk.used > self._idle_seconds]
            free = [name for name in idle if self._desks[name].lock.acquire(blocking=False)]
            gone = [self._desks.pop(name) for name in free]
        for desk in gone:
            try:
                desk.work.close()
            finally:
                desk.lock.release()

    def __len__(self) -> int:
        return len(self._desks)


def _close(desk: _Desk) -> None:
    with desk.lock:
        desk.work.close()
