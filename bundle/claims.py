"""Who does which piece of work when several workers share a folder of results, and none repeats another's.

A piece of work has a report, a file that is written when it is done. A worker claims the piece by a lock on a file
beside the report, which the system takes back when the worker dies, however it dies. `torchrun`, a SLURM array or job
step, and a Kubernetes indexed job number their workers; the number decides only where in the list a worker begins.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

FOLDER = ".claims"
"""Where the locks lie, beside the reports."""
_GOLDEN = (5**0.5 - 1) / 2

Piece = TypeVar("Piece")


def state_of(report: Path) -> str:
    """The sha256 of a report; "" where there is none."""
    try:
        return hashlib.sha256(report.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


@contextmanager
def taken(report: Path, before: str, *, wait: bool = False) -> Iterator[bool | None]:
    """Hold a piece of work while it is done.

    Args:
        report: of the piece.
        before: its `state_of` when this worker made its list; another one now means that it has been done since.
        wait: for a worker that holds it.

    Yields:
        True: it is this worker's to do. False: another one has done it. None: another one holds it (``wait`` is off).
    """
    locks = report.parent / FOLDER
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{report.stem}.lock")
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield None
        return
    try:
        yield state_of(report) == before
    finally:
        lock.release()


def in_turn(pieces: Sequence[Piece], worker: int | None) -> list[Piece]:
    """Pieces of work in the order in which a worker tries them.

    Any number of workers begin far from each other: multiples of the golden ratio spread evenly however many there are
    (Knuth, TAOCP 3, section 6.4).

    Args:
        pieces: all that are left.
        worker: its number from 0; None for 0.
    """
    begin = int(len(pieces) * ((worker or 0) * _GOLDEN % 1.0))
    return [*pieces[begin:], *pieces[:begin]]


def shared_out(reports: Mapping[Piece, Path], *, worker: int | None = None) -> Iterator[tuple[Piece, bool]]:
    """Every piece of work once: with True, held until the next one is asked for, or with False, done by another worker.

    First comes what is free. What others hold is waited for at the end: it is done then, or free because they died.

    Args:
        reports: of the pieces that are left, by piece.
        worker: this worker's number; by default what the environment says.
    """
    before = {piece: state_of(report) for piece, report in reports.items()}
    held: list[Piece] = []
    for piece in in_turn(list(reports), worker_number() if worker is None else worker):
        with taken(reports[piece], before[piece]) as is_mine:
            if is_mine is None:
                held.append(piece)
            else:
                yield piece, is_mine
    for piece in held:
        with taken(reports[piece], before[piece], wait=True) as is_mine:
            yield piece, bool(is_mine)


def worker_number(environment: Mapping[str, str] | None = None) -> int | None:
    """This worker's number from 0; None where it was not started as one of several.

    Args:
        environment: by default that of this process.
    """
    environment = os.environ if environment is None else environment
    steps = number_in(environment, "SLURM_PROCID") or 0
    if (array := number_in(environment, "SLURM_ARRAY_TASK_ID")) is not None:
        return array * max(1, number_in(environment, "SLURM_NTASKS") or 1) + steps
    for name in ("RANK", "JOB_COMPLETION_INDEX", "SLURM_PROCID"):
        if (number := number_in(environment, name)) is not None:
            return number
    return None


def number_in(environment: Mapping[str, str], name: str) -> int | None:
    """A whole number from 0 that a variable holds; None where it holds none."""
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else None
