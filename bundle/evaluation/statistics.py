"""What a paper prints of many scores: means with intervals, and two models side by side.

The unit is the patient. Slices of one patient are averaged first, because they are not independent: intervals and
tests over slices would look far more certain than they are.

A record is a mapping with at least `organ`, `case` (the patient) and the scores by name, as `evaluator` writes them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from bundle.errors import StatisticsError

MACRO = "macro mean"
BOOTSTRAP_ROUNDS = 2000

Record = Mapping[str, Any]
CaseScores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Summary:
    """One score of one organ over `cases` patients, with its 95 % bootstrap interval."""

    organ: str
    score: str
    cases: int
    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a table row or JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """One score of one organ before and after, paired by patient.

    `difference` is after minus before with its 95 % bootstrap interval; `p_value` is of the two-sided Wilcoxon
    signed-rank test, 1 where no patient differs. Of the macro mean it takes each patient's mean over its own organs.
    """

    organ: str
    score: str
    cases: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    p_value: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a table row or JSON."""
        return asdict(self)


def case_means(records: Iterable[Record], score: str) -> CaseScores:
    """The mean of `score` over each patient's records: organ -> case -> mean; None and NaN are left out."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        value = record.get(score)
        if value is not None and not np.isnan(value):
            values[record["organ"]][record["case"]].append(float(value))
    return {organ: {case: float(np.mean(v)) for case, v in cases.items()} for organ, cases in values.items()}


def summarise(records: Iterable[Record], score: str = "dsc", *, seed: int = 0) -> list[Summary]:
    """Mean and 95 % bootstrap interval of each organ, then of the macro mean (the mean of the organs' means).

    Patients are drawn with replacement, `BOOTSTRAP_ROUNDS` times from `seed`; a patient brings all its organs along.

    Raises:
        StatisticsError: there is no record with that score.
    """
    scores = case_means(records, score)
    table, organs = _table(scores)
    if not organs:
        raise StatisticsError(f"expected records with the score {score!r}, got none; evaluate at least one case first")
    draws = _bootstrap(table, seed)
    rows = [_summary(organ, score, table[:, n], draws[:, n]) for n, organ in enumerate(organs)]
    macro_low, macro_high = _interval(_mean(draws, axis=1))
    return [*rows, Summary(MACRO, score, len(table), _macro(table), macro_low, macro_high)]


def compare(
    before: Iterable[Record], after: Iterable[Record], score: str = "dsc", *, seed: int = 0
) -> list[Comparison]:
    """Two models over the same patients: one row for each organ, then the macro mean; all as `summarise` has it.

    Raises:
        StatisticsError: the two do not hold the same patients and organs.
    """
    first, second = case_means(before, score), case_means(after, score)
    _check_same_cases(first, second)
    (table, organs), (other, _) = _table(first), _table(second)
    draws = _bootstrap(other - table, seed)
    rows = [_comparison(organ, score, table[:, [n]], other[:, [n]], draws[:, [n]]) for n, organ in enumerate(organs)]
    return [*rows, _comparison(MACRO, score, table, other, draws)]


def _check_same_cases(first: CaseScores, second: CaseScores) -> None:
    keys = [{(organ, case) for organ, cases in scores.items() for case in cases} for scores in (first, second)]
    if not keys[0] or keys[0] != keys[1]:
        example = sorted(keys[0] ^ keys[1])[:1]
        raise StatisticsError(
            f"expected the same patients and organs before and after, got {len(keys[0])} and {len(keys[1])}"
            f"{f', for example only one has {example[0]}' if example else ''}; evaluate both models on one list"
        )


def _comparison(organ: str, score: str, before: np.ndarray, after: np.ndarray, draws: np.ndarray) -> Comparison:
    """One row over the columns of two tables (patients, organs) and of `_bootstrap` of their difference."""
    differences = _mean(after - before, axis=1)
    differences = differences[~np.isnan(differences)]
    p_value = float(wilcoxon(differences).pvalue) if np.any(differences != 0) else 1.0
    first, second = _macro(before), _macro(after)
    interval = _interval(_mean(draws, axis=1))
    return Comparison(organ, score, len(differences), first, second, second - first, *interval, p_value)


def _summary(organ: str, score: str, values: np.ndarray, draws: np.ndarray) -> Summary:
    present = values[~np.isnan(values)]
    return Summary(organ, score, present.size, float(present.mean()), *_interval(draws))


def _table(scores: CaseScores) -> tuple[np.ndarray, list[str]]:
    """(patients, organs) float with NaN where a patient lacks the organ, and the organs' names in order."""
    organs = sorted(scores)
    cases = sorted({case for by_case in scores.values() for case in by_case})
    table = [[scores[organ].get(case, np.nan) for organ in organs] for case in cases]
    return np.array(table, dtype=float).reshape(len(cases), len(organs)), organs


def _bootstrap(table: np.ndarray, seed: int) -> np.ndarray:
    """(rounds, organs) means of patients drawn with replacement; NaN where a draw has no patient with the organ."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(table), (BOOTSTRAP_ROUNDS, len(table)))
    return _mean(table[chosen], axis=1)


def _macro(table: np.ndarray) -> float:
    """The mean of the organs' means of (patients, organs)."""
    return float(_mean(_mean(table, axis=0), axis=0))


def _interval(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return float(low), float(high)


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean without NaN; NaN, without numpy's warning, where nothing is left."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


# ---- curves over clicks ---------------------------------------------------------------------------------------------


def curve(values: Sequence[float], length: int) -> np.ndarray:
    """(length,) scores over interactions; a run that stopped because nothing was wrong keeps its last score."""
    if not values:
        raise StatisticsError("expected at least one interaction, got none")
    filled = list(values[:length]) + [values[-1]] * (length - len(values))
    return np.array(filled, dtype=float)


def interactions_to(values: Sequence[float], target: float, cap: int) -> int:
    """How many interactions reach `target`, NoC in RITM's terms; `cap` where none of the first `cap` does.

    Args:
        values: the score after each interaction, the starting prompt counted as the first.
        target: RITM counts to IoU 0.85 and 0.90.
        cap: 20 in RITM.
    """
    reached = np.flatnonzero(np.asarray(values[:cap]) >= target)
    return int(reached[0]) + 1 if reached.size else cap


def click_auc(values: Sequence[float]) -> float:
    """Area under the score after 5 clicks by trapezoids, 0 to 4: the AUC of the CVPR 2025 interactive challenge.

    Args:
        values: the 5 scores after each click; the starting box does not count.
    """
    if len(values) != 5:
        raise StatisticsError(f"expected the scores after 5 clicks, got {len(values)}; extend them with curve()")
    return float(np.trapz(values))


def group_by(records: Iterable[Record], key: Callable[[Record], Any]) -> dict[Any, list[Record]]:
    """Records by what `key` says of them, in the order in which each first appears."""
    groups: dict[Any, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups
