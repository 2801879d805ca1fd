"""A training ends when its budget of steps or of computing time is spent, and keeps its last weights."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim import SGD

from bundle.families.checkpoints import open_checkpoint
from bundle.training import budget
from bundle.training.budget import BudgetedCosine, ReportProgress, SaveLast, StopWhenSpent


class Clock:
    """Computing time that a test spends."""

    def __init__(self, monkeypatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(budget.time, "process_time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def schedule(**options) -> BudgetedCosine:
    return BudgetedCosine(SGD(nn.Linear(1, 1).parameters(), lr=1.0), **options)


def rates(lr_scheduler: BudgetedCosine, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(lr_scheduler.get_last_lr()[0])
        lr_scheduler.optimizer.step()
        lr_scheduler.step()
    return found


def engine(**state) -> SimpleNamespace:
    ended = []
    return SimpleNamespace(state=SimpleNamespace(**state), terminate=lambda: ended.append(True), ended=ended)


def test_without_a_time_the_rate_is_half_a_cosine_over_the_steps(clock):
    lr_scheduler = schedule(warmup=2, total=10)
    found = rates(lr_scheduler, 10)
    assert found[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert found[6] == pytest.approx(0.5) and found[9] < 0.05
    assert lr_scheduler.spent == 1


def test_time_that_is_spent_lowers_the_rate_before_the_steps_are_done(clock):
    lr_scheduler = schedule(total=1000, seconds=40.0)
    clock.now += 20
    rates(lr_scheduler, 1)
    assert lr_scheduler.spent == 0.5
    assert lr_scheduler.get_last_lr()[0] == pytest.approx(0.5)


def test_a_run_that_goes_on_has_what_is_left_of_the_time_and_its_own_budget(clock):
    first = schedule(total=1000, seconds=40.0)
    clock.now += 10
    rates(first, 1)
    state = first.state_dict()
    clock.now = 5.0  # another process
    second = schedule(total=1000, seconds=20.0)
    second.load_state_dict(state)
    assert second.spent == 0.5
    clock.now += 10
    rates(second, 1)
    assert second.spent == 1


def test_the_run_ends_after_the_epoch_in_which_the_budget_is_spent(clock):
    lr_scheduler = schedule(total=1000, seconds=40.0)
    stop, running = StopWhenSpent(lr_scheduler), engine()
    stop(running)
    assert not running.ended
    clock.now += 41
    rates(lr_scheduler, 1)
    stop(running)
    assert running.ended


def test_the_last_weights_are_kept_with_the_number_of_steps(tmp_path):
    network = nn.Linear(2, 2)
    save = SaveLast(tmp_path / "best.safetensors", network, evaluator=None, metric="", metadata={"family": "default"})
    save(engine(epoch=3, iteration=7))
    saved = open_checkpoint(tmp_path / "best.safetensors")
    assert saved.metadata == {"family": "default", "epoch": 3, "steps": 7}
    torch.testing.assert_close(saved.state_dict["weight"].float(), network.weight.detach().half().float())


@pytest.mark.parametrize(("seconds", "steps"), [(math.inf, 50), (40.0, None)])
def test_how_far_it_is_stands_in_a_file(tmp_path, clock, seconds, steps):
    report = ReportProgress(tmp_path / "progress.json", schedule(total=50, seconds=seconds))
    report(engine(iteration=5, output={"loss": 0.25}))
    told = json.loads((tmp_path / "progress.json").read_text())
    assert told == {"step": 5, "steps": steps, "share": 0.0, "loss": 0.25}


def test_a_loss_that_is_no_number_is_none_in_the_file(tmp_path, clock):
    report = ReportProgress(tmp_path / "progress.json", schedule(total=50))
    report(engine(iteration=5, output={"loss": math.nan}))
    assert json.loads((tmp_path / "progress.json").read_text())["loss"] is None
