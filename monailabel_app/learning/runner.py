"""Runs jobs one after the other, each in a process of its own that yields to clicks."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from monailabel_app.errors import RequestError
from monailabel_app.learning.jobs import (
    DONE,
    ERROR,
    RUNNING,
    STOPPED,
    SUBMITTED,
    WAITING,
    Job,
    Jobs,
    job_environment,
    log_tail,
)

logger = logging.getLogger(__name__)

_LOOK = 0.1  # seconds between two looks at clicks and process
_GRACE = 5.0  # seconds that a process gets to end, before those who asked are told that it does not


def job_command(folder: Path) -> list[str]:
    """The command of a job's process."""
    return [sys.executable, "-m", "monailabel_app.learning.job", str(folder)]


class Runner:
    """A thread that runs the jobs that wait, oldest first.

    A job's process has the lowest priority (it sees to that itself) and is stopped altogether while somebody waits for
    a click. It ends with the server; a server that starts goes on with its job.

    Args:
        jobs: the records.
        busy: whether anybody waits for an answer now.
        prepare: called before a job's process starts; an error of it is that of the job.
        finish: called when the process has done its work; gives the job that is to be remembered.
        idle: called about once a second while no job runs.
        command: of a job's process.
        cores: that it may use.
    """

    def __init__(
        self,
        jobs: Jobs,
        *,
        busy: Callable[[], bool],
        prepare: Callable[[Job], object],
        finish: Callable[[Job], Job],
        idle: Callable[[], object] = lambda: None,
        command: Callable[[Path], Sequence[str]] = job_command,
        cores: int = 2,
    ) -> None:
        self.jobs = jobs
        self._busy, self._prepare, self._finish, self._idle = busy, prepare, finish, idle
        self._command, self._cores = command, cores
        self._wake, self._lock = threading.Event(), threading.RLock()
        self._closing, self._stopped = False, set()  # ids of jobs that somebody stops
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, with what an earlier server left undone."""
        for job in self.jobs.all():
            if job.state == RUNNING:
                _end_leftover(job)
        self._thread = threading.Thread(target=self._work, name="learning", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the process that runs; its job goes on when a server starts again."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_GRACE + 5)

    def waiting(self) -> list[Job]:
        """The jobs that wait or run, oldest first."""
        return [job for job in self.jobs.all() if job.state in WAITING]

    def wake(self) -> None:
        """There is something to do."""
        self._wake.set()

    def stop(self) -> Job | None:
        """Stop the job that runs, and those that wait; the first of them, None if there was none.

        Raises:
            RequestError: the process does not end (503).
        """
        with self._lock:
            waiting = self.waiting()
            for job in waiting:
                if job.state == SUBMITTED:
                    job.changed(state=STOPPED, ended=time.time())
                else:
                    self._stopped.add(job.id)
        self._wake.set()
        if not waiting:
            return None
        deadline = time.monotonic() + 2 * _GRACE
        while time.monotonic() < deadline:
            job = self.jobs.get(waiting[0].id)
            if job.state not in WAITING or self._thread is None or not self._thread.is_alive():
                return job
            time.sleep(_LOOK / 2)
        raise RequestError("the training does not stop; try again", status=503)

    def _work(self) -> None:
        while not self._closing:
            try:
                job = next(iter(self.waiting()), None)
                if job is None:
                    self._idle()
                    self._wake.wait(1.0)
                    self._wake.clear()
                else:
                    self.run(job)
            except Exception:  # a defect of ours must not end the thread; the next look may do better
                logger.exception("The trainings have failed")
                self._wake.wait(10.0)

    def run(self, job: Job) -> Job:
        """Run a job to its end, or until it is stopped or the server closes."""
        with self._lock:
            job = self.jobs.get(job.id)
            if job.state not in WAITING:  # somebody was faster
                return job
            job = job.changed(state=RUNNING, started=job.started or time.time(), error=None)
        try:
            self._prepare(job)
            code = self._run_process(job)
        except (ValueError, OSError) as error:
            logger.warning("The training %s cannot be run: %s", job.id, error)
            return job.changed(state=ERROR, ended=time.time(), error=str(error), process=None)
        with self._lock:
            if job.id in self._stopped:
                self._stopped.discard(job.id)
                return job.changed(state=STOPPED, ended=time.time(), process=None)
        if self._closing:
            return job
        if code:
            error = next(reversed(log_tail(job.log)), f"its process ended with {code}")
            logger.warning("The training %s has failed: %s", job.id, error)
            return job.changed(state=ERROR, ended=time.time(), error=error, process=None)
        try:
            return self._finish(job).changed(state=DONE, ended=time.time(), process=None)
        except (ValueError, OSError) as error:  # a full disk: what is served stays
            logger.warning("What the training %s has made cannot be published: %s", job.id, error)
            return job.changed(state=ERROR, ended=time.time(), error=str(error), process=None)

    def _run_process(self, job: Job) -> int:
        with job.log.open("ab") as log:
            process = subprocess.Popen(
                self._command(job.folder),
                stdin=subprocess.PIPE,  # it ends when this end closes, which is when the server dies
                stdout=log,
                stderr=subprocess.STDOUT,
                env=job_environment(self._cores),
                start_new_session=True,  # Ctrl-C is for the server, which ends it
            )
        found = psutil.Process(process.pid)
        job.changed(process=(process.pid, found.create_time()))
        logger.info("The training %s runs (process %d)", job.id, process.pid)
        paused = False
        while process.poll() is None:
            if self._closing or job.id in self._stopped:
                _end(process)
                break
            if (busy := self._busy()) != paused:
                _pause(found, busy)
                paused = busy
            self._wake.wait(_LOOK)
            self._wake.clear()
        process.stdin.close()
        return process.returncode


def _pause(process: psutil.Process, pause: bool) -> None:
    """Stop a process and its children where they are, or let them go on."""
    try:
        for each in (process, *process.children(recursive=True)):
            each.suspend() if pause else each.resume()
    except psutil.NoSuchProcess:  # it has just ended
        return


def _end(process: subprocess.Popen) -> None:
    """Kill it: all that it needs to go on is on the disk, and one that is paused hears nothing else.

    On a busy machine a process of the lowest priority takes its time to die; whoever asked has a deadline of their own.
    """
    process.kill()
    process.wait()


def _end_leftover(job: Job) -> None:
    """Kill the process of a job that its server has left behind, paused."""
    if job.process is None:
        return
    number, started = job.process
    try:
        process = psutil.Process(number)
        if abs(process.create_time() - started) < 1:
            logger.warning("The process %d of the training %s has outlived its server, and is ended", number, job.id)
            process.kill()
    except psutil.NoSuchProcess:
        return
