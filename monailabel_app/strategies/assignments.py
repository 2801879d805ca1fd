"""Who works on which image, so that it is not handed to a second one meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from monailabel_app.wire.json_values import STRATEGY

HELD = 1800.0  # seconds after its last click or its handing out that an image is still somebody's
USER = "user"  # in the note of a strategy: whose it was, as this server knows users


class Assignments:
    """Safe to use from many threads. What was handed out is noted in the index, so that it outlives the server.

    Args:
        seconds: how long an image stays somebody's after the last sign of work on it.
        clock: seconds since 1970.
    """

    def __init__(self, *, seconds: float = HELD, clock: Callable[[], float] = time.time) -> None:
        self.choosing = threading.Lock()
        """Held while an image is chosen and noted, so that two requests do not choose the same."""
        self._seconds, self._clock = seconds, clock
        self._seen: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def work(self, image: str, user: str) -> None:
        """Note that somebody works on an image now: was given it, or clicked."""
        now = self._clock()
        with self._lock:
            self._seen[image] = user, now
            self._seen = {name: seen for name, seen in self._seen.items() if now - seen[1] < self._seconds}

    def is_taken(self, image: str, user: str, info: Mapping[str, Any]) -> bool:
        """Whether somebody else works on it.

        Args:
            image: its id.
            user: who asks.
            info: what the index says of it.
        """
        holder, when = self._last(image, info)
        return holder != user and 0 <= self._clock() - when < self._seconds

    def had_at(self, image: str, user: str, info: Mapping[str, Any]) -> float | None:
        """When the user who asks was given an image or clicked on it, in seconds since 1970; None if others were last.

        Arguments as of ``is_taken``.
        """
        holder, when = self._last(image, info)
        return when if when and holder == user else None

    def _last(self, image: str, info: Mapping[str, Any]) -> tuple[str, float]:
        """Who worked on an image last, and when; nobody at 0."""
        with self._lock:
            seen = self._seen.get(image)
        return max(filter(None, (seen, last_given(info))), key=lambda one: one[1], default=("", 0.0))


def last_given(info: Mapping[str, Any]) -> tuple[str, float] | None:
    """To whom an image was handed out last and when, by any strategy; None if it never was."""
    notes = notes_of(info).values()
    found = [(_user_of(note), float(note["ts"])) for note in notes if _is_time(note.get("ts"))]
    return max(found, key=lambda one: one[1], default=None)


def notes_of(info: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Strategy -> its note, of what the index says of an image; a client may have put anything there."""
    notes = info.get(STRATEGY)
    return {name: note for name, note in notes.items() if isinstance(note, dict)} if isinstance(notes, dict) else {}


def _user_of(note: Mapping[str, Any]) -> str:
    return str(note.get(USER) or note.get("client_id") or "")


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
