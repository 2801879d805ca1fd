"""What corrections bring: RITM's number of clicks, and the four numbers of the CVPR 2025 interactive challenge.

RITM (Sofiiuk et al. 2021, arXiv 2102.06583) counts the clicks until an IoU is reached, at most 20, and an object that
never gets there with 20. The challenge (CVPR 2025, Foundation Models for Interactive 3D Biomedical Image Segmentation)
gives a box and five clicks at the centre of the largest wrong region, and measures DSC and NSD after each click: the
area under both curves, and the last values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bundle.evaluation.records import Records
from bundle.evaluation.statistics import Record, click_auc, curve, group_by, interactions_to, summarise
from bundle.evaluation.tables import NAMES, Table, with_interval

CLICK_TARGETS = (("dsc", 0.90), ("iou", 0.85), ("iou", 0.90))
ALL_OBJECTS = "all objects"
OBJECT_TARGET = 0.90
CVPR25 = "cvpr25"
CVPR25_CLICKS = 5
CVPR25_LEAST_DSC = 0.2  # up to here the challenge counts NSD as 0
CVPR25_SCORES = {"dsc_auc": "DSC AUC", "nsd_auc": "NSD AUC", "dsc_final": "final DSC", "nsd_final": "final NSD"}


def interactive(records: Records) -> dict[str, Records]:
    """The protocols with more than one step."""
    groups = group_by(records, lambda record: record["protocol"])
    return {name: rows for name, rows in groups.items() if any(row["step"] > 0 for row in rows)}


# ---- number of clicks -----------------------------------------------------------------------------------------------


def click_rows(runs: Mapping[str, Records]) -> list[dict[str, Any]]:
    """For protocols with corrections: interactions to each of `CLICK_TARGETS`, of each organ and of all objects.

    The first prompt counts as an interaction, and a `step` is one, also where it is two clicks. `limit` is how many
    were made at most and `never` the share of objects that do not get there. Those count with one more than the limit
    in `interactions`, and with the limit itself in `noc`, as RITM has it. Means are over objects.
    """
    rows = []
    for run, records in runs.items():
        for protocol, chosen in interactive(records).items():
            objects = list(_objects(chosen))
            limit = max(len(steps) for steps in objects)
            groups = group_by(objects, lambda steps: steps[0]["organ"])
            whole = {ALL_OBJECTS: objects} if len(groups) > 1 else {}
            for organ, of_organ in (groups | whole).items():
                for score, target in CLICK_TARGETS:
                    values = [[record[score] for record in steps] for steps in of_organ]
                    where = {"run": run, "protocol": protocol, "organ": organ, "score": score, "target": target}
                    rows.append(where | _clicks_to(values, target, limit))
    return rows


def _objects(records: Records) -> Sequence[list[Record]]:
    return list(group_by(records, lambda record: (record["key"], record["organ"])).values())


def _clicks_to(values: Sequence[Sequence[float]], target: float, limit: int) -> dict[str, Any]:
    never = np.array([max(scores) < target for scores in values])
    counts = np.array([interactions_to(scores, target, limit) for scores in values])
    return {
        "objects": len(values),
        "interactions": float(np.mean(counts + never)),
        "noc": float(np.mean(counts)),
        "limit": limit,
        "never": float(np.mean(never)),
    }


def click_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One row for each run, protocol and organ of `click_rows`."""
    columns = ["model", "prompt", "organ", "objects", "limit"]
    for score, target in CLICK_TARGETS:
        name = f"NoC@{round(100 * target)}" if score == "iou" else f"to {NAMES[score]} {target:.2f}"
        columns += [name, "never"]
    cells = []
    for names, entries in group_by(rows, lambda row: (row["run"], row["protocol"], row["organ"])).items():
        by_target = {(entry["score"], entry["target"]): entry for entry in entries}
        numbers = [f(by_target[target]) for target in CLICK_TARGETS for f in (_mean_clicks, _share)]
        cells.append([*names, str(entries[0]["objects"]), str(entries[0]["limit"]), *numbers])
    return Table(columns, cells, 3)


def _mean_clicks(entry: Mapping[str, Any]) -> str:
    """As RITM counts for IoU; for the Dice, one more than the limit for those that never get there."""
    return f"{entry['noc' if entry['score'] == 'iou' else 'interactions']:.2f}"


def _share(entry: Mapping[str, Any]) -> str:
    return f"{entry['never']:.1%}"


# ---- objects --------------------------------------------------------------------------------------------------------


