"""One function over many images, in one process or several."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

from tqdm import tqdm

Result = TypeVar("Result")


def run_jobs(function: Callable[..., Result], jobs: Sequence[tuple], workers: int, *, desc: str) -> Iterator[Result]:
    """The results of a function over the arguments of many jobs, as they are done, with a bar.

    Args:
        function: of a module, not a closure: with several workers it goes to other processes.
        jobs: arguments of each call.
        workers: processes.
        desc: of the bar.
    """
    progress = {"total": len(jobs), "desc": desc, "unit": "image"}
    if workers <= 1:
        yield from tqdm((function(*job) for job in jobs), **progress)
        return
    # Fresh processes: a forked one may inherit a lock that a torch thread holds.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        futures = [pool.submit(function, *job) for job in jobs]
        yield from (future.result() for future in tqdm(as_completed(futures), **progress))


def _end_with_parent() -> None:
    """Let this worker end when its parent is killed; it would wait for work for ever."""

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()
