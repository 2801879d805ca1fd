"""A fault at a chosen call to the file system: the disk is full there, or the process is killed there.

Every call that opens, writes, flushes, renames, links or removes a file is a stage. Work that touches files is done
once to count its stages and then once for each of them.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import signal
from collections.abc import Callable, Iterator, Sequence

CALLS = ("open", "write", "sendfile", "fsync", "chmod", "mkdir", "link", "replace", "rename", "unlink", "ftruncate")
TAKING_ROOM = ("open", "write", "sendfile", "fsync", "mkdir", "link", "replace", "rename")  # may say that there is none
_WRITING = ("w", "a", "x", "+")


@contextlib.contextmanager
def fault_at(
    stage: int,
    fault: Callable[[], object],
    calls: Sequence[str] = CALLS,
    *,
    is_over: Callable[[], bool] = lambda: False,
) -> Iterator[list[str]]:
    """Count the calls to the file system while the block runs, from 1, and have the fault before the call ``stage``.

    Only ``calls`` count. Half of what a call would write is written before the fault. Gives the names of the calls so
    far; a stage of 0 is never reached. Once ``is_over`` says so, every call has the fault at once.
    """
    called: list[str] = []
    before: list[tuple[object, str, object]] = []

    def reached(name: str) -> bool:
        called.append(name)
        return len(called) == stage

    def wrapped(name: str, call: Callable) -> Callable:
        def counted(*args, **options):
            if is_over():
                fault()
            if reached(name):
                if name == "write":
                    call(args[0], args[1][: len(args[1]) // 2])
                fault()
            return call(*args, **options)

        return counted

    def opened(file, mode="r", *args, **options):
        if is_over():
            fault()
        if any(letter in mode for letter in _WRITING) and reached(f"open {mode}"):
            real_open(file, mode, *args, **options).close()  # it is there, and empty
            fault()
        return real_open(file, mode, *args, **options)

    real_open = builtins.open
    places = [(os, name, wrapped(name, getattr(os, name))) for name in calls]
    places += [(builtins, "open", opened), (io, "open", opened)]
    for module, name, call in places:
        before.append((module, name, getattr(module, name)))
        setattr(module, name, call)
    try:
        yield called
    finally:
        for module, name, call in before:
            setattr(module, name, call)


def disk_full() -> None:
    """What the file system says."""
    raise OSError(errno.ENOSPC, "No space left on device")


def kill() -> None:
    """As kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


class Killed(BaseException):
    """The process is no more: whatever it would still do touches no file."""


def ended_at(stage: int, work: Callable[[], object]) -> bool:
    """Do the work in this process until a stage, from which on no call reaches the file system; whether it came so far.

    What that leaves on the disk is what a kill leaves, without the cost of a process for each stage.
    """
    dead = False

    def end() -> None:
        nonlocal dead
        dead = True
        raise Killed

    with fault_at(stage, end, is_over=lambda: dead), contextlib.suppress(Killed):
        work()
    return dead


def killed_at(stage: int, work: Callable[[], object]) -> bool:
    """Do the work in a child that is killed at a stage; whether it came so far."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException), fault_at(stage, kill):
            work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