def object_rows(records: Records) -> list[dict[str, Any]]:
    """What each object took by each protocol.

    `clicks` are the points after the first prompt; `dsc`, `nsd`, `iou`, `seconds` and `prompts` have a value for each
    interaction. `seconds` are what a user waits, the encoder included. `to_dsc_090` is the number of interactions to a
    Dice of 0.90, None where it was never reached.
    """
    rows = []
    groups = group_by(records, lambda record: (record["key"], record["organ"], record["protocol"]))
    for (key, organ, protocol), steps in groups.items():
        points = [len(step["prompt"]["points"]) for step in steps]
        dsc = [step["dsc"] for step in steps]
        reached = max(dsc) >= OBJECT_TARGET
        rows.append(
            {
                "key": key,
                "case": steps[0]["case"],
                "organ": organ,
                "protocol": protocol,
                "clicks": points[-1] - points[0],
                "to_dsc_090": interactions_to(dsc, OBJECT_TARGET, len(dsc)) if reached else None,
                **{name: [step[name] for step in steps] for name in ("dsc", "nsd", "iou")},
                "seconds": [_waited(step) for step in steps],
                "prompts": [step["prompt"] for step in steps],
            }
        )
    return rows


def _waited(step: Record) -> float:
    return step["seconds"] + step.get("encoded", 0) * (step["encode_seconds"] or 0.0)


def object_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One row for each of `object_rows`."""
    columns = ["image", "organ", "prompt", "clicks", "to DSC 0.90", "DSC at the start", "at the end", "NSD"]
    columns += ["seconds", "a click"]
    cells = []
    for row in rows:
        clicks = row["seconds"][1:]
        cells.append(
            [
                *(str(row[name]) for name in ("key", "organ", "protocol", "clicks")),
                "never" if row["to_dsc_090"] is None else str(row["to_dsc_090"]),
                *(f"{value:.3f}" for value in (row["dsc"][0], row["dsc"][-1], row["nsd"][-1])),
                f"{sum(row['seconds']):.2f}",
                f"{np.median(clicks):.2f}" if clicks else "-",
            ]
        )
    return Table(columns, cells, 3)


# ---- the CVPR 2025 challenge ----------------------------------------------------------------------------------------


def challenge_rows(runs: Mapping[str, Records], *, seed: int = 0) -> list[dict[str, Any]]:
    """`CVPR25_SCORES` of each run, protocol and organ with intervals, as `tables.summary_rows` has other scores.

    Protocols are `cvpr25`, and others whose objects were corrected at least five times, of which five count.
    """
    rows = []
    for run, records in runs.items():
        for protocol, chosen in group_by(records, lambda record: record["protocol"]).items():
            if protocol != CVPR25 and max(record["step"] for record in chosen) < CVPR25_CLICKS:
                continue
            objects = [{**steps[0], **challenge_scores(steps)} for steps in _objects(chosen)]
            counts = {organ: len(group) for organ, group in group_by(objects, lambda row: row["organ"]).items()}
            for score in CVPR25_SCORES:
                for entry in summarise(objects, score, seed=seed):
                    count = counts.get(entry.organ, len(objects))
                    rows.append({"run": run, "protocol": protocol, "objects": count, **entry.as_dict()})
    return rows


def challenge_scores(steps: Sequence[Record]) -> dict[str, float]:
    """The challenge's four numbers of one object; the areas are 0 to 4, the start does not count.

    An object that was finished earlier keeps its last scores. NSD is at the tolerance of the run: the challenge's is
    2 mm. It counts as 0 up to a DSC of `CVPR25_LEAST_DSC`.

    Args:
        steps: records of the start and the clicks after it.
    """
    dsc = [step["dsc"] for step in steps]
    nsd = [step["nsd"] if step["dsc"] > CVPR25_LEAST_DSC else 0.0 for step in steps]
    results = {}
    for name, values in (("dsc", dsc), ("nsd", nsd)):
        after_clicks = curve(values, CVPR25_CLICKS + 1)[1:]
        results[f"{name}_auc"] = click_auc(after_clicks)
        results[f"{name}_final"] = float(after_clicks[-1])
    return results


def challenge_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One row for each run, protocol and organ of `challenge_rows`."""
    cells = []
    for names, entries in group_by(rows, lambda row: (row["run"], row["protocol"], row["organ"])).items():
        by_score = {entry["score"]: with_interval(entry) for entry in entries}
        counts = [str(entries[0]["cases"]), str(entries[0]["objects"])]
        cells.append([*names, *counts, *(by_score[score] for score in CVPR25_SCORES)])
    return Table(["model", "prompt", "organ", "patients", "objects", *CVPR25_SCORES.values()], cells, 3)
