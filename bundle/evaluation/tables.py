"""The tables of a report: scores, before and after, and speed, as plain rows and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bundle.evaluation.records import Records
from bundle.evaluation.statistics import (
    MACRO,
    StatisticsError,
    case_means,
    compare,
    group_by,
    summarise,
)

NAMES = {"dsc": "DSC", "nsd": "NSD", "iou": "IoU", "hd95": "HD95"}
SUMMARY_FIELDS = ("run", "protocol", "organ", "score", "cases", "objects", "mean", "low", "high")
CASE_FIELDS = ("run", "protocol", "organ", "case", *NAMES)
COMPARISON_FIELDS = (
    "protocol",
    "organ",
    "score",
    "cases",
    "before",
    "after",
    "difference",
    "low",
    "high",
    "p_value",
)


def summary_rows(last: Mapping[str, Records], *, seed: int = 0) -> list[dict[str, Any]]:
    """`SUMMARY_FIELDS` of each run, protocol, organ and score, over the last answers."""
    rows = []
    for run, records in last.items():
        for protocol, chosen in group_by(records, lambda record: record["protocol"]).items():
            for score in NAMES:
                if all(record[score] is None for record in chosen):
                    continue
                for entry in summarise(chosen, score, seed=seed):
                    objects = sum(entry.organ in (record["organ"], MACRO) for record in chosen)
                    rows.append({"run": run, "protocol": protocol, "objects": objects, **entry.as_dict()})
    return rows


def case_rows(last: Mapping[str, Records]) -> list[dict[str, Any]]:
    """`CASE_FIELDS` of each run, protocol, organ and patient: the mean over the last answers of the patient's images.

    A score that no answer of the patient has (HD95 where all are empty) is None.
    """
    rows = []
    for run, records in last.items():
        for protocol, chosen in group_by(records, lambda record: record["protocol"]).items():
            means = {score: case_means(chosen, score) for score in NAMES}
            for organ, case in sorted({(record["organ"], record["case"]) for record in chosen}):
                scores = {score: means[score].get(organ, {}).get(case) for score in NAMES}
                rows.append({"run": run, "protocol": protocol, "organ": organ, "case": case, **scores})
    return rows


def comparison_rows(last: Mapping[str, Records], *, seed: int = 0) -> list[dict[str, Any]]:
    """`COMPARISON_FIELDS` and the names of both runs, for every run after the first and every protocol they share.

    Raises:
        StatisticsError: two runs that share a protocol saw different objects.
    """
    (first, before), *others = last.items()
    rows = []
    for name, after in others:
        groups = [group_by(records, lambda record: record["protocol"]) for records in (before, after)]
        for protocol in (p for p in groups[0] if p in groups[1]):
            one, other = (_with_unclaimed(groups[n][protocol], groups[1 - n][protocol]) for n in (0, 1))
            _check_same_objects(first, one, name, other)
            for score in ("dsc", "nsd"):
                found = compare(one, other, score, seed=seed)
                rows += [{"first": first, "second": name, "protocol": protocol, **row.as_dict()} for row in found]
    return rows


def _with_unclaimed(records: Records, others: Records) -> Records:
    """Records with those of organs that only the other model invented: truth and answer are empty there, which is 1.

    Only networks without prompts have such organs.
    """
    known = {(record["key"], record["organ"]) for record in records}
    invented = (r for r in others if r.get("voxels_truth") == 0 and (r["key"], r["organ"]) not in known)
    return records + [{**record, "dsc": 1.0, "nsd": 1.0, "voxels_prediction": 0} for record in invented]


def _check_same_objects(first: str, before: Records, second: str, after: Records) -> None:
    one, other = ({(record["key"], record["organ"]) for record in records} for records in (before, after))
    if one != other:
        key, organ = min(one ^ other)
        raise StatisticsError(
            f"expected the same objects in {first} and {second}, but only one of them has {organ} of {key}; "
            "evaluate both on the same slices"
        )


def speed_rows(runs: Mapping[str, Records]) -> list[dict[str, Any]]:
    """Median seconds of the encoder (once for each image that it ran on) and of one prompt, for each run.

    In volumes the encoder's seconds are those of a slice. A network without prompts has only a prompt's: the image's.
    """
    rows = []
    for run, records in runs.items():
        encoded: dict[str, float] = {}
        for record in (r for r in records if r["encode_seconds"] is not None):
            encoded.setdefault(record["key"], record["encode_seconds"])
        rows.append(
            {
                "run": run,
                "images": len({record["key"] for record in records}),
                "prompts": len(records),
                "encode_seconds": float(np.median(list(encoded.values()))) if encoded else None,
                "prompt_seconds": float(np.median([record["seconds"] for record in records])),
            }
        )
    return rows


# ---- for people -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Cells as text; the first `names` columns are words, the others numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int

    def as_markdown(self) -> str:
        """Lines of equal columns, for a terminal and for a document."""
        rows = [list(self.columns), *map(list, self.rows)]
        widths = [max(3, *(len(row[n]) for row in rows)) for n in range(len(self.columns))]
        rule = ["-" * width if n < self.names else "-" * (width - 1) + ":" for n, width in enumerate(widths)]
        lines = [rows[0], rule, *rows[1:]]
        aligned = (
            [
                cell.ljust(w) if n < self.names else cell.rjust(w)
                for n, (cell, w) in enumerate(zip(line, widths, strict=True))
            ]
            for line in lines
        )
        return "\n".join(f"| {' | '.join(line)} |" for line in aligned) + "\n"


def summary_table(summary: Sequence[Mapping[str, Any]]) -> Table:
    """One row for each run, protocol and organ of `summary_rows`, with all scores."""
    scores = [score for score in NAMES if any(row["score"] == score for row in summary)]
    rows = []
    for names, entries in group_by(summary, lambda row: (row["run"], row["protocol"], row["organ"])).items():
        by_score = {entry["score"]: entry for entry in entries}
        cells = [
            with_interval(by_score[score], 1 if score == "hd95" else 3) if score in by_score else "-"
            for score in scores
        ]
        rows.append([*names, str(entries[0]["cases"]), str(entries[0]["objects"]), *cells])
    return Table(["model", "prompt", "organ", "patients", "objects", *(NAMES[score] for score in scores)], rows, 3)


def comparison_table(comparison: Sequence[Mapping[str, Any]]) -> Table:
    """One row for each pair of runs, protocol and organ of `comparison_rows`: DSC and NSD before and after."""
    columns = ["models", "prompt", "organ", "patients"]
    for score in ("DSC", "NSD"):
        columns += [f"{score} before", f"{score} after", "difference", "p"]
    rows = []
    of_organ = group_by(comparison, lambda row: (f"{row['first']} → {row['second']}", row["protocol"], row["organ"]))
    for names, entries in of_organ.items():
        cells = [cell for entry in entries for cell in _before_and_after(entry)]
        rows.append([*names, str(entries[0]["cases"]), *cells])
    return Table(columns, rows, 3)


def calibration_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One row for each of `calibration.calibration_rows`."""
    columns = ["model", "prompt", "answers", "predicted IoU", "IoU", "MAE", "ECE", "rank correlation"]
    cells = [
        [
            row["run"],
            row["protocol"],
            str(row["answers"]),
            *(f"{row[name]:.3f}" for name in ("predicted", "reached", "mae", "ece")),
            "-" if row["rank_correlation"] is None else f"{row['rank_correlation']:.3f}",
        ]
        for row in rows
    ]
    return Table(columns, cells, 2)


def _before_and_after(entry: Mapping[str, Any]) -> list[str]:
    difference, p_value = f"{entry['difference']:+.4f}", "-"
    if entry["cases"] > 1:  # one patient has no spread
        difference += f" [{entry['low']:+.4f}, {entry['high']:+.4f}]"
        p_value = f"{entry['p_value']:.2g}"
    return [f"{entry['before']:.4f}", f"{entry['after']:.4f}", difference, p_value]


def with_interval(entry: Mapping[str, Any], digits: int = 3) -> str:
    """Mean and interval of a row of `statistics.Summary`."""
    if entry["cases"] < 2:  # nothing to draw from
        return f"{entry['mean']:.{digits}f}"
    return f"{entry['mean']:.{digits}f} [{entry['low']:.{digits}f}, {entry['high']:.{digits}f}]"
