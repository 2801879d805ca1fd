"""Leases: who may use one of the server's places, and for how long.

A lease has two clocks. It goes when nothing was done with it for ``idle_seconds``, however alive its client is, and
when nothing was heard of it for ``silent_seconds``, because then the client is gone. A heartbeat sets back the second
clock alone. What was done under a lease that went is not lost: it is kept by image and user (``workbench.py``).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from monailabel_app.errors import RequestError


class LeaseLost(RequestError):
    """A lease that is unknown, was given back or has expired."""

    def __init__(self) -> None:
        super().__init__("the session has expired or is unknown; connect again, your work is kept", status=410)


class NoPlace(RequestError):
    """All places are taken."""

    def __init__(self, places: int, seconds: float) -> None:
        super().__init__(f"all {places} places of this server are taken; try again later", status=503)
        self.retry_after = max(1, round(seconds))


@dataclass(eq=False)
class Lease:
    """One client's place.

    Attributes:
        token: names it; nobody can guess it.
        user: whose key it was claimed with.
        holds: what is being worked on, the dialect's own.
        lock: held while a request of this client is answered.
        used: when something was last done with it.
        heard: when anything was last heard of it.
    """

    token: str
    user: str
    holds: Any = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    used: float = 0.0
    heard: float = 0.0


class Leases:
    """The leases of a server; safe to use from many threads.

    Args:
        places: leases at once.
        idle_seconds: after which a lease that nothing was done with goes.
        silent_seconds: after which a lease that nothing was heard of goes.
        on_loss: called with a lease that went by its clocks.
        clock: seconds that only go up.
    """

    def __init__(
        self,
        *,
        places: int,
        idle_seconds: float = 600.0,
        silent_seconds: float = 60.0,
        on_loss: Callable[[Lease], None] = lambda lease: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.places, self.idle_seconds, self.silent_seconds = places, idle_seconds, silent_seconds
        self.on_loss, self._clock = on_loss, clock
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()

    def claim(self, user: str) -> Lease:
        """Take a place.

        Raises:
            NoPlace: there is none; how long the next may take to become free goes along.
        """
        self.drop_expired()
        with self._lock:
            if len(self._leases) >= self.places:
                raise NoPlace(self.places, min(self.remaining(lease) for lease in self._leases.values()))
            now = self._clock()
            lease = Lease(secrets.token_urlsafe(32), user, used=now, heard=now)
            self._leases[lease.token] = lease
            return lease

    def find(self, token: str, user: str, *, used: bool) -> Lease:
        """The lease of a token.

        Args:
            token: as the client sends it.
            user: whose key the request has; another's lease is unknown to it.
            used: whether something is being done with it; otherwise the client only says that it lives.

        Raises:
            LeaseLost: there is none.
        """
        self.drop_expired()
        with self._lock:
            lease = self._held(token, user)
            if lease is None:
                raise LeaseLost
            lease.heard = self._clock()
            if used:
                lease.used = lease.heard
            return lease

    def look(self, token: str, user: str) -> float:
        """Seconds until a lease would go for want of use; sets back no clock.

        Raises:
            LeaseLost: there is none.
        """
        self.drop_expired()
        with self._lock:
            lease = self._held(token, user)
            if lease is None:
                raise LeaseLost
            return self.remaining(lease)

    def release(self, token: str, user: str) -> Lease | None:
        """Give a place back; None where there was none, so that it may be said twice."""
        with self._lock:
            return None if self._held(token, user) is None else self._leases.pop(token)

    def __len__(self) -> int:
        self.drop_expired()
        return len(self._leases)

    def remaining(self, lease: Lease) -> float:
        """Seconds until a lease goes for want of use."""
        return max(0.0, self.idle_seconds - (self._clock() - lease.used))

    def _held(self, token: str, user: str) -> Lease | None:
        lease = self._leases.get(token)
        return lease if lease is not None and lease.user == user else None

    def drop_expired(self) -> None:
        """Let the leases go whose time is over; what they held is closed. The server does so on a timer, too."""
        now = self._clock()
        with self._lock:
            gone = [
                lease
                for lease in self._leases.values()
                if now - lease.used > self.idle_seconds or now - lease.heard > self.silent_seconds
            ]
            gone = [lease for lease in gone if lease.lock.acquire(blocking=False)]  # one that is answered now stays
            for lease in gone:
                del self._leases[lease.token]
                lease.lock.release()
        for lease in gone:
            self.on_loss(lease)
