"""The tables of the ways through a volume (scripts/compare_volume_models.py, clicks_3d.py, tune_following.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bundle.evaluation.clicks import challenge_scores
from bundle.evaluation.tables import Table
from bundle.interactive.candidates import FOLLOWING, REFINED, WAYS, Evidence, chosen

CHOSEN = "chosen"
_COLUMNS = (*WAYS, CHOSEN)
_NONE = (np.nan,) * 3  # of a way that a start does not have

Result = Mapping[str, Any]


def way_table(results: Sequence[Result]) -> Table:
    """A row for each object and start: DSC / NSD of each way, and which of them was chosen."""
    started = [result for result in results if "ways" in result]
    rows = []
    for result in sorted(started, key=lambda one: (one["group"], one["object"], one["start"])):
        way = way_of(result)
        scores = [_pair(*_of(result, name)[:2]) for name in WAYS]
        rows.append([result["group"], result["object"], result["start"], *scores, way])
    return Table(["group", "object", "start", *WAYS, CHOSEN], rows, 3)


def group_table(results: Sequence[Result]) -> Table:
    """A row for each start and group and for their macro mean: mean DSC / NSD of each way, and the seconds."""
    started = [result for result in results if "ways" in result]
    rows = []
    for start in dict.fromkeys(result["start"] for result in started):
        means = []
        for group in sorted({result["group"] for result in started if result["start"] == start}):
            here = [one for one in started if (one["start"], one["group"]) == (start, group)]
            means.append([[_of(one, way) for one in here] for way in _COLUMNS])
            rows.append([start, f"{group} ({len(here)})", *_cells([np.mean(scores, axis=0) for scores in means[-1]])])
        macro = [
            np.mean([np.mean(group[column], axis=0) for group in means], axis=0) for column in range(len(_COLUMNS))
        ]
        rows.append([start, f"mean of {len(means)} groups", *_cells(macro)])
    return Table(["start", "group", *_COLUMNS, "seconds"], rows, 2)


def challenge_volume_table(results: Sequence[Result]) -> Table:
    """The CVPR 2025 challenge's numbers of each way and group, and their macro mean."""
    clicked = [result for result in results if "way" in result and result["start"] == "cvpr25"]
    rows = []
    for way in dict.fromkeys(result["way"] for result in clicked):
        means = []
        for group in sorted({result["group"] for result in clicked}):
            here = [one for one in clicked if (one["way"], one["group"]) == (way, group)]
            if here:
                means.append(np.mean([_challenge(one) for one in here], axis=0))
                rows.append([way, f"{group} ({len(here)})", *(f"{value:.3f}" for value in means[-1])])
        rows.append([way, "mean of groups", *(f"{value:.3f}" for value in np.mean(means, axis=0))])
    columns = ["way", "group", "DSC of the box", "final DSC", "final NSD", "DSC AUC", "NSD AUC", "seconds"]
    return Table(columns, rows, 2)


def click_volume_table(results: Sequence[Result]) -> Table:
    """DSC / NSD of each object after its start and after each click of what is chosen, and their mean for a start."""
    clicked = [result for result in results if "way" in result and result["start"] != "cvpr25"]
    rows, most = [], max((len(result["dsc"]) for result in clicked), default=1)
    for start in dict.fromkeys(result["start"] for result in clicked):
        here = [result for result in clicked if result["start"] == start]
        scores = [[_filled(one["dsc"], most), _filled(one["nsd"], most)] for one in here]
        named = [(f"{one['object']} ({one['group']})", score) for one, score in zip(here, scores, strict=True)]
        for name, (dsc, nsd) in [*named, (f"mean of {len(here)}", np.mean(scores, axis=0).tolist())]:
            rows.append([start, name, *(_pair(*pair) for pair in zip(dsc, nsd, strict=True))])
    return Table(["start", "object", "start alone", *(f"click {k}" for k in range(1, most))], rows, 2)


