"""One page that opens offline, and its numbers as CSV and JSON: tables, plots, curves over clicks and pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from bundle.evaluation import figures
from bundle.evaluation.figures import Overlay
from bundle.evaluation.protocols import prompt_from_json
from bundle.evaluation.records import Records, last_steps, read_mask, write_csv
from bundle.evaluation.statistics import MACRO, Record, group_by
from bundle.evaluation.tables import (
    COMPARISON_FIELDS,
    NAMES,
    SUMMARY_FIELDS,
    Table,
    click_rows,
    comparison_rows,
    comparison_table,
    interactive,
    speed_rows,
    summary_rows,
    summary_table,
)


@dataclass(frozen=True)
class Picture:
    """A picture of the page: a `data:` address and what it shows."""

    source: str
    alt: str


@dataclass(frozen=True)
class Section:
    """A part of the page: a table whose first `names` columns are words, then pictures."""

    title: str
    note: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    names: int = 1
    pictures: Sequence[Picture] = ()


def write_report(
    folder: Path,
    runs: Mapping[str, Records],
    *,
    title: str,
    description: Sequence[str] = (),
    overlays: Mapping[str, Sequence[Overlay]] | None = None,
    seed: int = 0,
) -> Path:
    """Writes `report.html`, `tables.md`, `summary.csv`, `comparison.csv` (of two and more runs) and `summary.json`.

    Args:
        folder: where to; made where it is missing.
        runs: records by the name of the model; every further one is compared with the first, patient by patient.
        title: of the page.
        description: lines below the title: data, settings, weights, command.
        overlays: pictures by heading, from `extreme_cases`.
        seed: of the bootstrap.

    Returns:
        The path of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    last = {name: last_steps(records) for name, records in runs.items()}
    summary, comparison = summary_rows(last, seed=seed), comparison_rows(last, seed=seed)
    clicks, speed = click_rows(runs), speed_rows(runs)
    write_csv(folder / "summary.csv", summary, SUMMARY_FIELDS)
    if comparison:
        write_csv(folder / "comparison.csv", comparison, COMPARISON_FIELDS)
    content = {"title": title, "description": list(description), "summary": summary, "comparison": comparison}
    _write(folder / "summary.json", json.dumps({**content, "clicks": clicks, "speed": speed}, indent=1))
    scores, pairs = summary_table(summary), comparison_table(comparison)
    _write(folder / "tables.md", "\n".join(table.as_markdown() for table in (scores, pairs) if table.rows))
    sections = [
        _summary_section(scores),
        *([_comparison_section(pairs)] if comparison else []),
        *_spread_sections(last),
        *_click_sections(runs, clicks),
        *_calibration_sections(last),
        *_overlay_sections(overlays or {}),
        _speed_section(speed),
    ]
    path = folder / "report.html"
    _write(path, _template().render(title=title, description=description, sections=sections, macro=MACRO))
    return path


