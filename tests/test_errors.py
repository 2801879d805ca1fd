"""What a person sees when a config fails."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

import pytest

import bundle.errors
from bundle.batch.cases import CaseError
from bundle.errors import MonaiSamError, explain_errors


def shown(error, cause, capsys, monkeypatch, **options):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    explain_errors(**options)
    with pytest.raises(type(error)) as caught:
        raise error from cause
    sys.excepthook(caught.type, caught.value, caught.tb)
    return capsys.readouterr().err


def test_our_own_error_is_one_sentence_however_deep_it_is_wrapped(capsys, monkeypatch):
    text = shown(RuntimeError("failed to instantiate"), CaseError("there is no image; give one"), capsys, monkeypatch)
    assert text == "error: there is no image; give one\n"


def test_any_other_error_keeps_its_traceback(capsys, monkeypatch):
    text = shown(RuntimeError("failed to instantiate"), ValueError("from a library"), capsys, monkeypatch)
    assert "Traceback" in text and "from a library" in text


def test_an_error_of_the_system_about_a_file_is_one_sentence(capsys, monkeypatch):
    error = PermissionError(13, "Permission denied", "/data/out")
    text = shown(RuntimeError("failed to instantiate"), error, capsys, monkeypatch)
    assert text == "error: Permission denied: /data/out\n"


def test_an_error_of_the_system_without_a_file_keeps_its_traceback(capsys, monkeypatch):
    assert "Traceback" in shown(RuntimeError("failed"), OSError("broken pipe"), capsys, monkeypatch)


def test_ctrl_c_says_how_to_go_on(capsys, monkeypatch):
    assert shown(KeyboardInterrupt(), None, capsys, monkeypatch) == "stopped; run the same command again\n"
    text = shown(KeyboardInterrupt(), None, capsys, monkeypatch, resume="add --resume True")
    assert text == "stopped; add --resume True\n"


def test_every_error_of_ours_stands_in_the_tree_that_is_drawn():
    drawn = bundle.errors.__doc__.split()
    for name, kind in inspect.getmembers(bundle.errors, inspect.isclass):
        if issubclass(kind, Exception):
            assert issubclass(kind, MonaiSamError) and (name in drawn or f"{name}(ValueError)" in drawn), name


# Where a plain ValueError may be raised: tensors and lists of a wrong shape are a mistake of the code that calls.
PROGRAMMING = {
    "bundle/networks/interface.py": 2,
    "bundle/networks/prompted_unet_3d.py": 1,
    "bundle/prompts/batch.py": 2,
    "bundle/data/sampling.py": 1,
    "bundle/data/labelled_slices.py": 1,
}


@pytest.mark.parametrize("room", ["bundle", "scripts"])
def test_what_a_person_can_mend_is_raised_as_an_error_of_ours(room):
    root = Path(__file__).resolve().parent.parent
    for path in sorted((root / room).rglob("*.py")):
        raised = [node.exc for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Raise)]
        names = [ast.unparse(error.func) for error in raised if isinstance(error, ast.Call)]
        plain = sum(name in ("ValueError", "TypeError", "RuntimeError", "OSError", "KeyError") for name in names)
        assert plain <= PROGRAMMING.get(path.relative_to(root).as_posix(), 0), path
