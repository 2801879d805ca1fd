"""A validation during training shows how far it is."""

from __future__ import annotations

import re

import pytest
from test_recipes import small_run
from training_room import one_thread as one_thread

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_validation_shows_a_bar_with_its_total(tmp_path, capsys):
    run = small_run(tmp_path, "default")
    run.get_parsed_content("validate#evaluator").run()
    shown = re.findall(r"validating.*?\[(\d+)/(\d+)\]", capsys.readouterr().err)
    assert shown and len({total for _, total in shown}) == 1


def test_only_the_first_of_several_processes_shows_it(tmp_path, capsys):
    run = small_run(tmp_path, "default", rank=1)
    handlers = [type(handler).__name__ for handler in run.get_parsed_content("validate#handlers")]
    assert "ProgressBar" not in handlers