def extreme_cases(
    records: Iterable[Record],
    folder: Path,
    pictures: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    score: str = "dsc",
) -> dict[str, list[Overlay]]:
    """The best, the median and the worst object of each organ and protocol: heading -> pictures.

    Args:
        records: of a run; the last answers are shown.
        folder: of the run, where the masks are.
        pictures: `"key organ"` -> the slice as uint8 and the object's mask; records of other objects are left out.
        score: that ranks them.
    """
    shown: dict[str, list[Overlay]] = {}
    known = [record for record in last_steps(records) if f"{record['key']} {record['organ']}" in pictures]
    groups = group_by(known, lambda record: (record["protocol"], record["organ"]))
    for (protocol, organ), chosen in groups.items():
        ranked = sorted(chosen, key=lambda record: record[score])
        picks = {"best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}
        shown[f"{organ}, {protocol}"] = [
            _overlay(rank, record, folder, *pictures[f"{record['key']} {organ}"]) for rank, record in picks.items()
        ]
    return shown


def _overlay(rank: str, record: Record, folder: Path, picture: np.ndarray, truth: np.ndarray) -> Overlay:
    title = f"{rank}: DSC {record['dsc']:.3f}, NSD {record['nsd']:.3f}\n{record['key']}"
    return Overlay(title, picture, truth, read_mask(folder, record), prompt_from_json(record["prompt"]))


# ---- the page -------------------------------------------------------------------------------------------------------


def _summary_section(table: Table) -> Section:
    return Section(
        "Scores",
        "The last answer to each object. Mean over patients (slices of one patient are averaged first) with its 95 % "
        "bootstrap interval. HD95 leaves out empty answers.",
        table.columns,
        table.rows,
        names=table.names,
    )


def _comparison_section(table: Table) -> Section:
    return Section(
        "Before and after",
        "Paired by patient: difference with its 95 % bootstrap interval, and p of the two-sided Wilcoxon signed-rank "
        "test, not corrected for the number of rows.",
        table.columns,
        table.rows,
        names=table.names,
    )


def _spread_sections(last: Mapping[str, Records]) -> list[Section]:
    sections = []
    for protocol in dict.fromkeys(record["protocol"] for records in last.values() for record in records):
        chosen = {name: [r for r in records if r["protocol"] == protocol] for name, records in last.items()}
        chosen = {name: records for name, records in chosen.items() if records}
        pictures = [
            Picture(figures.box_plots(chosen, score, NAMES[score]), f"{NAMES[score]} of each organ with {protocol}")
            for score in ("dsc", "nsd")
        ]
        sections.append(Section(f"Patients, {protocol}", "Each dot is a patient.", pictures=pictures))
    return sections


def _click_sections(runs: Mapping[str, Records], clicks: Sequence[Mapping[str, Any]]) -> list[Section]:
    if not clicks:
        return []
    curves = {
        f"{run}, {protocol}" if len(runs) > 1 else protocol: records
        for run, all_records in runs.items()
        for protocol, records in interactive(all_records).items()
    }
    pictures = [
        Picture(figures.click_curves(curves, score, NAMES[score]), f"{NAMES[score]} over corrections")
        for score in ("dsc", "nsd")
    ]
    rows = [
        [
            row["run"],
            row["protocol"],
            row["organ"],
            f"{NAMES[row['score']]} {row['target']:.2f}",
            str(row["objects"]),
            f"{row['interactions']:.2f}",
            f"{row['never']:.1%}",
        ]
        for row in clicks
    ]
    return [
        Section(
            "Corrections",
            "Interactions to a target, the first prompt included; an object that never gets there counts with one more "
            "than were made. The curves are macro means over patients.",
            ["model", "prompt", "organ", "target", "objects", "interactions", "never"],
            rows,
            names=4,
            pictures=pictures,
        )
    ]


def _calibration_sections(last: Mapping[str, Records]) -> list[Section]:
    picture = figures.calibration(last)
    if picture is None:
        return []
    note = "What the model expects of its answer against what it reaches; the number is the mean distance of the two."
    return [Section("Predicted IoU", note, pictures=[Picture(picture, "predicted IoU against IoU")])]


def _overlay_sections(overlays: Mapping[str, Sequence[Overlay]]) -> list[Section]:
    return [
        Section(heading, pictures=[Picture(figures.overlays(cases), f"best, median and worst: {heading}")])
        for heading, cases in overlays.items()
    ]


def _speed_section(speed: Sequence[Mapping[str, Any]]) -> Section:
    rows = [
        [
            row["run"],
            str(row["images"]),
            str(row["prompts"]),
            *_rate(row["encode_seconds"]),
            *_rate(row["prompt_seconds"]),
        ]
        for row in speed
    ]
    columns = ["model", "images", "prompts", "encoder, ms", "encoder, FPS", "prompt, ms", "prompt, FPS"]
    return Section("Speed", "Medians, on the machine that ran the evaluation.", columns, rows)


def _rate(seconds: float | None) -> tuple[str, str]:
    return ("-", "-") if seconds is None else (f"{1000 * seconds:.1f}", f"{1 / seconds:.1f}")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.from_string((Path(__file__).parent / "report.html").read_text(encoding="utf-8"))


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
