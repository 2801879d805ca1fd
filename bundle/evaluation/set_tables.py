"""The tables of scripts/validate_sets.py: scores of several models on the sets of every modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bundle.evaluation.set_scores import CORRECTIONS, HARM
from bundle.evaluation.statistics import group_by
from bundle.evaluation.tables import Table

COUNTS = ("objects", "patients")  # results of before patients were counted lack them
PROMPTS = {"box": "box", "point": "one point", "corrected": "3 corrections"}


def set_table(result: Mapping[str, Any]) -> Table:
    """DSC / NSD of each set, prompt and model, and their macro mean; a column for each model under each prompt."""
    models: Mapping[str, Any] = result["models"]
    asked = [(prompt, name) for prompt in PROMPTS for name, model in models.items() if prompt in model["macro"]]
    first = next(iter(models.values()))["sets"]
    counted = [kind for kind in COUNTS if all(kind in about for about in first.values())]
    columns = ["set", " of ".join(counted), *(f"{PROMPTS[prompt]}, {name}" for prompt, name in asked)]
    rows = [
        [name, _numbers(about, counted), *(_pair(models[model]["sets"][name][prompt]) for prompt, model in asked)]
        for name, about in first.items()
    ]
    total = {
        kind: sum(about[kind] for about in first.values()) for kind in next(iter(first.values())) if kind in COUNTS
    }
    macro = [models[model]["macro"][prompt] for prompt, model in asked]
    rows.append(["macro mean", _numbers(total, counted), *map(_pair, macro)])
    if all("of_patients" in one for one in macro):
        rows.append(["macro mean over patients", "", *(_pair(one["of_patients"]) for one in macro)])
    return Table(columns, rows, 1)


def round_table(result: Mapping[str, Any]) -> Table:
    """The macro mean DSC from one point on after each correction, and how many objects lose by all of them."""
    models = {name: model["rounds"] for name, model in result["models"].items() if model.get("rounds")}
    after = range(1, CORRECTIONS + 1)
    columns = ["model", "one point", *(f"correction {n}" for n in after), f"objects that lose more than {HARM}"]
    rows = []
    for name, rounds in models.items():
        lost, objects = len(rounds["harmed"]), rounds["objects"]
        macro = (f"{dsc:.3f}" for dsc in rounds["macro"])
        rows.append([name, *macro, f"{lost} of {objects} ({100 * lost / objects:.1f} %)"])
    return Table(columns, rows, 1)


def harm_table(result: Mapping[str, Any]) -> Table:
    """Of the last model, set by set, the objects that corrections have made worse."""
    model = list(result["models"].values())[-1]
    rows = []
    for name, here in group_by(model["rounds"]["harmed"], lambda one: one["set"]).items():
        worst = here[0]
        named = f"{worst['object']}: {worst['before']:.3f} to {worst['after']:.3f}"
        rows.append([name, f"{len(here)} of {model['sets'][name]['objects']}", named])
    return Table(["set", f"lose more than {HARM}", "the worst"], sorted(rows), 3)


def expected_table(result: Mapping[str, Any]) -> Table:
    """The IoU that each model expects and reaches after each prompt, over all objects, where that is known."""
    columns = ["model", "prompt", "expected", "reached", "off by", "rank correlation"]
    rows = []
    for name, model in result["models"].items():
        for key, prompt in PROMPTS.items():
            if not (found := (model["expected"] or {}).get(key)):
                continue
            values = [found[score] for score in ("predicted", "reached", "mae", "rank_correlation")]
            rows.append([name, prompt, *("-" if value is None else f"{value:.3f}" for value in values)])
    return Table(columns, rows, 2)


def _pair(scored: Mapping[str, Any]) -> str:
    return f"{scored['dsc']:.3f} / {scored['nsd']:.3f}"


def _numbers(about: Mapping[str, Any], counted: Sequence[str]) -> str:
    return " of ".join(str(about[kind]) for kind in counted)
