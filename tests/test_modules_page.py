"""docs/modules.md names modules that exist, and names that are defined in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROWS = re.findall(
    r"^\| (`(?:bundle|monailabel_app)/[^|]*) \| [^|]* \|(.*)\|$",
    (ROOT / "docs" / "modules.md").read_text("utf-8"),
    re.M,
)


def modules_of(cell: str) -> list[Path]:
    """The files that a first column means; a name without a folder lies beside the one before, or in its package."""
    found: list[Path] = []
    folder = ROOT
    for name in re.findall(r"`([^`]+)`", cell):
        places = (
            [folder / name]
            if "/" not in name
            else [ROOT / name, ROOT / "bundle" / name, ROOT / "monailabel_app" / name]
        )
        path = next((place for place in places if place.exists()), None)
        assert path is not None, f"there is no {name} of the row {cell}"
        folder = path if path.is_dir() else path.parent
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return found


@pytest.mark.parametrize("cell, names", ROWS, ids=[cell.split("`")[1] for cell, _ in ROWS])
def test_what_a_row_names_is_defined_in_its_modules(cell, names):
    code = "\n".join(path.read_text("utf-8") for path in modules_of(cell))
    for name in re.findall(r"`([^`]+)`", names):
        last = re.split(r"\W", name.split("(")[0])[-1]
        assert re.search(rf"^\s*(?:def|class) {last}\b|^\s*{last}\b[^=\n]*=", code, re.M), name


def test_every_room_has_its_lines():
    named = {"/".join(cell.split("`")[1].split("/")[:2]) for cell, _ in ROWS}
    rooms = {path.parent for package in ("bundle", "monailabel_app") for path in (ROOT / package).glob("*/*.py")}
    assert {room.relative_to(ROOT).as_posix() for room in rooms} <= named
