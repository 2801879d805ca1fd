"""Turns on the device: one at a time, fair between users, given up when nobody waits for the answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest
import torch
from torch import nn

from bundle.engines.interruption import watch
from bundle.interactive.volume_model import HowFar
from monailabel_app.errors import RequestError
from monailabel_app.work import CANCELLED, LEFT, Cancelled, WorkQueue, checkpoint, doing, turn

PATIENCE = 60.0  # seconds; only a broken test waits for them


class Request(threading.Thread):
    """A request of a user on an image: it computes slice after slice, each when the test lets it."""

    def __init__(self, queue: WorkQueue, user: str, image: str, slices: int, said: list[str]) -> None:
        super().__init__(daemon=True)
        self.queue, self.user, self.image, self.slices, self.said = queue, user, image, slices, said
        self.work: Future = Future()
        self.result: Future = Future()
        self.may_compute = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)

    def run(self) -> None:
        try:
            with self.queue.admitted(self.user, "sam_3d") as work, doing(work):
                self.work.set_result(work)
                with turn(self.image):
                    for _ in range(self.slices):
                        checkpoint()
                        self.said.append(self.user)
                        self.begun.release()
                        assert self.may_compute.acquire(timeout=PATIENCE)
            self.result.set_result("done")
        except RequestError as error:
            self.result.set_exception(error)

    def computes(self) -> None:
        assert self.begun.acquire(timeout=PATIENCE)


def until(condition: Callable[[], bool]) -> None:
    arrived = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        if condition():
            return
        arrived.wait(0.01)
    raise AssertionError("it did not come to that")


@pytest.fixture
def said() -> list[str]:
    return []


def started(queue: WorkQueue, *arguments) -> Request:
    request = Request(queue, *arguments)
    waiting = queue.waiting
    request.start()
    request.work.result(PATIENCE)
    until(lambda: queue.waiting > waiting or bool(request.said and request.said[-1] == request.user))
    return request


def test_a_click_waits_for_the_slice_of_others_and_not_for_their_volume(said):
    queue = WorkQueue()
    volume = started(queue, "anna", "a", 50, said)
    volume.computes()
    click = started(queue, "bob", "b", 1, said)
    volume.may_compute.release(50)
    click.computes()
    assert said[:2] == ["anna", "bob"]
    click.may_compute.release()
    assert click.result.result(PATIENCE) == "done" and volume.result.result(PATIENCE) == "done"
    assert said == ["anna", "bob", *["anna"] * 49]


def test_two_volumes_are_computed_in_turns_of_a_slice(said):
    queue = WorkQueue()
    volumes = [started(queue, user, user, 4, said) for user in ("anna", "bob")]
    for volume in volumes:
        volume.may_compute.release(4)
    for volume in volumes:
        assert volume.result.result(PATIENCE) == "done"
    assert said == ["anna", "bob"] * 4


def test_users_take_turns_whoever_asks_for_more(said):
    queue = WorkQueue()
    holder = started(queue, "holder", "x", 1, said)
    holder.computes()
    many = [started(queue, "anna", f"a{number}", 1, said) for number in range(3)]
    one = started(queue, "bob", "b", 1, said)
    for request in (holder, *many, one):
        request.may_compute.release()
    for request in (holder, *many, one):
        assert request.result.result(PATIENCE) == "done"
    assert said == ["holder", "anna", "bob", "anna", "anna"]


def test_requests_on_one_image_follow_each_other_whole(said):
    queue = WorkQueue()
    volume = started(queue, "anna", "a", 3, said)
    volume.computes()
    click = started(queue, "bob", "a", 1, said)
    volume.may_compute.release(3)
    click.may_compute.release()
    assert click.result.result(PATIENCE) == "done"
    assert said == ["anna"] * 3 + ["bob"]


def test_a_client_that_leaves_while_it_waits_is_gone_at_once(said):
    queue = WorkQueue()
    volume = started(queue, "anna", "a", 1, said)
    volume.computes()
    click = started(queue, "bob", "b", 1, said)
    click.work.result().leave()
    with pytest.raises(RequestError) as caught:
        click.result.result(PATIENCE)
    assert caught.value.status == LEFT and queue.waiting == 0
    volume.may_compute.release()
    assert volume.result.result(PATIENCE) == "done" and said == ["anna"]


def test_a_client_that_leaves_between_two_slices_frees_the_device(said):
    queue = WorkQueue()
    volume = started(queue, "anna", "a", 50, said)
    volume.computes()
    volume.work.result().leave()
    volume.may_compute.release()
    with pytest.raises(RequestError) as caught:
        volume.result.result(PATIENCE)
    assert caught.value.status == LEFT and said == ["anna"]
    again = started(queue, "bob", "a", 1, said)
    again.may_compute.release()
    assert again.result.result(PATIENCE) == "done" and len(queue) == 0


def test_a_full_queue_refuses_with_503_and_one_user_cannot_fill_it():
    queue = WorkQueue(places=4)
    with queue.admitted("anna", "m"), queue.admitted("anna", "m"):
        with pytest.raises(RequestError, match="2 of them yours") as caught, queue.admitted("anna", "m"):
            pass
        assert caught.value.status == 503
        full = pytest.raises(RequestError, match="4 requests are there")
        with queue.admitted("bob", "m"), queue.admitted("carl", "m"), full, queue.admitted("dora", "m"):
            pass
    assert len(queue) == 0


def test_a_turn_that_does_not_come_in_time_is_a_504(said):
    queue = WorkQueue(wait_seconds=0.01)
    volume = started(queue, "anna", "a", 1, said)
    volume.computes()
    late = pytest.raises(RequestError, match="waited")
    with queue.admitted("bob", "m") as work, doing(work), late as caught, turn("b"):
        pass
    assert caught.value.status == 504
    volume.may_compute.release()
    assert volume.result.result(PATIENCE) == "done"


def test_a_request_that_computes_for_too_long_is_a_504():
    queue = WorkQueue(work_seconds=-1.0)
    long = pytest.raises(RequestError, match="computed for")
    with queue.admitted("anna", "m") as work, doing(work), turn("a"), long as caught:
        checkpoint()
    assert caught.value.status == 504 and work.worked > 0


def test_an_error_in_a_turn_gives_the_device_and_the_image_back():
    queue = WorkQueue()
    for _ in range(2):
        with queue.admitted("anna", "m") as work, doing(work), pytest.raises(ZeroDivisionError), turn("a"):
            raise ZeroDivisionError
    assert len(queue) == 0 and queue.worked > 0 and queue.jobs() == []


def test_without_a_server_a_turn_is_had_at_once():
    with turn("a"), turn("a"):
        checkpoint()


def test_a_request_whose_client_has_left_ends_in_the_middle_of_a_slice():
    queue, layer = WorkQueue(), nn.Linear(2, 2)
    watch(layer)
    with queue.admitted("anna", "sam_3d") as work, doing(work), turn("image"):
        layer(torch.zeros(2))
        work.leave()
        with pytest.raises(RequestError) as left:
            layer(torch.zeros(2))
    assert left.value.status == LEFT
    layer(torch.zeros(2))  # nobody's


def test_a_request_ends_with_the_first_reason_that_there_is():
    for ends, status in ((("cancel", "leave"), CANCELLED), (("leave", "cancel"), LEFT)):
        with WorkQueue().admitted("anna", "sam_3d") as work, doing(work):
            assert not work.is_ending
            for end in ends:
                getattr(work, end)()
            with pytest.raises(Cancelled) as caught:
                checkpoint()
            assert caught.value.status == status and work.is_ending


def test_how_far_a_request_is_stays_where_a_checkpoint_does_not_say_it():
    with WorkQueue().admitted("anna", "sam_3d") as work, doing(work), turn("image"):
        assert work.far is None
        for far in (HowFar(3, 1, 8), None):
            checkpoint(far)
            assert work.far == HowFar(3, 1, 8)


def test_what_runs_in_the_background_has_the_device_only_while_no_request_wants_it(said):
    queue = WorkQueue()
    holder = started(queue, "holder", "x", 1, said)
    holder.computes()
    ahead = Background(queue, said)
    ahead.start()
    until(lambda: bool(queue._waiting.get("")))
    click = started(queue, "bob", "b", 1, said)
    assert queue.waiting == 1 and ahead.work.should_give_way()
    for request in (holder, click):
        request.may_compute.release()
    assert click.result.result(PATIENCE) == "done"
    ahead.join(PATIENCE)
    assert said == ["holder", "bob", "background", "background"] and not ahead.work.should_give_way()


def test_cancelled_background_work_gives_way_and_ends():
    queue = WorkQueue()
    work = queue.background("precompute")
    work.cancel()
    assert work.should_give_way()
    with pytest.raises(Cancelled, match="cancelled"), doing(work), turn(work):
        pass


class Background(threading.Thread):
    """Work of two steps that nobody waits for."""

    def __init__(self, queue: WorkQueue, said: list[str]) -> None:
        super().__init__(daemon=True)
        self.work, self.said = queue.background("precompute"), said

    def run(self) -> None:
        with doing(self.work), turn(self.work):
            for _ in range(2):
                checkpoint()
                self.said.append("background")
