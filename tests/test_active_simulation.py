"""Active learning played without people."""

from __future__ import annotations

import pytest

from bundle.active.scores import ImageScores, StructureScores
from bundle.active.selection import RULES
from bundle.active.simulation import Measured, Plan, curves, gains, interval, mean_height, play
from bundle.errors import OptionError

IMAGES = [f"ct{number}" for number in range(30)]


class Student:
    """Its score is the share of hard images that it was taught; hard ones are those it doubts."""

    def __init__(self):
        self.taught = []

    def train(self, labelled):
        self.taught.append(list(labelled))

    def scores(self, name):
        doubt = 1.0 if int(name[2:]) < 10 else 0.1
        return ImageScores("student", {"liver": StructureScores(doubt, doubt, 1 - doubt, 0.1)}, (doubt,) * 32)

    def evaluate(self):
        return sum(int(name[2:]) < 10 for name in self.taught[-1]) / 10


SMALL = Plan(2, 2, 3)


def run(strategy, seed=0, plan=SMALL):
    return list(play(strategy, Student(), IMAGES, plan, seed=seed))


@pytest.mark.parametrize("strategy", RULES)
def test_every_strategy_labels_as_many_images_as_planned_and_none_twice(strategy):
    student = Student()
    rows = list(play(strategy, student, IMAGES, Plan(2, 3, 4), seed=1))
    assert [row.labels for row in rows] == [2, 5, 8, 11, 14]
    assert all(len(set(taught)) == len(taught) for taught in student.taught)


def test_all_strategies_begin_with_the_same_images():
    first, second = Student(), Student()
    list(play("random", first, IMAGES, Plan(), seed=3))
    list(play("uncertainty", second, IMAGES, Plan(), seed=3))
    assert first.taught[0] == second.taught[0]


def test_a_seed_plays_the_same_again_and_another_otherwise():
    assert run("random", 1) == run("random", 1) and run("random", 1) != run("random", 2)


def test_where_doubt_is_right_uncertainty_gains_over_random():
    rows = [row for seed in range(4) for name in ("random", "uncertainty") for row in run(name, seed)]
    gain = next(one for one in gains(rows, baseline="random") if one.strategy == "uncertainty")
    assert gain.mean > 0.1 and gain.low > 0 and gain.seeds == 4


def test_a_baseline_gains_nothing_over_itself():
    rows = [row for seed in range(2) for row in run("random", seed)]
    assert [(one.mean, one.low, one.high) for one in gains(rows, baseline="random")] == [(0, 0, 0)]


def test_a_run_that_was_cut_off_is_not_compared():
    rows = [*run("random"), *run("uncertainty")[:-1]]
    assert [one.strategy for one in gains(rows, baseline="random")] == ["random"]


def test_a_baseline_that_was_not_played_is_named():
    with pytest.raises(OptionError, match="foreground_random"):
        gains(run("random"), baseline="foreground_random")


def test_a_pool_that_is_too_small_is_refused_before_anything_is_learned():
    with pytest.raises(OptionError, match="at least 32"):
        run("random", plan=Plan(2, 10, 3))


def test_curves_are_means_over_seeds():
    rows = [Measured("a", 0, 4, 0.2), Measured("a", 1, 4, 0.4), Measured("a", 0, 8, 0.5)]
    found = curves(rows)["a"]
    assert [(point.labels, round(point.mean, 6)) for point in found] == [(4, 0.3), (8, 0.5)]
    assert found[0].low < 0.3 < found[0].high and found[1].low == found[1].high == 0.5


def test_the_height_of_a_curve_is_its_area_over_its_range():
    assert mean_height({4: 0.0, 8: 1.0}) == 0.5
    assert mean_height({0: 0.0, 1: 1.0, 3: 1.0}) == pytest.approx(2.5 / 3)
    assert mean_height({4: 0.7}) == 0.7


def test_an_interval_is_students():
    mean, low, high = interval([0.0, 1.0])  # t of 1 degree of freedom is 12.7062, the standard error 0.5
    assert (mean, high) == (0.5, pytest.approx(0.5 + 12.7062 * 0.5, abs=1e-3)) and low == pytest.approx(1 - high)
