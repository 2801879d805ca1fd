"""Active learning played without people: which strategy reaches which accuracy with how many labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Protocol

import numpy as np
from scipy import stats

from bundle.active.scores import ImageScores
from bundle.active.selection import Candidate, rule_named
from bundle.errors import OptionError


class Learner(Protocol):
    """What learns from labelled images."""

    def train(self, labelled: Sequence[str]) -> None:
        """Learn from these images."""

    def scores(self, name: str) -> ImageScores:
        """What it says of an image without a label."""

    def evaluate(self) -> float:
        """How good it is on images that are kept apart, 0 to 1."""


@dataclass(frozen=True)
class Plan:
    """How a simulation goes.

    Attributes:
        start: images that are labelled at first, drawn by the seed alone: the same for each strategy.
        per_round: images that are labelled before it learns again.
        rounds: how often it learns after the first time.
    """

    start: int = 4
    per_round: int = 4
    rounds: int = 6


@dataclass(frozen=True)
class Measured:
    """How good a strategy was with so many labels, in one seed."""

    strategy: str
    seed: int
    labels: int
    score: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "score": round(self.score, 5)}


def play(strategy: str, learner: Learner, images: Sequence[str], plan: Plan, *, seed: int) -> Iterator[Measured]:
    """Label, learn and measure, round by round; whoever takes the labels from the learner is the annotator.

    Args:
        strategy: name of a rule of ``bundle.active.selection``.
        learner: new.
        images: the pool.
        plan: how many.
        seed: of everything that is drawn here.

    Raises:
        OptionError: an unknown strategy, or a pool that is too small for the plan.
    """
    rule = rule_named(strategy)
    needed = plan.start + plan.per_round * plan.rounds
    if needed > len(images):
        raise OptionError(f"expected at least {needed} images for this plan, got {len(images)}; plan fewer rounds")
    labelled = np.random.default_rng(seed).permutation(np.array(images))[: plan.start].tolist()
    rng = np.random.default_rng((seed, 1))
    for number in range(plan.rounds + 1):
        learner.train(labelled)
        yield Measured(strategy, seed, len(labelled), learner.evaluate())
        if number == plan.rounds:
            return
        scored = {name: Candidate(name, learner.scores(name)) for name in images}
        for _ in range(plan.per_round):
            left = [one for name, one in scored.items() if name not in labelled]
            known = [scored[name] for name in labelled]
            labelled.append(rule(left, known, rng).name)


@dataclass(frozen=True)
class CurvePoint:
    """Mean of a strategy with so many labels over seeds, with its 95 % interval (t distribution)."""

    labels: int
    mean: float
    low: float
    high: float


def curves(rows: Iterable[Measured]) -> dict[str, list[CurvePoint]]:
    """Strategy -> its curve, by number of labels."""
    found: dict[str, list[CurvePoint]] = {}
    ordered = sorted(rows, key=lambda row: (row.strategy, row.labels))
    for (strategy, labels), group in groupby(ordered, key=lambda row: (row.strategy, row.labels)):
        mean, low, high = interval([row.score for row in group])
        found.setdefault(strategy, []).append(CurvePoint(labels, mean, low, high))
    return found


@dataclass(frozen=True)
class Gain:
    """The area between a strategy's curve and the baseline's, divided by the range of labels: a mean difference.

    Attributes:
        mean, low, high: over seeds, of the differences seed by seed, with a 95 % interval (t distribution).
        last: mean score with the most labels.
    """

    strategy: str
    seeds: int
    mean: float
    low: float
    high: float
    last: float


def gains(rows: Sequence[Measured], *, baseline: str) -> list[Gain]:
    """What each strategy gains over the baseline, in the seeds that both have played to the same end.

    Raises:
        OptionError: the baseline was not played.
    """
    by_run: dict[tuple[str, int], dict[int, float]] = {}
    for row in rows:
        by_run.setdefault((row.strategy, row.seed), {})[row.labels] = row.score
    if not any(strategy == baseline for strategy, _ in by_run):
        raise OptionError(f"the baseline {baseline!r} was not played; play it too")
    found = []
    for strategy in dict.fromkeys(strategy for strategy, _ in by_run):
        pairs = [
            (run, by_run[baseline, seed])
            for (name, seed), run in by_run.items()
            if name == strategy and run.keys() == by_run.get((baseline, seed), {}).keys()
        ]
        if pairs:
            mean, low, high = interval([mean_height(run) - mean_height(base) for run, base in pairs])
            last = float(np.mean([run[max(run)] for run, _ in pairs]))
            found.append(Gain(strategy, len(pairs), mean, low, high, last))
    return found


def mean_height(run: Mapping[int, float]) -> float:
    """The area under a curve (trapezoids) divided by its range of labels."""
    labels = np.array(sorted(run))
    scores = np.array([run[count] for count in labels])
    if len(labels) == 1:
        return float(scores[0])
    return float(np.average((scores[1:] + scores[:-1]) / 2, weights=np.diff(labels)))


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval of Student's t; of one value the interval is that value, which says nothing."""
    mean = float(np.mean(values))
    if len(values) < 2 or np.std(values) == 0:
        return mean, mean, mean
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half
