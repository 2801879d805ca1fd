"""What people install: lists that agree with each other, and an image that runs as nobody in particular."""

from __future__ import annotations

import ast
import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bundle.commands.main import cli

CUDA = re.compile(r"^(nvidia-|cuda-)")
# What the standard library got after Python 3.10, the oldest one that the project promises, by module.
NEWER = {
    "typing": {"LiteralString", "Never", "NotRequired", "Required", "Self", "Unpack", "assert_never", "override"},
    "enum": {"StrEnum", "ReprEnum"},
    "datetime": {"UTC"},
    "contextlib": {"chdir"},
    "hashlib": {"file_digest"},
    "itertools": {"batched"},
    "tomllib": {"load", "loads"},
}


def pins(path):
    lines = [line for line in path.read_text("utf-8").splitlines() if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


@pytest.fixture(scope="module")
def full(repository):
    return pins(repository / "requirements.txt")


@pytest.mark.parametrize("room", ["bundle", "monailabel_app", "scripts"])
def test_no_name_is_newer_than_the_oldest_python(repository, room):
    for path in sorted((repository / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in NEWER:
                assert not {alias.name for alias in node.names} & NEWER[node.module], path
            elif isinstance(node, ast.Import):
                assert "tomllib" not in {alias.name for alias in node.names}, path


def test_the_list_for_a_cpu_is_the_whole_list_without_cuda(full, repository):
    without = {name: version for name, version in full.items() if not CUDA.match(name)}
    found = {name: version.removesuffix("+cpu") for name, version in pins(repository / "requirements-cpu.txt").items()}
    assert found == without and len(found) < len(full)


@pytest.mark.parametrize("name", ["gpu", "openvino", "dcmqi"])
def test_what_only_some_need_is_not_in_the_other_lists(full, repository, name):
    some = pins(repository / f"requirements-{name}.txt")
    assert some and not set(some) & set(full)


def test_everything_that_the_project_asks_for_is_pinned(full, repository):
    text = (repository / "pyproject.toml").read_text("utf-8")
    parts = {name: re.search(rf"^{name} = \[(.*?)^\]", text, re.M | re.S)[1] for name in ("dependencies", "app")}
    for part, lines in parts.items():
        for line in re.findall(r'^ *"([^"]+)"', lines, re.M):
            wanted = Requirement(line)
            assert wanted.specifier.contains(full[canonicalize_name(wanted.name)]), (part, line)


def test_the_core_does_not_ask_for_the_app(repository):
    text = (repository / "pyproject.toml").read_text("utf-8")
    core = re.search(r"^dependencies = \[(.*?)^\]", text, re.M | re.S)[1]
    assert "monailabel" not in core and "numpy<2" not in core
    assert 'requires-python = ">=3.10,<3.14"' in text


def test_the_image_copies_what_exists_and_runs_without_rights(repository):
    lines = (repository / "Dockerfile").read_text("utf-8").splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert copied and all(list(repository.glob(word)) for word in copied)
    assert "USER 1000" in lines and not any("sudo" in line for line in lines)
    kept = {line[1:] for line in (repository / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert {*copied} <= {*kept} | {"bundle", "configs", "monailabel_app"}


def test_the_image_has_all_that_the_wheel_is_made_of(repository):
    lines = (repository / "Dockerfile").read_text("utf-8").splitlines()
    copied = {word.partition("/")[0] for line in lines if line.startswith("COPY") for word in line.split()[1:-1]}
    listed = re.search(r"^FILES = (\(.*\))$", (repository / "setup.py").read_text("utf-8"), re.M)[1]
    packages = re.search(r"^include = (\[.*\])$", (repository / "pyproject.toml").read_text("utf-8"), re.M)[1]
    parts = [*ast.literal_eval(listed), *ast.literal_eval(packages), "pyproject.toml", "setup.py", "README.md"]
    assert {part.partition("/")[0].rstrip("*") for part in parts} <= copied


def test_the_image_names_only_lists_commands_options_and_variables_that_there_are(repository):
    text = (repository / "Dockerfile").read_text("utf-8")
    assert all((repository / name).is_file() for name in re.findall(r"requirements[\w-]*\.txt", text))
    typed = dict(re.findall(r"monai-sam (segment|serve) (/data.*)", text))
    for name, words in typed.items():
        options = {option for parameter in cli.get_command(None, name).params for option in parameter.opts}
        assert {word for word in words.split() if word.startswith("-")} <= options, name
    rooms = [path for room in ("bundle", "monailabel_app") for path in (repository / room).rglob("*.py")]
    code = "".join(path.read_text("utf-8") for path in rooms)
    assert len(typed) == 2 and all(name in code for name in re.findall(r"(MONAI_\w+)=", text))


def test_the_citation_is_of_this_version(repository):
    import bundle

    assert f"version: {bundle.__version__}\n" in (repository / "CITATION.cff").read_text("utf-8")
