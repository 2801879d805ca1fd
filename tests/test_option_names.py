"""One vocabulary of options: every script calls a thing as the command line and the other scripts do."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest
from click import Option

from bundle.commands.evaluate import evaluate
from bundle.commands.prepare import prepare
from bundle.commands.segment import segment
from bundle.commands.train import train

SCRIPTS = sorted((Path(__file__).parents[1] / "scripts").glob("*.py"))
# Words that scripts had for what already has a name.
NAMES = {
    "out": "--output",
    "output_dir": "--output",
    "root": "--data",
    "dataset_dir": "--data",
    "weights": "--checkpoint",
    "base": "--checkpoint",
    "model": "--family",
    "family_name": "--family",
    "gpu": "--device",
    "planes": "--plane",
    "protocols": "--protocol",
    "plot": "--output",
}


def options_of(path: Path) -> list[tuple[list[str], str]]:
    """Of each option that a script's parser knows the ways to write it, and what it takes."""
    found = []
    for call in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "add_argument":
            names = [ast.literal_eval(argument) for argument in call.args]
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            takes = given.get("type", "str") if given.get("action", "'append'") == "'append'" else given["action"]
            if names[0].startswith("-"):
                found.append((names, takes))
    return found


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_options_are_written_as_those_of_the_command_line(path):
    for names, _ in options_of(path):
        assert re.fullmatch(r"--[a-z0-9]+(-[a-z0-9]+)*", names[-1]), names
        assert names[:-1] == (["-o"] if names[-1] == "--output" else []), names
        word = names[-1][2:].replace("-", "_")
        assert word not in NAMES, f"{path.name} says {names[-1]} for {NAMES[word]}"


def test_one_name_takes_one_kind_of_thing_in_all_scripts():
    kinds = defaultdict(lambda: defaultdict(list))
    for path in SCRIPTS:
        for names, takes in options_of(path):
            kinds[names[-1]][takes].append(path.name)
    assert {name: dict(uses) for name, uses in kinds.items() if len(uses) > 1} == {}


def test_what_the_command_line_has_too_is_spelt_alike():
    known = {name for command in (evaluate, prepare, segment, train) for name in long_names(command)}
    spelt = {name.replace("-", ""): name for name in known}
    theirs = {names[-1] for path in SCRIPTS for names, _ in options_of(path)}
    assert {name: spelt[name.replace("-", "")] for name in theirs if name.replace("-", "") in spelt} == {
        name: name for name in theirs & known
    }
    assert {"--output", "--family", "--checkpoint", "--seed", "--device", "--layout", "--protocol"} <= theirs & known


def long_names(command) -> list[str]:
    return [name for option in command.params if isinstance(option, Option) for name in option.opts if name[:2] == "--"]


ROOT = SCRIPTS[0].parents[1]
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "configs").rglob("*.md"),
    ROOT / "Makefile",
    *SCRIPTS,
]


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    return {path.name: {name for names, _ in options_of(path) for name in names} for path in SCRIPTS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_tells_to_type_has_the_options_of_the_script(page, known):
    text = page.read_text("utf-8").replace("\\\n", " ")
    for script, words in re.findall(r"python\)? scripts/(\w+\.py)([^\n`;&|#]*)", text):
        if known[script]:  # some pass all on to the command line
            assert set(re.findall(r"(?<=\s)--[\w-]+", words)) <= known[script] | {"--help"}, (script, words)
