"""Leases go by two clocks, belong to a user, and are as many as there are places."""

from __future__ import annotations

import threading

import pytest

from monailabel_app.nninteractive.leases import LeaseLost, Leases, NoPlace


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lost():
    return []


@pytest.fixture
def leases(clock, lost):
    return Leases(places=2, idle_seconds=600, silent_seconds=60, on_loss=lost.append, clock=clock)


def test_there_are_as_many_leases_as_places(leases):
    first, _ = leases.claim("ann"), leases.claim("ben")
    with pytest.raises(NoPlace, match="all 2 places") as refused:
        leases.claim("eve")
    assert refused.value.retry_after == 600
    assert leases.release(first.token, "ann")
    assert leases.claim("eve").user == "eve"


def test_a_heartbeat_keeps_a_client_alive_but_not_one_that_does_nothing(leases, clock, lost):
    lease = leases.claim("ann")
    for clock.now in range(0, 600, 50):
        leases.find(lease.token, "ann", used=False)
    assert leases.remaining(lease) == 50
    clock.now = 601
    with pytest.raises(LeaseLost):
        leases.find(lease.token, "ann", used=False)
    assert lost == [lease]


def test_a_client_that_is_not_heard_of_is_gone(leases, clock, lost):
    leases.claim("ann")
    clock.now = 61
    assert len(leases) == 0
    assert len(lost) == 1


def test_work_sets_back_both_clocks(leases, clock):
    lease = leases.claim("ann")
    for clock.now in range(0, 2000, 50):
        leases.find(lease.token, "ann", used=True)
    assert leases.remaining(lease) == 600


def test_looking_sets_back_no_clock(leases, clock):
    lease = leases.claim("ann")
    clock.now = 59
    assert leases.look(lease.token, "ann") == 541
    clock.now = 61
    with pytest.raises(LeaseLost):
        leases.look(lease.token, "ann")


def test_a_lease_that_is_being_answered_does_not_go(leases, clock, lost):
    lease = leases.claim("ann")
    held, done = threading.Event(), threading.Event()

    def answer():
        with lease.lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=answer)
    thread.start()
    held.wait()
    clock.now = 10_000
    assert len(leases) == 1
    done.set()
    thread.join()
    assert len(leases) == 0


def test_a_lease_of_another_user_is_unknown(leases):
    lease = leases.claim("ann")
    for ask in (lambda: leases.find(lease.token, "ben", used=True), lambda: leases.look(lease.token, "ben")):
        with pytest.raises(LeaseLost):
            ask()
    assert not leases.release(lease.token, "ben")
    assert leases.release(lease.token, "ann")
    assert not leases.release(lease.token, "ann")
