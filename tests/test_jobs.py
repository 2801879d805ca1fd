"""Work that nobody waits for: progress, failures, stopping, and behind the clicks."""

from __future__ import annotations

import threading

import pytest
import torch
from monailabel.interfaces.exception import ImageNotFoundException

from bundle.engines.cache import PreparedCache
from bundle.errors import VolumeError
from bundle.networks.interface import Prepared
from monailabel_app.errors import RequestError
from monailabel_app.jobs import Job
from monailabel_app.work import CANCELLED, WorkQueue, checkpoint, doing, turn

PATIENCE = 60.0  # seconds; only a broken test waits for them


@pytest.fixture
def queue():
    return WorkQueue(places=2)


def test_each_image_is_done_once_and_those_that_came_meanwhile_too(queue):
    left, done = ["a", "b"], []

    def do(image):
        done.append(image)
        left.remove(image)
        if image == "b":
            left.append("c")

    job = Job("scoring")
    assert job.status() is None
    assert job.start(queue, lambda: list(left), do)
    job.wait(PATIENCE)
    assert done == ["a", "b", "c"] and not job.is_running
    assert {key: job.status()[key] for key in ("status", "done", "total")} == {"status": "DONE", "done": 3, "total": 3}


def test_a_job_keeps_what_it_prepares_off_the_disk(queue, tmp_path):
    store, job = PreparedCache(folder=tmp_path), Job("batch")
    done = []

    def do(image):
        done.append(store.get(image, lambda: Prepared({"embedding": torch.ones(3)})))

    job.start(queue, lambda: [one for one in "ab" if len(done) < 2], do)
    job.wait(PATIENCE)
    assert [computed for _, computed in done] == [True, True] and store.held_bytes == 24
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


def test_an_image_that_fails_is_said_and_not_tried_again(queue, caplog):
    def do(image):
        if image == "bad":
            raise VolumeError("/data/secret/bad.nii.gz is damaged")

    done = set()
    job = Job("scoring")
    job.start(queue, lambda: [one for one in ("bad", "good") if one not in done], lambda one: (do(one), done.add(one)))
    job.wait(PATIENCE)
    assert job.status()["failed"] == {"bad": "bad.nii.gz is damaged"} and job.status()["done"] == 1
    assert "bad" in caplog.text


def test_an_image_that_is_refused_as_a_cancelled_request_is_fails(queue):
    def do(image):
        raise RequestError("two files have its id", status=CANCELLED)

    job = Job("batch")
    job.start(queue, lambda: ["twice"], do)
    job.wait(PATIENCE)
    assert job.status()["failed"] == {"twice": "two files have its id"}


def test_a_defect_ends_a_job_and_says_so(queue):
    job = Job("scoring")
    job.start(queue, lambda: ["a"], lambda image: {}[image])
    job.wait(PATIENCE)
    assert job.status()["status"] == "ERROR"


def test_a_stopped_job_ends_at_its_next_question_and_can_start_again(queue):
    begun, done = threading.Event(), []

    def do(image):
        with turn(image):
            begun.set()
            while not done:
                checkpoint()

    job = Job("scoring")
    job.start(queue, lambda: [] if done else ["a", "b"], do)
    assert begun.wait(PATIENCE) and not job.start(queue, list, do)
    job.stop(seconds=PATIENCE)
    assert not job.is_running and job.status()["status"] == "STOPPED" and job.status()["failed"] == {}
    done.append(1)
    assert job.start(queue, list, do)
    job.wait(PATIENCE)
    assert job.status()["status"] == "DONE"


def test_a_click_goes_before_what_runs_in_the_background(queue):
    said, begun, clicked = [], threading.Event(), threading.Event()

    def do(image):
        with turn("score"):
            for question in range(1000):
                checkpoint()
                begun.set()
                if clicked.is_set():
                    return said.append(f"question {question}")
        return None

    job = Job("scoring")
    job.start(queue, lambda: [] if said else ["a"], do)
    assert begun.wait(PATIENCE)
    with queue.admitted("anna", "sam_2d") as work, doing(work), turn("ct"):
        said.append("click")
        clicked.set()
    job.wait(PATIENCE)
    assert said[0] == "click"


def test_a_click_through_a_volume_does_not_give_its_turn_to_the_background(queue):
    said, waiting = [], threading.Event()

    def do(image):
        waiting.set()
        with turn("score"):
            said.append("score")

    job = Job("scoring")
    with queue.admitted("anna", "sam_3d") as work, doing(work), turn("ct"):
        job.start(queue, lambda: [] if said else ["a"], do)
        assert waiting.wait(PATIENCE)
        for _ in range(5):
            checkpoint()
            said.append("slice")
    job.wait(PATIENCE)
    assert said == ["slice"] * 5 + ["score"]


def test_the_background_takes_no_place_and_counts_as_no_request(queue):
    inside, leave = threading.Event(), threading.Event()

    def do(image):
        inside.set()
        assert leave.wait(PATIENCE)

    job = Job("scoring")
    done = iter([["a"], []])
    job.start(queue, lambda: next(done), do)
    assert inside.wait(PATIENCE)
    assert len(queue) == 0 and [work.what for work, _ in queue.jobs()] == ["scoring"]
    with queue.admitted("anna", "sam_2d"), queue.admitted("bert", "sam_2d"):
        leave.set()
    job.wait(PATIENCE)


def test_whoever_starts_a_job_at_its_end_is_not_forgotten(queue, monkeypatch):
    left, done, job = ["a"], [], Job("scoring")
    real = job._next

    def at_its_end(run, remaining):
        images = real(run, remaining)
        if not images and done == ["a"]:  # nothing was left, and the thread has not ended yet
            left.append("b")
            job.start(queue, lambda: list(left), do)
        return images

    def do(image):
        done.append(image)
        left.remove(image)

    monkeypatch.setattr(job, "_next", at_its_end)
    job.start(queue, lambda: list(left), do)
    first = job._thread
    first.join(PATIENCE)
    job.wait(PATIENCE)
    assert done == ["a", "b"] and job.status()["status"] == "DONE"


def test_an_image_that_was_removed_meanwhile_fails_alone(queue):
    left = ["gone", "there"]

    def do(image):
        left.remove(image)
        if image == "gone":
            raise ImageNotFoundException("there is no image 'gone'")

    job = Job("scoring")
    job.start(queue, lambda: list(left), do)
    job.wait(PATIENCE)
    status = job.status()
    assert (status["status"], status["done"]) == ("DONE", 1) and status["failed"] == {
        "gone": "there is no image 'gone'"
    }
