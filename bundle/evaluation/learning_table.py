"""What a network that has learnt answers, beside the one from before (measure_learning.py, walkthrough.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from bundle.evaluation.statistics import compare, interactions_to
from bundle.evaluation.tables import Table

BEFORE = "before"
"""Name of the network that nothing was taught yet."""
TARGET = 0.90
"""DSC that clicks are counted to."""
SCORES = ("dsc", "nsd")
CHANGE = "change of DSC"
COLUMNS = ("network", "structure", "objects", "DSC box", "DSC point", CHANGE, "NSD box", "NSD point")

Played = Mapping[str, Any]
"""Of one object and prompt: ``structure``, ``patient``, ``prompt`` ("box" or "clicks") and the ``scores`` (dsc and nsd)
after the first prompt and after each correction."""


def answer_rows(played: Mapping[str, Sequence[Sequence[Played]]]) -> list[dict[str, Any]]:
    """A row of the first answers for each network and structure; means over the trainings, which differ in their seeds.

    ``change`` is the mean difference of DSC to the network from before, over box and point, with the 95 % interval of a
    bootstrap over patients, each the mean of its objects and of the trainings; ``changes`` are those of each training.

    Args:
        played: network -> what came of each of its trainings answered; ``BEFORE`` is among them, with one. All were
            asked the same.
    """
    (before,) = map(_first_answers, played[BEFORE])
    rows = []
    for network, trainings in played.items():
        records = list(chain.from_iterable(trainings))
        changes, *single = (
            {one.organ: one for one in compare(before, _first_answers(r))} for r in (records, *trainings)
        )
        for structure in dict.fromkeys(record["structure"] for record in records):
            box, clicks = (_of(records, structure, prompt) for prompt in ("box", "clicks"))
            change = changes[structure]
            rows.append(
                {
                    "network": network,
                    "structure": structure,
                    "objects": len(clicks) // len(trainings),
                    **{f"{score}_box": _first(box, score) for score in SCORES},
                    **{f"{score}_point": _first(clicks, score) for score in SCORES},
                    "change": [round(value, 4) for value in (change.difference, change.low, change.high)],
                    "changes": [round(one[structure].difference, 4) for one in single],
                }
            )
    return rows


def learning_rows(played: Mapping[str, Sequence[Sequence[Played]]]) -> list[dict[str, Any]]:
    """The rows of ``answer_rows`` with the number of clicks to ``TARGET``."""
    rows = answer_rows(played)
    for row in rows:
        clicks = _of(list(chain.from_iterable(played[row["network"]])), row["structure"], "clicks")
        row |= _counted([[step["dsc"] for step in steps] for steps in clicks])
    return rows


def answers_table(result: Mapping[str, Any]) -> Table:
    """The table of ``answer_rows``, which ``rows`` of the result holds."""
    rows = []
    for row in result["rows"]:
        change = "" if row["network"] == BEFORE else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*row["change"])
        numbers = [f"{row[name]:.3f}" for name in ("dsc_box", "dsc_point", "nsd_box", "nsd_point")]
        numbers.insert(2, change)
        rows.append([row["network"], row["structure"], str(row["objects"]), *numbers])
    return Table([*COLUMNS], rows, 2)


def learning_table(result: Mapping[str, Any]) -> Table:
    """The table of ``learning_rows``, which ``rows`` of the result holds; the change also of each training."""
    answers, place = answers_table(result), COLUMNS.index(CHANGE) + 1
    rows = []
    for answered, row in zip(answers.rows, result["rows"], strict=True):
        each = "" if row["network"] == BEFORE else " ".join(f"{one:+.3f}" for one in row["changes"])
        rows.append([*answered[:place], each, *answered[place:], f"{row['clicks']:.2f}", f"{row['never']:.0%}"])
    clicks = f"clicks to DSC {TARGET:.2f}"
    return Table([*COLUMNS[:place], "of each training", *COLUMNS[place:], clicks, "never"], rows, answers.names)


def gate_table(result: Mapping[str, Any]) -> Table:
    """What the gate said to each network, which ``gate`` of the result holds."""
    rows = []
    for one in result["gate"]:
        held = [f"{one[score]['before']:.3f} to {one[score]['after']:.3f}" for score in SCORES]
        boxes = [f"{one[of]:.3f}" for of in ("box", "shape")]
        said = "published" if one["accepted"] else f"refused: {'; '.join(one['reasons'])}"
        rows.append([one["network"], str(one["seed"]), str(one["steps"]), f"{one['share']:.0%}", *held, *boxes, said])
    columns = (
        "network",
        "seed",
        "steps",
        "of the change",
        "held-out DSC",
        "held-out NSD",
        "in a box",
        "mean shape",
        "the gate",
    )
    return Table([*columns], rows, 2)


def loop_table(result: Mapping[str, Any]) -> Table:
    """What came of each label in a round of active learning at a server (scripts/simulate_active_learning.py)."""
    rows = [["0", "", "", "", f"{result['dsc_before']:.3f}"]]
    for number, one in enumerate(result["rounds"], start=1):
        if "training" not in one:
            came = "none asked for"
        elif one["training"] != "DONE":
            came = f"ended as {one['training']}"
        elif one["version"]:
            held = one["gate_dsc"]
            came = f"published as version {one['version']}: held-out DSC {held['before']:.3f} to {held['after']:.3f}"
        else:
            came = f"refused: {'; '.join(one['gate_reasons'])}"
        dsc = f"{one['dsc']:.3f}" if "dsc" in one else ""
        rows.append([str(number), one["image"], one["reason"], came, dsc])
    return Table(["labels", "next sample", "why this one", "training", "DSC of other patients in a box"], rows, 4)


def shown_table(result: Mapping[str, Any]) -> Table:
    """What the pictures of scripts/walkthrough.py show, which ``shown`` of the result holds."""
    rows = [
        [one["client"], one["prompt"], str(one["network"]), one["patient"], one["structure"], f"{one['dsc']:.3f}"]
        for one in result["shown"]
    ]
    return Table(["client", "prompt", "network", "patient", "structure", "DSC of the slice"], rows, 5)


def settings_table(result: Mapping[str, Any]) -> Table:
    """What each setting of a training changed in DSC, from a box / from a point, on the objects that chose among them.

    ``before`` of the result is structure -> prompt -> mean DSC, as is ``dsc`` of each of its ``runs``.
    """
    before, rows = result["before"], []
    for run in result["runs"]:
        changes = [
            " / ".join(f"{run['dsc'][structure][prompt] - dsc:+.3f}" for prompt, dsc in prompts.items())
            for structure, prompts in before.items()
        ]
        rows.append([run["setting"], str(run["steps"]), f"{run['share']:.0%}", *changes])
    return Table(["tuning and what is kept", "steps", "of the change", *before], rows, 1)


def _first_answers(records: Sequence[Played]) -> list[dict[str, Any]]:
    """As ``statistics`` reads them."""
    return [{"organ": one["structure"], "case": one["patient"], "dsc": one["scores"][0]["dsc"]} for one in records]


def _of(records: Sequence[Played], structure: str, prompt: str) -> list[Sequence[Mapping[str, float]]]:
    """The scores of each object of a structure."""
    return [one["scores"] for one in records if (one["structure"], one["prompt"]) == (structure, prompt)]


def _first(objects: Sequence[Sequence[Mapping[str, float]]], score: str) -> float:
    return round(float(np.mean([steps[0][score] for steps in objects])), 4)


def _counted(curves: Sequence[Sequence[float]]) -> dict[str, float]:
    """Mean number of clicks to ``TARGET``, and how often it was never reached, which counts as one click more."""
    limit = max(map(len, curves))
    never = [max(dsc) < TARGET for dsc in curves]
    clicks = [interactions_to(dsc, TARGET, limit) + missed for dsc, missed in zip(curves, never, strict=True)]
    return {"clicks": round(float(np.mean(clicks)), 3), "never": round(float(np.mean(never)), 3)}
