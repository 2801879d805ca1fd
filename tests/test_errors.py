"""What a person sees when a config fails."""

from __future__ import annotations

import sys

import pytest

from bundle.errors import explain_errors
from bundle.inference.cases import CaseError


def shown(error, cause, capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    explain_errors()
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
