"""Work over many images that nobody waits for: one at a time, behind the clicks, with progress, and stopped at will."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from monailabel.interfaces.exception import MONAILabelException

from bundle.engines.cache import in_memory_alone
from bundle.errors import MonaiSamError
from monailabel_app.errors import without_folders
from monailabel_app.work import Cancelled, WorkQueue

logger = logging.getLogger(__name__)

RUNNING, DONE, STOPPED, ERROR = "RUNNING", "DONE", "STOPPED", "ERROR"
_MOST_FAILURES = 50  # whose sentences a status lists


@dataclass
class _Run:
    """What is known of one run."""

    started: float = field(default_factory=time.time)
    done: int = 0
    left: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    state: str = RUNNING


class Job:
    """Does something for each image of a list that may grow while it runs. Safe to use from many threads.

    Args:
        what: what it is for people and in ``/jobs/``, as ``scoring``.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._lock = threading.Lock()
        self._run: _Run | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._work: Any = None
        self._again = False

    @property
    def is_running(self) -> bool:
        """Whether it is at work, and will look for more before it ends."""
        return self._run is not None and self._run.state == RUNNING

    def start(self, queue: WorkQueue, remaining: Callable[[], Iterable[str]], do: Callable[[str], object]) -> bool:
        """Start it, or let the one that runs look for more when it has done its list.

        Args:
            queue: of the device.
            remaining: the images that are still to do; it is asked again until there is none.
            do: what is done for one; it takes its turn itself. An image that fails is not tried again in this run.

        Returns:
            Whether it was started; False where it runs already.
        """
        with self._lock:
            if self.is_running:
                self._again = True
                return False
            self._stop.clear()
            self._run, self._again = _Run(), False
            self._thread = threading.Thread(
                target=self._go, args=(self._run, queue, remaining, do), name=self.what, daemon=True
            )
            self._thread.start()
            return True

    def stop(self, *, seconds: float = 10.0) -> None:
        """End it after the question that it is at, and wait so long for that."""
        self._stop.set()
        work, thread = self._work, self._thread
        if work is not None:
            work.cancel()
        if thread is not None:
            thread.join(seconds)

    def wait(self, seconds: float = 60.0) -> None:
        """Wait until it is done."""
        if self._thread is not None:
            self._thread.join(seconds)

    def status(self) -> dict[str, Any] | None:
        """State, progress and failures of the run, or of the last one; None before the first."""
        run = self._run
        if run is None:
            return None
        failed = dict(list(run.failed.items())[:_MOST_FAILURES])
        return {
            "job": self.what,
            "status": run.state,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.started)),
            "done": run.done,
            "total": run.done + run.left + len(run.failed),
            "failed": failed,
        }

    def _go(
        self, run: _Run, queue: WorkQueue, remaining: Callable[[], Iterable[str]], do: Callable[[str], object]
    ) -> None:
        try:
            while (images := self._next(run, remaining)) and not self._stop.is_set():
                for number, image in enumerate(images):
                    run.left = len(images) - number
                    if self._stop.is_set():
                        break
                    self._do(run, queue, image, do)
            if run.state == RUNNING:
                run.state = STOPPED
        except BaseException:
            run.state = ERROR
            logger.exception("The job %s ended", self.what)

    def _next(self, run: _Run, remaining: Callable[[], Iterable[str]]) -> list[str]:
        while True:
            with self._lock:
                self._again = False
            images = [image for image in remaining() if image not in run.failed]
            with self._lock:
                if not images and self._again:
                    continue
                if not images:  # said with the lock held: whoever starts it from here on starts another run
                    run.state, run.left = STOPPED if self._stop.is_set() else DONE, 0
                return images

    def _do(self, run: _Run, queue: WorkQueue, image: str, do: Callable[[str], object]) -> None:
        try:
            with queue.in_background(queue.background(self.what, image)) as self._work, in_memory_alone():
                do(image)
            run.done += 1
        except Cancelled:
            return  # it was stopped
        except (MonaiSamError, MONAILabelException, OSError, ValueError) as error:
            run.failed[image] = without_folders(str(getattr(error, "msg", error)))
            logger.warning("%s of the image %r failed: %s", self.what.capitalize(), image, error)
        finally:
            self._work = None
