"""The tables of scripts/validate_sets.py: scores of several models on the sets of every modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bundle.evaluation.tables import Table

PROMPTS = {"box": "box", "point": "one point", "corrected": "3 corrections"}


def set_table(result: Mapping[str, Any]) -> Table:
    """DSC / NSD of each set, prompt and model, and their macro mean; a column for each model under each prompt."""
    models: Mapping[str, Any] = result["models"]
    columns = ["set", "objects", *(f"{prompt}, {name}" for prompt in PROMPTS.values() for name in models)]
    first = next(iter(models.values()))["sets"]
    rows = [
        [name, str(about["objects"]), *_cells([model["sets"][name] for model in models.values()])]
        for name, about in first.items()
    ]
    total = str(sum(about["objects"] for about in first.values()))
    return Table(columns, [*rows, ["macro mean", total, *_cells([m["macro"] for m in models.values()])]], 1)


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


def _cells(scored: list[Mapping[str, Any]]) -> list[str]:
    return [f"{one[prompt]['dsc']:.3f} / {one[prompt]['nsd']:.3f}" for prompt in PROMPTS for one in scored]
