"""Nobody is given an image that somebody else works on."""

from __future__ import annotations

import pytest

from monailabel_app.strategies.assignments import Assignments, last_given


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_an_image_is_its_users_until_it_rested(clock):
    assignments = Assignments(seconds=60, clock=clock)
    assignments.work("ct", "anna")
    assert assignments.is_taken("ct", "bert", {}) and not assignments.is_taken("ct", "anna", {})
    clock.now += 59
    assert assignments.is_taken("ct", "bert", {})
    clock.now += 1
    assert not assignments.is_taken("ct", "bert", {})


def test_a_click_keeps_it(clock):
    assignments = Assignments(seconds=60, clock=clock)
    assignments.work("ct", "anna")
    clock.now += 50
    assignments.work("ct", "anna")
    clock.now += 50
    assert assignments.is_taken("ct", "bert", {})


def test_what_the_index_says_counts_after_a_restart(clock):
    info = {"strategy": {"random": {"ts": clock.now - 10, "client_id": "anna"}}}
    assignments = Assignments(seconds=60, clock=clock)
    assert assignments.is_taken("ct", "bert", info) and not assignments.is_taken("ct", "anna", info)
    assignments.work("ct", "bert")  # who took it over
    assert not assignments.is_taken("ct", "bert", info)


def test_the_newest_note_counts():
    notes = {"random": {"ts": 5, "user": "anna"}, "first": {"ts": 9, "client_id": "bert"}}
    assert last_given({"strategy": notes}) == ("bert", 9.0)


@pytest.mark.parametrize("info", [{}, {"strategy": 5}, {"strategy": {"random": [1]}}, {"strategy": {"random": {}}}])
def test_an_index_that_says_nothing_leaves_an_image_free(clock, info):
    assert last_given(info) is None and not Assignments(clock=clock).is_taken("ct", "anna", info)


def test_a_note_from_the_future_takes_no_image(clock):
    info = {"strategy": {"random": {"ts": clock.now + 1e9, "user": "anna"}}}
    assert not Assignments(clock=clock).is_taken("ct", "bert", info)
