"""The tables of the documents are those of the committed result files, and none is empty."""

from __future__ import annotations

import re
import runpy
import subprocess
from pathlib import Path

import pytest

from bundle.families.family import load_family
from bundle.families.summary import summarise
from bundle.files import read_json

ROOT = Path(__file__).resolve().parent.parent
TABLES = runpy.run_path(str(ROOT / "scripts" / "tables.py"))


def documents() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return [ROOT / name for name in listed.split()] or [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


def empty_tables(text: str) -> list[str]:
    """Headers of tables without a row."""
    lines = [*text.splitlines(), ""]
    rules = [n for n, line in enumerate(lines) if re.fullmatch(r"\|(\s*:?-+:?\s*\|)+", line.strip())]
    return [lines[n - 1] for n in rules if not lines[n + 1].strip().startswith("|")]


@pytest.mark.parametrize("page", documents(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_table_is_empty(page):
    assert empty_tables(page.read_text("utf-8")) == []


def test_an_empty_table_is_seen():
    assert empty_tables("| a | b |\n|---|---:|\n\ntext") == ["| a | b |"]
    assert empty_tables("| a |\n|:-:|\n| 1 |\n") == []


@pytest.mark.parametrize("page", TABLES["pages"](), ids=lambda page: page.name)
def test_tables_are_those_of_their_result_files(page):
    assert TABLES["filled"](page) == page.read_text("utf-8"), "run python scripts/tables.py"


def test_a_table_is_written_between_its_marks(tmp_path):
    row = {"run": "a", "protocol": "box", "organ": "liver", "cases": 3, "objects": 5}
    result = [{**row, "score": "dsc", "mean": 0.9, "low": 0.8, "high": 0.95}, {**row, "score": "hd95", "mean": 2.0}]
    (tmp_path / "r.json").write_text('{"summary": ' + str(result).replace("'", '"') + "}")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- scores of r.json -->\nold\n<!-- end -->\nafter\n")
    assert TABLES["filled"](page).splitlines() == [
        "before",
        "<!-- scores of r.json -->",
        "| prompt | organ | patients | objects |                  DSC |",
        "| ------ | ----- | -------: | ------: | -------------------: |",
        "| box    | liver |        3 |       5 | 0.900 [0.800, 0.950] |",
        "<!-- end -->",
        "after",
    ]


def test_the_arithmetic_of_the_shipped_model_is_what_the_documents_say():
    gmacs = f"{summarise(load_family('default')).gmacs:.1f} GMACs"
    for page in ("docs/families.md", "docs/model_card.md"):
        (said,) = re.findall(r"[\d.]+ GMACs an answer", (ROOT / page).read_text("utf-8"))
        assert said == f"{gmacs} an answer", page


# How the documents call a protocol.
ROWS = {
    "README.md": {
        "box": "box_jitter_20",
        "one point": "points_1",
        "box and up to 8 corrections (version 7)": "clicks_from_box",
    },
    "docs/model_card.md": {
        "box, sides 0..5 px of 256 outward": "box_jitter_20",
        "tight box": "box",
        "every side 5 px outward": "box_shift_20",
        "every side 20 px outward": "box_shift_80",
        "one point": "points_1",
        "one point, up to 8 corrections": "clicks_from_point",
        "box, up to 8 corrections": "clicks_from_box",
        "this model": "box_jitter_20",
    },
}


@pytest.fixture(scope="module")
def of_protocol():
    """Protocol -> liver DSC, liver NSD, pancreas DSC, pancreas NSD as documents write them.

    Of version 9, and of version 7 where 9 was not asked.
    """
    runs = [read_json(ROOT / "docs" / "results" / f"version{number}.json") for number in (7, 9)]
    summary = [row for run in runs for row in run["summary"]]
    mean = {(row["protocol"], row["organ"], row["score"]): f"{row['mean']:.3f}" for row in summary}
    where = [(organ, score) for organ in ("liver", "pancreas") for score in ("dsc", "nsd")]
    return {protocol: [mean[(protocol, *place)] for place in where] for protocol, _, _ in mean}


@pytest.mark.parametrize(("page", "row"), [(page, row) for page, rows in ROWS.items() for row in rows])
def test_numbers_of_other_documents_are_those_of_the_result_file(page, row, of_protocol):
    (cells,) = re.findall(rf"^\| {re.escape(row)} \|(.*)\|$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    assert re.findall(r"[\d.]+", cells) == of_protocol[ROWS[page][row]]


def test_numbers_of_the_bundles_page_and_metadata_are_those_of_the_result_file(of_protocol):
    box = of_protocol["box_jitter_20"]
    card = (ROOT / "docs" / "README.md").read_text("utf-8").replace("\n", " ")
    assert "liver DSC {}, NSD {}; pancreas DSC {}, NSD {};".format(*box) in card
    results = read_json(ROOT / "configs" / "metadata.json")["eval_metrics"]
    names = [f"{organ}_box_{score}" for organ in ("liver", "pancreas") for score in ("dice", "nsd")]
    assert [f"{results[name]:.3f}" for name in names] == box


def test_clicks_and_the_challenges_numbers_of_a_result_are_tables_as_well():
    row = {"run": "a", "protocol": "cvpr25", "organ": "liver", "cases": 1, "objects": 5, "low": 0, "high": 0}
    four = [{**row, "score": name, "mean": 0.5} for name in ("dsc_auc", "nsd_auc", "dsc_final", "nsd_final")]
    counts = [
        {**row, "score": score, "target": target, "interactions": 3.0, "noc": 2.5, "limit": 6, "never": 0.5}
        for score, target in (("dsc", 0.9), ("iou", 0.85), ("iou", 0.9))
    ]
    result = {"clicks": counts, "challenge": four}
    assert TABLES["TABLES"]["challenge"](result).rows == [["cvpr25", "liver", "1", "5", *["0.500"] * 4]]
    clicks = TABLES["TABLES"]["clicks"](result)
    assert clicks.columns[-4:] == ["NoC@85", "never", "NoC@90", "never"]
    assert clicks.rows == [["cvpr25", "liver", "5", "6", "3.00", "50.0%", "2.50", "50.0%", "2.50", "50.0%"]]


def test_an_environment_is_its_largest_packages_the_others_what_is_of_no_package_and_all():
    gib, sizes = 2**30, {"nvidia-a": 2, "nvidia-b": 1, "torch": 1, "small": 0.25, "smaller": 0.25}
    packages = {name: {"version": "1", "bytes": size * gib} for name, size in sizes.items()}
    table = TABLES["environment"]({"bytes": 5 * gib, "packages": packages}, shown=2)
    assert table.rows == [
        ["CUDA (2 packages of NVIDIA)", "3.00"],
        ["torch", "1.00"],
        ["2 others", "0.50"],
        ["of no package", "0.50"],
        ["all", "5.00"],
    ]
