"""The comparison of the ways through a volume plays what is missing, goes on after a stop, and prints its tables."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from fakes import BrightCubes, BrightRegionSam, bright_contract
from test_cube_network import AFFINE, BESIDE, ORGAN

from bundle.data.volume import Volume
from bundle.engines.cache import PreparedCache
from bundle.evaluation.volume_table import (
    challenge_volume_table,
    click_volume_table,
    group_table,
    object_click_table,
    way_of,
    way_table,
)
from bundle.interactive.candidates import TOGETHER, WAYS
from bundle.interactive.cube_network import CubeNetwork
from bundle.interactive.cube_predictor import CubePredictor
from bundle.interactive.guided_following import GuidedFollowing
from bundle.interactive.slice_model import SlicePredictor


@pytest.fixture
def script(repository, monkeypatch):
    """The script, with one object to play and fake networks."""
    path = repository / "scripts" / "compare_volume_models.py"
    spec = importlib.util.spec_from_file_location("compare_volume_models", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(importlib.import_module("sys").modules, spec.name, module)
    spec.loader.exec_module(module)
    volume = Volume((ORGAN | BESIDE).astype(np.float32) * 100, AFFINE, "CT")
    monkeypatch.setattr(module, "targets", lambda data: [module.Target("block", "lesions", 0, 1)])
    monkeypatch.setattr(module, "_read", lambda data, files: (volume, ORGAN.astype(int)))

    class Models(module._Models):
        def __init__(self, options):
            self.predictor = SlicePredictor(BrightRegionSam(), bright_contract(), store=PreparedCache())
            self.cubes = CubeNetwork(CubePredictor(BrightCubes(), bright_contract()))
            self.guided = GuidedFollowing(self.predictor, self.cubes)
            self.following = module.SliceFollowing(self.predictor)

    monkeypatch.setattr(module, "_Models", Models)
    return module


def test_every_start_is_played_once_and_printed(script, tmp_path, capsys, monkeypatch):
    options = ["--results", str(tmp_path / "results.json")]
    script.main([*options, "--starts", "2D box"])
    script.main([*options, "--starts", "2D box", "3D box"])
    results = json.loads((tmp_path / "results.json").read_text())
    assert [result["start"] for result in results] == ["2D box", "3D box"]
    assert [set(result["ways"]) for result in results] == [{*WAYS} - {TOGETHER}, {*WAYS}]
    assert all(way["dsc"] > 0.6 for result in results for way in result["ways"].values())
    monkeypatch.setattr(script, "_read", None)  # nothing is left to play
    script.main([*options, "--starts", "2D box", "3D box"])
    assert "mean of 1 groups" in capsys.readouterr().out


def test_results_of_other_weights_are_not_gone_on_with(script, tmp_path, monkeypatch):
    options = ["--results", str(tmp_path / "results.json"), "--starts", "2D box"]
    script.main(options)
    monkeypatch.setattr(script, "sha256_of", lambda file: "0" * 64)
    with pytest.raises(script.OptionError, match="000000000000 000000000000; give another --results"):
        script.main([*options, "3D box"])


def test_clicks_are_played_with_every_model_that_answers_them(script, tmp_path):
    script.main(["--results", str(tmp_path / "results.json"), "--starts", "--with-clicks"])
    results = json.loads((tmp_path / "results.json").read_text())
    assert [result["way"] for result in results] == ["following", "3D", "chosen"]
    assert all(len(result["dsc"]) <= 6 and result["dsc"][-1] >= 0.6 for result in results)


def test_an_unknown_object_is_named(script, tmp_path):
    with pytest.raises(script.OptionError, match="'spoon'"):
        script.main(["--results", str(tmp_path / "results.json"), "--objects", "spoon"])


def result(name: str, group: str, sure: tuple[float, float, float], *dsc: float) -> dict:
    ways = {way: {"dsc": one, "nsd": one, "seconds": 1.0} for way, one in zip(WAYS, dsc, strict=False)}
    evidence = {"agreement": 0.5, "sure": list(sure), "detail": 1.2, "outgrown": False}
    return {"object": name, "group": group, "start": "2D box", "ways": ways, "evidence": evidence}


RESULTS = [
    result("liver", "large organs", (0.8, 0.5, 0.9), 0.5, 0.6, 0.7),
    result("aorta", "long structures", (0.8, 0.5, 0.7), 0.9, 0.2, 0.1),
]


def test_the_table_chooses_by_the_rule_as_it_is():
    assert [way_of(one) for one in RESULTS] == ["3D refined", "following"]
    assert [row[-1] for row in way_table(RESULTS).rows] == ["3D refined", "following"]


def test_the_mean_counts_groups_alike_and_the_chosen_way_takes_the_time_of_all():
    last = group_table(RESULTS).rows[-1]
    assert last[1:] == [
        "mean of 2 groups",
        "0.700 / 0.700",
        "0.400 / 0.400",
        "0.400 / 0.400",
        "-",
        "0.800 / 0.800",
        "1 / 1 / 1 / - / 2",
    ]


def test_the_challenges_numbers_are_those_after_five_clicks():
    clicked = {"object": "a", "group": "lesions", "start": "cvpr25", "way": "3D", "seconds": [1.0] * 6}
    scores = [0.2, 0.6, 0.6, 0.6, 0.6, 0.8]
    rows = challenge_volume_table([{**clicked, "dsc": scores, "nsd": scores}]).rows
    assert rows[0][2:] == ["0.200", "0.800", "0.800", "2.500", "2.500", "6.000"]


def test_clicks_after_a_start_are_a_row_for_each_object_and_their_mean():
    one = {"object": "a", "group": "lesions", "start": "point, then clicks", "way": "chosen", "seconds": [1.0]}
    results = [{**one, "dsc": [0.5, 0.7], "nsd": [0.4, 0.6]}, {**one, "object": "b", "dsc": [0.9], "nsd": [0.8]}]
    table = click_volume_table(results)
    assert table.columns[2:] == ["start alone", "click 1"]
    assert [row[1:] for row in table.rows] == [
        ["a (lesions)", "0.500 / 0.400", "0.700 / 0.600"],
        ["b (lesions)", "0.900 / 0.800", "0.900 / 0.800"],
        ["mean of 2", "0.700 / 0.600", "0.800 / 0.700"],
    ]
    assert not challenge_volume_table(results).rows


def test_an_object_that_needs_no_more_clicks_keeps_its_score_and_the_mean_has_all():
    about = {"start": "point", "without_effect": 1}
    longer, shorter = {"object": "a", "dsc": [0.5, 0.7, 0.8]}, {"object": "b", "dsc": [0.9, 1.0]}
    table = object_click_table([about | longer, about | shorter])
    assert table.columns[2:] == ["start alone", "click 1", "click 2", "clicks without effect"]
    assert [row[1:] for row in table.rows] == [
        ["a", "0.500", "0.700", "0.800", "1"],
        ["b", "0.900", "1.000", "1.000", "1"],
        ["mean of 2", "0.700", "0.850", "0.900", "2"],
    ]
