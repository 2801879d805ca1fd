"""What models reach on the sets of every modality: set by set, over objects and over patients, and round by round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bundle.evaluation.calibration import calibrate
from bundle.evaluation.records import Records, last_steps
from bundle.evaluation.statistics import Record, group_by

BOX, CLICKS = "box_jitter_20", "clicks_from_point_3"
PROTOCOLS = (BOX, CLICKS)
CORRECTIONS = 3
# name of a row, protocol, step: the start is step 0, a correction each of those after it.
STEPS = (("box", BOX, 0), ("point", CLICKS, 0), ("corrected", CLICKS, CORRECTIONS))
HARM = 0.05
"""DSC that an object may lose by corrections; what loses more is listed."""

_SCORES = ("dsc", "nsd")


def scores_of(records: Records) -> dict[str, Any]:
    """What a model reaches.

    Args:
        records: of ``PROTOCOLS``, or of the box alone; the organ of each is the name of its set.

    Returns:
        ``sets``: name -> number of objects and patients, and of each row of ``STEPS`` DSC and NSD as means over objects
        (``dsc``, ``nsd``) and over patients (``of_patients``); ``macro``: the means of these over the sets;
        ``expected``: how well the IoU was expected; ``rounds``: see ``rounds_of``, None without corrections.
    """
    played = {record["protocol"] for record in records}
    steps = [step for step in STEPS if step[1] in played]
    sets: dict[str, dict[str, Any]] = {}
    for name, here in sorted(group_by(records, lambda record: record["organ"]).items()):
        sets[name] = {
            kind: len({record[of] for record in here}) for kind, of in (("objects", "key"), ("patients", "case"))
        }
        sets[name] |= {row: _means(_at(here, protocol, step)) for row, protocol, step in steps}
    expected = {row: _expected(_at(records, protocol, step)) for row, protocol, step in steps}
    rounds = rounds_of(records) if CLICKS in played else None
    return {"sets": sets, "macro": _macro(sets), "expected": expected, "rounds": rounds}


def rounds_of(records: Records) -> dict[str, Any]:
    """What each round of corrections does.

    Returns:
        ``macro``: DSC after 0, 1, ... corrections, the mean over sets of the means over objects; ``objects``: their
        number; ``harmed``: those that have lost more than ``HARM`` after the last one, the worst first.
    """
    clicked = [record for record in records if record["protocol"] == CLICKS]
    after = [{record["key"]: record for record in _at(clicked, CLICKS, step)} for step in range(CORRECTIONS + 1)]
    means = []
    for found in after:
        sets = group_by(found.values(), lambda record: record["organ"])
        means.append(float(np.mean([np.mean([record["dsc"] for record in here]) for here in sets.values()])))
    harmed = [
        {
            "object": key,
            "set": start["organ"],
            "before": round(start["dsc"], 3),
            "after": round(after[-1][key]["dsc"], 3),
        }
        for key, start in after[0].items()
        if round(start["dsc"] - after[-1][key]["dsc"], 6) > HARM
    ]
    return {
        "macro": means,
        "objects": len(after[0]),
        "harmed": sorted(harmed, key=lambda one: one["after"] - one["before"]),
    }


def restricted(scores: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Of the scores of a model those of some sets, which the same objects were drawn from."""
    sets = {name: scores["sets"][name] for name in sorted(names)}
    return {"sets": sets, "macro": _macro(sets), "expected": None, "rounds": None}


def _at(records: Iterable[Record], protocol: str, step: int) -> Records:
    """The answers after so many corrections; an object that needed no more keeps its last one."""
    return last_steps(r for r in records if r["protocol"] == protocol and r["step"] <= step)


def _means(records: Records) -> dict[str, Any]:
    patients = group_by(records, lambda record: record["case"]).values()
    return {
        **{score: float(np.mean([record[score] for record in records])) for score in _SCORES},
        "of_patients": {
            score: float(np.mean([np.mean([record[score] for record in here]) for here in patients]))
            for score in _SCORES
        },
    }


def _macro(sets: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Row -> the means over sets, in the form of ``_means``; results of before ``of_patients`` was counted lack it."""
    rows = [row for row, _, _ in STEPS if all(row in scored for scored in sets.values())]
    macro: dict[str, dict[str, Any]] = {}
    for row in rows:
        found = [scored[row] for scored in sets.values()]
        macro[row] = _mean_of(found)
        if all("of_patients" in one for one in found):
            macro[row]["of_patients"] = _mean_of([one["of_patients"] for one in found])
    return macro


def _mean_of(scored: Iterable[Mapping[str, float]]) -> dict[str, Any]:
    return {score: float(np.mean([one[score] for one in scored])) for score in _SCORES}


def _expected(records: Records) -> Mapping[str, float] | None:
    found = calibrate(records)
    return found and {name: getattr(found, name) for name in ("predicted", "reached", "mae", "rank_correlation")}