def object_click_table(results: Sequence[Result]) -> Table:
    """DSC of each object after its start and after each click, the clicks that changed nothing, and the means."""
    most = max((len(result["dsc"]) for result in results), default=1)
    rows = []
    for start in dict.fromkeys(result["start"] for result in results):
        here = [result for result in results if result["start"] == start]
        scores = [_filled(one["dsc"], most) for one in here]
        for one, dsc in zip(here, scores, strict=True):
            rows.append([start, one["object"], *(f"{value:.3f}" for value in dsc), str(one["without_effect"])])
        means = np.mean(scores, axis=0)
        idle = sum(one["without_effect"] for one in here)
        rows.append([start, f"mean of {len(here)}", *(f"{value:.3f}" for value in means), str(idle)])
    columns = ["start", "object", "start alone", *(f"click {k}" for k in range(1, most)), "clicks without effect"]
    return Table(columns, rows, 2)


def rule_table(result: Mapping[str, Any]) -> Table:
    """A row for each rule of following and start: mean DSC at the start and after the clicks, and what became worse."""
    rows = [
        [
            row["rule"],
            row["start"],
            str(len(row["first"])),
            f"{np.mean(row['first']):.3f}",
            f"{np.mean(row['last']):.3f}",
            str(np.count_nonzero(np.subtract(row["first"], row["last"]) > result["harm"])),
        ]
        for row in result["rows"]
    ]
    after, worse = f"after {result['clicks']} clicks", f"worse by {result['harm']:g}"
    return Table(["rule", "start", "objects", "at the start", after, worse], rows, 2)


def stride_table(result: Mapping[str, Any]) -> Table:
    """DSC of each object and start, and passes and seconds, with each distance of slices that are asked; the means."""
    rows = result["rows"]
    tried = list(rows[0]["farthest_mm"])
    named = [(row["object"], row["start"], row["farthest_mm"]) for row in rows]
    for start in dict.fromkeys(row["start"] for row in rows):
        here = [row["farthest_mm"] for row in rows if row["start"] == start]
        of_all = {mm: {key: float(np.mean([one[mm][key] for one in here])) for key in here[0][mm]} for mm in tried}
        named.append((f"mean of {len(here)}", start, of_all))
    cells = [
        [name, start, *(f"{one[mm]['dsc']:.3f}" for mm in tried), *(_cost(one[mm]) for mm in tried)]
        for name, start, one in named
    ]
    asked = ["each slice" if float(mm) == 0 else f"to {mm} mm" for mm in tried]
    columns = ["object", "start", *(f"DSC, {one}" for one in asked), *(f"passes / s, {one}" for one in asked)]
    return Table(columns, cells, 2)


def _cost(one: Mapping[str, float]) -> str:
    return f"{one['passes']:.0f} / {one['seconds']:.1f}"


def _filled(scores: Sequence[float], steps: int) -> list[float]:
    """Scores of so many steps: an object that needed no more clicks keeps its last one."""
    return [*scores, *[scores[-1]] * (steps - len(scores))]


def way_of(result: Result) -> str:
    """The way that is chosen by the evidence of a result, as the rule is now."""
    evidence = {key: tuple(value) if isinstance(value, list) else value for key, value in result["evidence"].items()}
    return chosen(Evidence(**evidence))


def _of(result: Result, way: str) -> tuple[float, float, float]:
    """DSC, NSD and seconds, NaN of a way that the start does not have; the chosen way takes the time of all of them."""
    ways = result["ways"]
    if way != CHOSEN:
        return tuple(ways[way][score] for score in ("dsc", "nsd", "seconds")) if way in ways else _NONE
    taken = ways[way_of(result)]
    return taken["dsc"], taken["nsd"], ways[FOLLOWING]["seconds"] + ways[REFINED]["seconds"]


def _cells(means: Sequence[np.ndarray]) -> list[str]:
    seconds = " / ".join("-" if np.isnan(mean[2]) else f"{mean[2]:.0f}" for mean in means)
    return [*(_pair(*mean[:2]) for mean in means), seconds]


def _pair(dsc: float, nsd: float) -> str:
    return "-" if np.isnan(dsc) else f"{dsc:.3f} / {nsd:.3f}"


def _challenge(result: Result) -> list[float]:
    steps = [{"dsc": dsc, "nsd": nsd} for dsc, nsd in zip(result["dsc"], result["nsd"], strict=True)]
    scores = challenge_scores(steps)
    names = ("dsc_final", "nsd_final", "dsc_auc", "nsd_auc")
    return [result["dsc"][0], *(scores[name] for name in names), sum(result["seconds"])]
