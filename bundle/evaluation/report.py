"""One page that opens offline, and its numbers as CSV and JSON: tables, plots, curves over clicks and pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from bundle.evaluation import figures
from bundle.evaluation.calibration import ALL_PROTOCOLS, calibration_rows
from bundle.evaluation.cases import Cases, scenes_of
from bundle.evaluation.clicks import challenge_rows, challenge_table, click_rows, click_table, interactive
from bundle.evaluation.figures import Overlay, Scene
from bundle.evaluation.records import Records, last_steps, read_mask, write_csv
from bundle.evaluation.statistics import MACRO, Record, group_by
from bundle.evaluation.tables import (
    CASE_FIELDS,
    COMPARISON_FIELDS,
    NAMES,
    SUMMARY_FIELDS,
    Table,
    calibration_table,
    case_rows,
    comparison_rows,
    comparison_table,
    speed_rows,
    summary_rows,
    summary_table,
)
from bundle.files import write_text


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
    """Writes `report.html`, `tables.md`, `summary.csv`, `cases.csv`, `comparison.csv` (of two and more runs),
    `challenge.csv` (of runs with five clicks) and `summary.json`.

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
    clicks, challenge, speed = click_rows(runs), challenge_rows(runs, seed=seed), speed_rows(runs)
    write_csv(folder / "summary.csv", summary, SUMMARY_FIELDS)
    write_csv(folder / "cases.csv", case_rows(last), CASE_FIELDS)
    if comparison:
        write_csv(folder / "comparison.csv", comparison, COMPARISON_FIELDS)
    if challenge:
        write_csv(folder / "challenge.csv", challenge, SUMMARY_FIELDS)
    calibration = calibration_rows(runs)
    content = {"title": title, "description": list(description), "summary": summary, "comparison": comparison}
    content |= {"clicks": clicks, "challenge": challenge, "calibration": calibration, "speed": speed}
    write_text(folder / "summary.json", json.dumps(content, indent=1))
    scores, pairs, trust = summary_table(summary), comparison_table(comparison), calibration_table(calibration)
    counts, four = click_table(clicks), challenge_table(challenge)
    tables = (scores, pairs, counts, four, trust)
    write_text(folder / "tables.md", "\n".join(table.as_markdown() for table in tables if table.rows))
    sections = [
        _summary_section(scores),
        *([_comparison_section(pairs)] if comparison else []),
        *_spread_sections(last),
        *([_click_section(counts, runs)] if clicks else []),
        *([_challenge_section(four)] if challenge else []),
        *([_calibration_section(trust, calibration, runs)] if calibration else []),
        *_overlay_sections(overlays or {}),
        _speed_section(speed),
    ]
    path = folder / "report.html"
    write_text(path, _template().render(title=title, description=description, sections=sections, macro=MACRO))
    return path


