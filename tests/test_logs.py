"""No request can write a line of the log that looks like another's."""

from __future__ import annotations

import json
import logging
import logging.config

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monailabel_app.server.access import SettingsError
from monailabel_app.server.logs import LOG_FORMAT, JsonLines, OneLine, log_config, one_line, write_log_config


def record(message: str, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("monai", logging.INFO, "file.py", 1, "asked for %s", (message,), info)


@given(st.text())
def test_whatever_a_request_says_is_one_line(text):
    for formatter in (OneLine("%(message)s"), JsonLines()):
        line = formatter.format(record(text))
        assert len(line.splitlines()) == 1 and "\x1b" not in line and "\u202e" not in line


def test_what_was_said_can_still_be_read():
    assert one_line("Müller\r\n[INFO] all is well\x1b[2J") == "Müller\\r\\n[INFO] all is well\\x1b[2J"
    assert json.loads(JsonLines().format(record("a\nb")))["message"] == "asked for a\nb"


def test_the_lines_of_a_traceback_look_like_no_entry():
    try:
        raise ValueError("first\n[2026] [INFO] forged")
    except ValueError as error:
        text = OneLine("[time] %(message)s").format(record("x", error))
        entry = json.loads(JsonLines().format(record("x", error)))
    first, *others = text.split("\n")
    assert first == "[time] asked for x" and others and all(line.startswith("    | ") for line in others)
    assert "forged" in entry["traceback"] and entry["level"] == "INFO"


@pytest.mark.parametrize("wanted", ["text", "json"])
def test_the_configuration_is_one_that_logging_takes(wanted, tmp_path, monkeypatch):
    monkeypatch.setenv(LOG_FORMAT, wanted)
    config = json.loads(write_log_config(tmp_path).read_text(encoding="utf-8"))
    assert config == log_config()
    formatter = logging.config.DictConfigurator(config).configure_formatter(config["formatters"]["ours"])
    assert isinstance(formatter, JsonLines if wanted == "json" else OneLine)
    line = formatter.format(record("it"))
    assert (json.loads(line)["message"] if wanted == "json" else line).endswith("asked for it")


def test_another_format_is_refused():
    with pytest.raises(SettingsError, match="text or json"):
        log_config({LOG_FORMAT: "xml"})
