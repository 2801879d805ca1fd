"""Whose turn it is on the device that computes: a bounded queue, fair between users, whose requests can be cancelled.

A request is a ``Work``: it is admitted, or refused with 503 when too many are there already. What it computes stands in
``with turn(image):``. There is one turn at a time on a device, and between slices (``checkpoint``, the ``progress`` of
``InteractiveSession.segment_volume``) it goes to the next user who waits, so that a click waits for the slices that
others are at, not for their volumes. There it is also noted how far the request is. Requests on one session follow
each other whole.

The users take turns, whoever sends how much; so do the requests of one user. What the server does of its own accord
(scores, a batch) has the device only while no request waits for it. Where no server is (a test, a script), a turn is
had at once.
"""

from __future__ import annotations

import contextvars
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from bundle.engines.interruption import interruptible
from bundle.interactive.volume_model import HowFar
from monailabel_app.errors import RequestError

logger = logging.getLogger(__name__)

LEFT = 499  # nginx's number for a client that left before its answer; it stands in metrics and logs only
# Of a request that somebody cancelled, which is answered: a number that every client knows, and that none takes for a
# busy server that is to be asked again, as 503 and 504.
CANCELLED = 409


class Cancelled(RequestError):
    """A request was ended before its step was taken."""


@dataclass(eq=False)
class Work:
    """One request, from its admission to its answer.

    Attributes:
        user: whose request it is; users share the device evenly.
        what: what it is for people, as ``sam_3d``.
        admitted: when, in seconds of ``time.monotonic``.
        waited: seconds in the queue so far.
        worked: seconds with the device so far.
        has_begun: whether it had its first turn.
        in_background: whether nobody waits for its answer; it goes behind all that somebody waits for.
        study: the datastore's image that it is about, by its id; None of an upload, and while nobody knows.
        far: how far its answer through a volume is, of several objects the one that is asked; None before its first
            slice, and where there is no such answer.
        id: tells it from all others, and nothing else: 128 random bits.
    """

    user: str
    what: str
    queue: WorkQueue
    admitted: float = field(default_factory=time.monotonic)
    waited: float = 0.0
    worked: float = 0.0
    has_begun: bool = False
    image: Hashable = None
    in_background: bool = False
    study: str | None = None
    far: HowFar | None = None
    id: str = field(default_factory=partial(secrets.token_hex, 16))
    _taken: float = 0.0
    _has_just_come: bool = False  # nothing was computed in its ``turn`` yet
    _end: tuple[str, int] | None = None  # the sentence and status that it ends with

    def cancel(self) -> None:
        """Let it end before the next layer of the network, or at once while it waits: somebody wants it to."""
        self.queue.end(self, "the request was cancelled before its step was taken", CANCELLED)

    def leave(self) -> None:
        """The same: its client has left, and nobody waits for its answer any more."""
        self.queue.end(self, "the client left before its answer", LEFT)

    @property
    def is_ending(self) -> bool:
        """Whether it was cancelled, or its client has left; it ends at its next checkpoint."""
        return self._end is not None

    def should_give_way(self) -> bool:
        """Whether a request waits for the device, or nobody wants this work any more."""
        return self.is_ending or self.queue.waiting > 0


_current: contextvars.ContextVar[Work | None] = contextvars.ContextVar("monai_sam_work", default=None)


@contextmanager
def doing(work: Work) -> Iterator[None]:
    """Let ``turn`` and ``checkpoint`` of this thread mean a request."""
    token = _current.set(work)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def turn(image: Hashable) -> Iterator[None]:
    """Have the device while the block runs, once it is this request's turn.

    Args:
        image: what the request works on (a user's session of an image); another request on it waits until the block has
            ended.

    Raises:
        RequestError: 504 if the turn does not come in time.
        Cancelled: it was, or its client has left; also before any layer of a network in the block.
    """
    work = _current.get()
    if work is None:
        yield
        return
    with work.queue.turn(work, image), interruptible(check_wanted):
        yield