def extreme_records(records: Iterable[Record], *, score: str = "dsc") -> dict[str, dict[str, Record]]:
    """The best, the median and the worst object of each organ and protocol: heading -> rank -> its last record.

    Two objects have no median, and one is all three.
    """
    picks: dict[str, dict[str, Record]] = {}
    groups = group_by(last_steps(records), lambda record: (record["protocol"], record["organ"]))
    for (protocol, organ), chosen in groups.items():
        ranked = sorted(chosen, key=lambda record: record[score])
        ranks = {"best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}
        few = {1: ("median",), 2: ("best", "worst")}.get(len(ranked), tuple(ranks))
        picks[f"{organ}, {protocol}"] = {"only one" if len(ranked) == 1 else rank: ranks[rank] for rank in few}
    return picks


def overlays_of(
    picks: Mapping[str, Mapping[str, Record]], folder: Path, scenes: Mapping[str, Scene]
) -> dict[str, list[Overlay]]:
    """The pictures of `extreme_records`: heading -> overlays.

    Args:
        picks: from `extreme_records`.
        folder: of the run, where the masks are.
        scenes: `"key organ"` -> the slice that is shown.
    """
    return {
        heading: [_overlay(rank, r, folder, scenes[f"{r['key']} {r['organ']}"]) for rank, r in chosen.items()]
        for heading, chosen in picks.items()
    }


def extreme_cases(
    records: Iterable[Record], folder: Path, cases: Cases, *, organs: Mapping[int, str], score: str = "dsc"
) -> dict[str, list[Overlay]]:
    """The best, the median and the worst object of each organ and protocol: heading -> overlays.

    Args:
        records: of a run; the last answers are shown.
        folder: of the run, where the masks are.
        cases: of the run; records of others are left out.
        organs: label -> name.
        score: that ranks them.
    """
    picks = extreme_records((record for record in records if record["key"] in cases), score=score)
    shown = [record for chosen in picks.values() for record in chosen.values()]
    return overlays_of(picks, folder, scenes_of(cases, shown, organs=organs))


def _overlay(rank: str, record: Record, folder: Path, scene: Scene) -> Overlay:
    prompt = scene.prompt(record["prompt"])
    title = f"{rank}: DSC {record['dsc']:.3f}, NSD {record['nsd']:.3f}\n{_shortened(record['key'])}"
    if "slice" in record:
        elsewhere = len(record["prompt"]["points"]) - len(prompt.points)
        title += f"\nslice {record['slice']}" + (f", clicks on others: {elsewhere}" if elsewhere else "")
    return Overlay(title, scene.picture, scene.truth, read_mask(folder, record), prompt, scene.aspect)


def _shortened(key: str, length: int = 34) -> str:
    """As much of the end of a key as fits above a picture."""
    return key if len(key) <= length else "…" + key[1 - length :]


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


def _click_section(table: Table, runs: Mapping[str, Records]) -> Section:
    curves = {
        f"{run}, {protocol}" if len(runs) > 1 else protocol: records
        for run, all_records in runs.items()
        for protocol, records in interactive(all_records).items()
    }
    pictures = [
        Picture(figures.click_curves(curves, score, NAMES[score]), f"{NAMES[score]} over corrections")
        for score in ("dsc", "nsd")
    ]
    return Section(
        "Corrections",
        "Interactions to a target, the first prompt included, at most as many as the limit, and the share of objects "
        "that never get there. NoC@85 and NoC@90 are RITM's number of clicks to an IoU of 0.85 and 0.90, where such an "
        "object counts with the limit; to the DSC it counts with one more. Means over objects. The curves are macro "
        "means over patients.",
        table.columns,
        table.rows,
        names=table.names,
        pictures=pictures,
    )


def _challenge_section(table: Table) -> Section:
    return Section(
        "Five clicks",
        "The four numbers of the CVPR 2025 interactive challenge: area under the score after each of the first five "
        "clicks by trapezoids (0 to 4; the start does not count), and the score after the fifth. NSD counts as 0 up to "
        "a DSC of 0.2, and is at this run's tolerance (the challenge's is 2 mm). They are the challenge's own for the "
        "prompt cvpr25; of others their first five corrections are taken.",
        table.columns,
        table.rows,
        names=table.names,
    )


def _calibration_section(table: Table, rows: Sequence[Mapping[str, Any]], runs: Mapping[str, Records]) -> Section:
    several = {row["run"] for row in rows if row["protocol"] == ALL_PROTOCOLS}
    whole = [row for row in rows if row["protocol"] == ALL_PROTOCOLS or row["run"] not in several]
    note = (
        "The IoU that the model expects of its answer against what it reaches, over every answer, also those before "
        "the last correction. MAE: mean distance of the two. ECE: expected calibration error over 10 bins. Rank "
        "correlation (Spearman): whether worse answers are also expected to be worse. Bins on the line are right."
    )
    picture = Picture(figures.reliability(whole, runs), "predicted IoU against IoU")
    return Section("Predicted IoU", note, table.columns, table.rows, names=table.names, pictures=[picture])


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
    note = (
        "Medians, on the machine that ran the evaluation. Of volumes, the encoder's time is that of one slice and a "
        "prompt's that of the whole object without the encoder. A network without prompts has the time of an image."
    )
    return Section("Speed", note, columns, rows)


def _rate(seconds: float | None) -> tuple[str, str]:
    return ("-", "-") if seconds is None else (f"{1000 * seconds:.1f}", f"{1 / seconds:.1f}")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.from_string((Path(__file__).parent / "report.html").read_text(encoding="utf-8"))
