"""The trainings of the shipped weights and of the zero-shot models fit together: they themselves take hours."""

from __future__ import annotations

import runpy
from itertools import pairwise

import pytest
from monai.bundle import ConfigParser


@pytest.fixture(scope="module")
def script(repository):
    return runpy.run_path(str(repository / "scripts" / "train_default.py"))


def read(repository, files) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(repository / file) for file in files])
    return parser


def test_every_stage_starts_from_the_best_weights_of_the_one_before(script, repository):
    first, *others = stages = [read(repository, files) for files in script["STAGES"]]
    assert [stage["run_name"] for stage in stages] == ["default", "second", "third", "fourth", "fifth", "sixth"]
    assert not first["start"]
    for before, stage in pairwise(stages):
        assert f"/runs/{before['run_name']}/best.safetensors" in stage["start"]
    assert all(set(stage["sources"]) == set(first["sources"]) for stage in others)


def test_what_leaves_an_organ_out_never_sees_its_label(script, repository):
    stem, *others = [read(repository, files) for files in script["ZERO_SHOT"]]
    assert not stem.get("start") and "labelled" not in stem["sources"]
    hidden = {parser["run_name"]: parser["labelled_pool"]["values"] for parser in others}
    assert hidden == {"without_pancreas": [2], "without_liver": [1]}
    assert all("/runs/stem/best.safetensors" in parser["start"] for parser in others)
    for parser in (stem, *others):
        assert parser["hidden_names"] == ["liver", "pancreas"]
        assert parser["phantom_pool"]["without"] == "@hidden_names"


def test_the_call_is_that_of_monais_runner(script):
    assert script["command"](["a.json", "b.json"])[1:] == [
        "-m",
        "monai.bundle",
        "run",
        "--config_file",
        "['a.json', 'b.json']",
    ]