def checkpoint(far: HowFar | None = None) -> None:
    """Let others have the device for a while, within a ``turn``, before a slice is computed.

    Args:
        far: how far the request is, which is noted; without it nothing is.

    Raises:
        RequestError: 504 if the request has computed for too long.
        Cancelled: it was, or its client has left.
    """
    work = _current.get()
    if work is not None:
        work.far = far or work.far
        work.queue.checkpoint(work)


def rest(seconds: float) -> None:
    """Wait for something else than the device, which others have meanwhile; within a ``turn`` or not.

    Raises:
        Cancelled: it was, or its client has left.
    """
    work = _current.get()
    if work is None:
        time.sleep(seconds)
    else:
        work.queue.rest(work, seconds)


def check_wanted() -> None:
    """End a request that nobody wants any more; within a ``turn`` called before each layer of a network.

    Raises:
        Cancelled: it was, or its client has left.
    """
    work = _current.get()
    if work is not None:
        work.queue.check_wanted(work)


def is_in_background() -> bool:
    """Whether this thread does something that nobody waits for."""
    work = _current.get()
    return work is not None and work.in_background


def current_queue() -> WorkQueue | None:
    """The queue of this thread's request; None where no server is."""
    work = _current.get()
    return None if work is None else work.queue


class WorkQueue:
    """The requests of one device. Safe to use from many threads.

    Attributes:
        waited: seconds that all requests have waited so far.
        worked: seconds that they have computed.
    """

    def __init__(self, *, places: int = 32, wait_seconds: float = 120.0, work_seconds: float = 600.0) -> None:
        """Args:
        places: requests that may be there at once, waiting and working; one user may take half of them.
        wait_seconds: how long a request waits for its first turn.
        work_seconds: how long a request may have the device in all.
        """
        self.waited = self.worked = 0.0
        self._places = places
        self._wait_seconds, self._work_seconds = wait_seconds, work_seconds
        self._changed = threading.Condition()
        self._admitted: list[Work] = []
        self._waiting: OrderedDict[str, list[Work]] = OrderedDict()  # by user, whose turn is next first
        self._working: Work | None = None
        self._images: dict[Hashable, Work] = {}  # who has begun with which image

    def __len__(self) -> int:
        """How many requests are there, waiting and working; not what the server does of its own accord."""
        with self._changed:
            return sum(not work.in_background for work in self._admitted)

    @property
    def waiting(self) -> int:
        """How many requests wait for the device."""
        with self._changed:
            return sum(not work.in_background for work in self._all_waiting())

    def jobs(self) -> list[tuple[Work, bool]]:
        """The requests, oldest first, and whether each has the device now."""
        with self._changed:
            return [(work, work is self._working) for work in self._admitted]

    @contextmanager
    def admitted(self, user: str, what: str) -> Iterator[Work]:
        """A place for a request while the block runs.

        Raises:
            RequestError: 503, there is none.
        """
        work = Work(user, what, self)
        with self._changed:
            there = [other for other in self._admitted if not other.in_background]
            of_user = sum(other.user == user for other in there)
            if len(there) >= self._places or of_user >= max(1, self._places // 2):
                raise RequestError(
                    f"the server is busy: {len(there)} requests are there, {of_user} of them yours; "
                    "try again in a few seconds",
                    status=503,
                )
            self._admitted.append(work)
        with self._until_done(work):
            yield work

    def background(self, what: str, study: str | None = None) -> Work:
        """What the server will do of its own accord (``in_background``); it can be cancelled before it begins."""
        return Work("", what, self, in_background=True, study=study)

    @contextmanager
    def in_background(self, work: Work) -> Iterator[Work]:
        """Do it while the block runs: it takes no request's place, and has no limit of time."""
        with self._changed:
            self._admitted.append(work)
        with self._until_done(work), doing(work):
            yield work

    @contextmanager
    def _until_done(self, work: Work) -> Iterator[None]:
        try:
            yield
        finally:
            with self._changed:
                self._admitted.remove(work)

    @contextmanager
    def turn(self, work: Work, image: Hashable) -> Iterator[None]:
        """See ``turn``."""
        work.image = image
        with self._changed:
            self._wait_for_turn(work, None if work.in_background else self._wait_seconds)
            self._images[image] = work
            work.has_begun = work._has_just_come = True
        try:
            yield
        finally:
            with self._changed:
                if self._images.get(image) is work:
                    del self._images[image]
                self._give_up(work)

    def checkpoint(self, work: Work) -> None:
        """See ``checkpoint``."""
        with self._changed:
            if self._working is not work:
                self._check_is_wanted(work)
                return
            self._count(work)
            self._check_is_wanted(work)
            if work.worked > self._work_seconds and not work.in_background:
                raise RequestError(
                    f"the request computed for {work.worked:.0f} s, more than this server gives one; ask for less, as "
                    "a box around the object",
                    status=504,
                )
            if work._has_just_come:  # the checkpoint before its first slice: it would give up its turn for nothing
                work._has_just_come = False
            elif any(work.in_background or not other.in_background for other in self._all_waiting()):
                self._give_up(work)
                self._wait_for_turn(work, None)

    def rest(self, work: Work, seconds: float) -> None:
        """See ``rest``."""
        with self._changed:
            self._check_is_wanted(work)
            has_turn = self._working is work
            self._give_up(work)
        time.sleep(seconds)
        if has_turn:
            with self._changed:
                self._wait_for_turn(work, None)

    def check_wanted(self, work: Work) -> None:
        """See ``check_wanted``."""
        with self._changed:
            self._check_is_wanted(work)

    def end(self, work: Work, sentence: str, status: int) -> None:
        """Let a work end with a reason, the first that there is; see ``Work.cancel``."""
        with self._changed:
            work._end = work._end or (sentence, status)
            self._changed.notify_all()

    # ---- all below with the lock held --------------------------------------------------------------------------------

    def _wait_for_turn(self, work: Work, seconds: float | None) -> None:
        begin = time.monotonic()
        self._waiting.setdefault(work.user, []).append(work)
        try:
            while self._next() is not work:
                self._check_is_wanted(work)
                left = None if seconds is None else begin + seconds - time.monotonic()
                if left is not None and left <= 0:
                    raise RequestError(
                        f"the server is busy: this request waited {seconds:.0f} s for its turn; try again", status=504
                    )
                self._changed.wait(left)
            self._check_is_wanted(work)
            self._working, work._taken = work, time.monotonic()
        finally:
            self._waiting[work.user].remove(work)
            if not self._waiting[work.user]:
                del self._waiting[work.user]
            elif self._working is work:
                self._waiting.move_to_end(work.user)
            waited = time.monotonic() - begin
            work.waited += waited
            if not work.in_background:
                self.waited += waited
            self._changed.notify_all()

    def _next(self) -> Work | None:
        """Who has the next turn: the first of the users who can go on, and the first such request of theirs.

        What runs in the background only where there is none.
        """
        if self._working is not None:
            return None
        ready = [work for work in self._all_waiting() if self._images.get(work.image, work) is work]
        return min(ready, key=lambda work: work.in_background, default=None)

    def _all_waiting(self) -> list[Work]:
        return [work for works in self._waiting.values() for work in works]

    def _give_up(self, work: Work) -> None:
        if self._working is work:
            self._count(work)
            self._working = None
            self._changed.notify_all()

    def _count(self, work: Work) -> None:
        now = time.monotonic()
        work.worked += now - work._taken
        self.worked += now - work._taken
        work._taken = now

    def _check_is_wanted(self, work: Work) -> None:
        if work._end is not None:
            sentence, status = work._end
            raise Cancelled(sentence, status=status)
