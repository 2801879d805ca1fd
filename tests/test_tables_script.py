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


def test_the_headline_numbers_are_those_of_the_result_file():
    summary = read_json(ROOT / "docs" / "results" / "version7.json")["summary"]
    mean = {(row["protocol"], row["organ"], row["score"]): f"{row['mean']:.3f}" for row in summary}
    of_box = [mean["box_jitter_20", organ, score] for organ in ("liver", "pancreas") for score in ("dsc", "nsd")]
    (line,) = re.findall(r"\| shipped model, box \|(.*)\|", (ROOT / "README.md").read_text("utf-8"))
    assert re.findall(r"[\d.]+", line) == of_box
    card = (ROOT / "docs" / "README.md").read_text("utf-8").replace("\n", " ")
    assert "liver DSC {}, NSD {}; pancreas DSC {}, NSD {};".format(*of_box) in card
