"""Whether a model knows how good its answers are: the IoU that it expects against the IoU that it reaches.

Every answer counts, also those before the last correction: a user sees each of them with its estimate. In a volume the
estimate is the mean of its slices' estimates, weighted by how many voxels each slice's answer has, against the IoU of
the whole object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from bundle.evaluation.records import Records
from bundle.evaluation.statistics import Record, group_by

BINS = 10
ALL_PROTOCOLS = "all"


@dataclass(frozen=True)
class Bin:
    """Answers whose expected IoU lies from `low` to `high`: their number and the means of both."""

    low: float
    high: float
    answers: int
    predicted: float
    reached: float


@dataclass(frozen=True)
class Calibration:
    """How far expectation and truth lie apart over `answers`.

    Attributes:
        answers: with an estimate.
        predicted, reached: mean IoU expected and reached.
        mae: mean of `|predicted - reached|` over answers.
        ece: expected calibration error, the mean over answers of `|mean predicted - mean reached|` of their bin, of
            `BINS` bins of equal width (Guo et al. 2017, arXiv 1706.04599, with the IoU in the accuracy's place).
        rank_correlation: Spearman's, None where all answers are expected or turn out alike. A model that always
            expects its mean has an `ece` of 0 and yet tells no good answer from a bad one; this shows it.
        bins: those that hold an answer.
    """

    answers: int
    predicted: float
    reached: float
    mae: float
    ece: float
    rank_correlation: float | None
    bins: tuple[Bin, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a table row or JSON."""
        return asdict(self)


def calibrate(records: Iterable[Record]) -> Calibration | None:
    """The calibration over all records with a `predicted_iou`; None where none has one.

    Expected values outside of 0..1, which a regression can give, fall into the first or last bin and keep their value.
    """
    known = [(r["predicted_iou"], r["iou"]) for r in records if r.get("predicted_iou") is not None]
    if not known:
        return None
    predicted, reached = np.array(known, dtype=float).T
    bins = _bins(predicted, reached)
    return Calibration(
        answers=len(known),
        predicted=float(predicted.mean()),
        reached=float(reached.mean()),
        mae=float(np.abs(predicted - reached).mean()),
        ece=sum(part.answers * abs(part.predicted - part.reached) for part in bins) / len(known),
        rank_correlation=_rank_correlation(predicted, reached),
        bins=bins,
    )


def calibration_rows(runs: Mapping[str, Records]) -> list[dict[str, Any]]:
    """`run`, `protocol` and the calibration of each run that expects something: all of it, then by protocol."""
    rows = []
    for run, records in runs.items():
        groups = group_by(records, lambda record: record["protocol"])
        whole = {ALL_PROTOCOLS: records} if len(groups) > 1 else {}
        for protocol, chosen in (whole | groups).items():
            found = calibrate(chosen)
            if found is not None:
                rows.append({"run": run, "protocol": protocol, **found.as_dict()})
    return rows


def _bins(predicted: np.ndarray, reached: np.ndarray) -> tuple[Bin, ...]:
    numbers = np.clip((predicted * BINS).astype(int), 0, BINS - 1)
    return tuple(
        Bin(
            n / BINS,
            (n + 1) / BINS,
            int(np.count_nonzero(numbers == n)),
            float(predicted[numbers == n].mean()),
            float(reached[numbers == n].mean()),
        )
        for n in np.unique(numbers).tolist()
    )


def _rank_correlation(predicted: np.ndarray, reached: np.ndarray) -> float | None:
    if np.ptp(predicted) == 0 or np.ptp(reached) == 0:
        return None
    return float(spearmanr(predicted, reached).statistic)
