"""Jobs in processes of their own: they wait for each other and for clicks, stop, and go on after the server died."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import pytest

from monailabel_app.learning.jobs import Jobs, log_tail
from monailabel_app.learning.runner import Runner

PATIENCE = 60.0  # seconds; only a broken test waits for them
COUNTS = "import sys, time, pathlib\nfolder = pathlib.Path(sys.argv[1])\nn = 0\n"
ENDS = COUNTS + "(folder / 'done').write_text('yes')\nprint('well done')\n"
GOES_ON = COUNTS + "while True:\n    n += 1\n    (folder / 'count').write_text(str(n))\n    time.sleep(0.001)\n"
FAILS = COUNTS + "sys.exit('error: no accepted label shows anything')\n"


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


class Room:
    """A runner whose jobs are small programs, and whether somebody clicks."""

    def __init__(self, folder, program: str) -> None:
        self.jobs, self.clicks, self.finished, self.program = Jobs(folder), False, [], program
        self.runner = self.new_runner()

    def new_runner(self) -> Runner:
        return Runner(
            self.jobs,
            busy=lambda: self.clicks,
            prepare=lambda job: None,
            finish=self.finish,
            command=lambda folder: [sys.executable, "-I", "-S", "-c", self.program, str(folder)],
            cores=1,
        )

    def finish(self, job):
        self.finished.append(job.id)
        return job.changed(version=len(self.finished))

    def state(self, job) -> str:
        return self.jobs.get(job.id).state

    def process(self, job) -> psutil.Process:
        return psutil.Process(self.jobs.get(job.id).process[0])

    def runs(self, job) -> None:
        until(lambda: (job.folder / "count").is_file() and self.jobs.get(job.id).process is not None)


@pytest.fixture
def room(tmp_path):
    made = []

    def make(program: str) -> Room:
        made.append(Room(tmp_path / "jobs", program))
        return made[-1]

    yield make
    for each in made:
        each.runner.close()


def test_jobs_run_one_after_the_other_and_are_finished_by_the_server(room):
    here = room(ENDS)
    first, second = here.jobs.add("asked", {}), here.jobs.add("asked", {})
    here.runner.start()
    until(lambda: here.state(second) == "DONE")
    assert here.finished == [first.id, second.id]
    assert here.jobs.get(second.id).version == 2 and (first.folder / "done").is_file()
    assert log_tail(first.log) == ["well done"]


def test_a_job_that_fails_says_why_and_the_next_one_runs(room):
    here = room(FAILS)
    first, second = here.jobs.add("asked", {}), here.jobs.add("asked", {})
    here.runner.start()
    until(lambda: here.state(second) == "ERROR")
    assert here.jobs.get(first.id).error == "error: no accepted label shows anything"
    assert not here.finished


def test_while_somebody_clicks_a_job_stands_still(room):
    here = room(GOES_ON)
    job = here.jobs.add("background", {})
    here.runner.start()
    here.runs(job)
    here.clicks = True
    until(lambda: here.process(job).status() == psutil.STATUS_STOPPED)
    here.clicks = False
    until(lambda: here.process(job).status() != psutil.STATUS_STOPPED)


@pytest.mark.parametrize("clicks", [False, True])
def test_a_job_is_stopped_even_while_it_stands_still_and_with_it_those_that_wait(room, clicks):
    here = room(GOES_ON)
    job, behind = here.jobs.add("asked", {}), here.jobs.add("asked", {})
    here.runner.start()
    here.runs(job)
    process, here.clicks = here.process(job), clicks
    assert here.runner.stop().state == "STOPPED"
    assert not process.is_running() and here.state(behind) == "STOPPED"
    assert here.runner.stop() is None


def test_a_process_that_takes_its_time_to_die_is_waited_for(room, monkeypatch, caplog):
    here = room(GOES_ON)
    job, wait = here.jobs.add("asked", {}), subprocess.Popen.wait

    def late(process, timeout=None):
        if timeout is not None:
            raise subprocess.TimeoutExpired(process.args, timeout)
        return wait(process)

    monkeypatch.setattr(subprocess.Popen, "wait", late)
    here.runner.start()
    here.runs(job)
    assert here.runner.stop().state == "STOPPED"
    assert "The trainings have failed" not in caplog.text


def test_a_server_that_closes_leaves_its_job_to_the_next(room):
    here = room(GOES_ON)
    job = here.jobs.add("asked", {})
    here.runner.start()
    here.runs(job)
    process = here.process(job)
    here.runner.close()
    assert not process.is_running() and here.state(job) == "RUNNING"
    here.program, here.runner = ENDS, here.new_runner()
    here.runner.start()
    until(lambda: here.state(job) == "DONE")


def test_a_process_that_outlived_its_server_is_ended_before_its_job_goes_on(room):
    here = room(ENDS)
    job = here.jobs.add("asked", {})
    left = psutil.Popen([sys.executable, "-I", "-S", "-c", GOES_ON, str(job.folder)])
    try:
        job.changed(state="RUNNING", process=(left.pid, left.create_time()))
        here.runner.start()
        left.wait(PATIENCE)
        until(lambda: here.state(job) == "DONE")
    finally:
        if left.is_running():
            left.kill()


def test_another_process_of_that_number_is_left_alone(room):
    here = room(ENDS)
    job = here.jobs.add("asked", {})
    job.changed(state="RUNNING", process=(psutil.Process().pid, 1.0))
    here.runner.start()
    until(lambda: here.state(job) == "DONE")


def test_what_a_job_needs_may_be_missing(room, tmp_path):
    here = room(ENDS)

    def cannot(job):
        raise ValueError("the label of 'a' is no label")

    here.runner._prepare = cannot
    assert here.runner.run(here.jobs.add("asked", {})).error == "the label of 'a' is no label"


def test_what_cannot_be_published_is_an_error_and_is_not_tried_forever(room):
    here = room(ENDS)

    def full(job):
        raise OSError(28, "No space left on device")

    here.runner._finish = full
    job = here.runner.run(here.jobs.add("asked", {}))
    assert (job.state, here.runner.waiting()) == ("ERROR", []) and "No space left" in job.error


def test_a_damaged_record_is_passed_over(room, caplog):
    here = room(ENDS)
    (here.jobs.add("asked", {}).folder / "job.json").write_text("{")
    assert here.jobs.all() == []
    assert "is damaged" in caplog.text


def test_a_bar_in_a_log_is_shown_as_it_was_last(tmp_path):
    (tmp_path / "log.txt").write_bytes(b"begin\n 10%\r 50%\r100%\nend\n\n")
    assert log_tail(tmp_path / "log.txt") == ["begin", "100%", "end"]
    assert log_tail(tmp_path / "absent.txt") == []
