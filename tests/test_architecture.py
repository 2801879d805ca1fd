"""The house keeps its rules: arrows point one way."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Which rooms of `bundle` a room may import from, beside itself; errors.py, files.py and claims.py are open to all.
BELOW = {
    "transforms": set(),
    "prompts": {"transforms"},
    "data": {"prompts", "transforms"},
    "networks": {"prompts", "transforms"},
    "families": {"networks", "prompts", "transforms"},
    "engines": {"families", "networks", "prompts", "transforms"},
    "interactive": {"engines", "families", "networks", "data", "prompts", "transforms"},
    "batch": {"interactive", "engines", "families", "networks", "data", "prompts", "transforms"},
    "active": {"interactive", "engines", "families", "networks", "data", "prompts", "transforms"},
    "training": {"interactive", "engines", "families", "networks", "data", "prompts", "transforms"},
    "evaluation": {"interactive", "engines", "families", "networks", "data", "prompts", "transforms"},
}
BELOW["commands"] = set(BELOW)  # the command line lies above everything, and nothing imports it
# The same of the app.
APP_BELOW = {
    "wire": set(),
    "datastore": {"wire"},
    "strategies": {"wire", "datastore"},
    "tasks": {"wire", "strategies"},
    "learning": {"wire", "datastore"},
    "server": {"wire", "tasks", "datastore", "strategies", "learning"},
}
FILES = sorted(path for path in (ROOT / "bundle").rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, at the top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_room_of_the_bundle_imports_only_what_lies_below_it(path):
    names = imported(path)
    assert not any(name.split(".")[0] in ("monailabel_app", "monailabel", "scripts", "tests") for name in names)
    room = path.relative_to(ROOT / "bundle").parts[0]
    if room in BELOW:
        rooms = {name.split(".")[1] for name in names if name.startswith("bundle.") and name.split(".")[1] in BELOW}
        assert rooms <= {room} | BELOW[room]


@pytest.mark.parametrize("room", APP_BELOW)
def test_a_room_of_the_app_imports_only_what_lies_below_it(room):
    for path in (ROOT / "monailabel_app" / room).glob("*.py"):
        names = {name.split(".")[1] for name in imported(path) if name.startswith("monailabel_app.")}
        assert names & set(APP_BELOW) <= {room} | APP_BELOW[room], path.name


def test_no_weights_are_opened_without_weights_only():
    files = [*FILES, *(ROOT / "monailabel_app").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert keywords.get("weights_only") == "True", f"{path.name}:{node.lineno}"


def imported_at_the_top(path: Path) -> set[str]:
    """Packages that a module imports when it is imported."""
    body = ast.parse(path.read_text("utf-8")).body
    names = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in body if isinstance(node, ast.ImportFrom) and node.module}
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("name", ["segment", "evaluate", "train", "prepare", "download", "export", "families", "main"])
def test_a_command_imports_nothing_heavy_and_is_thin(name):
    path = ROOT / "bundle" / "commands" / f"{name}.py"
    assert not imported_at_the_top(path) & {"torch", "numpy", "monai", "ignite"}
    assert len(path.read_text("utf-8").splitlines()) < 150
