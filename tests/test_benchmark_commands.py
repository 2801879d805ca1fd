"""The watch that commands are timed with (scripts/benchmark_commands.py)."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bundle.errors import OptionError

SCRIPT = runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts/benchmark_commands.py"))
watch = SimpleNamespace(**SCRIPT)
WORK = "sum(range(3_000_000)); open('there', 'w').close(); "


def test_the_seconds_of_a_command_that_ends_are_those_of_the_processor_and_the_clock(tmp_path):
    spent = watch.until(None, [sys.executable, "-c", WORK], root=tmp_path, folder=tmp_path)
    assert spent["processor"] > 0 and spent["clock"] > 0 and (tmp_path / "there").is_file()


def test_a_command_that_goes_on_is_timed_until_its_output_is_there_and_then_stopped(tmp_path):
    command = [sys.executable, "-c", WORK + "import time; time.sleep(600)"]
    spent = watch.until((tmp_path / "there").is_file, command, root=tmp_path, folder=tmp_path)
    assert 0 < spent["clock"] < 600


def test_a_command_that_ends_without_its_output_is_an_error_with_what_it_said(tmp_path):
    with pytest.raises(OptionError, match="nothing here"):
        watch.until(
            (tmp_path / "no").is_file, [sys.executable, "-c", "print('nothing here')"], root=tmp_path, folder=tmp_path
        )
    with pytest.raises(OptionError, match=r"(?s)exit code 3: .*bad"):
        watch.until(
            None,
            [sys.executable, "-c", "import sys; print('bad', flush=True); sys.exit(3)"],
            root=tmp_path,
            folder=tmp_path,
        )


def test_a_box_lies_around_the_mask_or_what_the_middle_slice_has_of_it():
    mask = np.zeros((6, 6, 5), bool)
    mask[1:3, 2:5, 1:4] = True
    mask[0, 0, 2] = True
    assert watch.corners(mask) == [[0, 0, 1], [2, 4, 3]]
    assert watch.box_on_slice(mask)["box"] == [[0, 0, 2], [2, 4, 2]]


def test_nobody_answers_on_a_free_port():
    assert not watch.answers(watch.free_port())


def test_before_and_now_are_asked_for_the_same():
    assert list(watch.BEFORE) == list(watch.AFTER)


def test_the_start_needs_an_older_state(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with pytest.raises(OptionError, match="needs --before"):
        watch.main(["start", "--results", str(tmp_path / "results.json")])
