"""The script that tunes how an object is followed."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import BrightRegionSam, bright_contract

from bundle.data.volume import Volume, write_label, write_volume
from bundle.engines.cache import PreparedCache
from bundle.evaluation.volume_table import rule_table
from bundle.interactive.propagation import PropagationRule
from bundle.interactive.slice_model import SlicePredictor


@pytest.fixture
def tune(repository):
    spec = importlib.util.spec_from_file_location("tune_following", repository / "scripts" / "tune_following.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_parameter_but_what_is_carried_is_tuned_around_its_shipped_value(tune):
    shipped = PropagationRule()
    assert set(tune.VALUES) == {one.name for one in fields(PropagationRule)} - {"carried", "propagated"}
    assert all(getattr(shipped, name) not in values for name, values in tune.VALUES.items())


def test_a_run_is_written_and_continued(tune, tmp_path, monkeypatch, capsys):
    """Of two volumes, whose files have the same names."""
    truth = np.zeros((24, 20, 10), bool)
    truth[6:16, 5:14, 2:8] = True
    affine, cases = np.diag([2.0, 2.0, 3.0, 1.0]), []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        write_volume(Volume(truth.astype(np.float32) * 100, affine, "CT"), folder / "image.nii.gz")
        write_label(truth.astype(np.uint8), Volume(truth, affine), folder / "label.nii.gz")
        cases += ["--case", str(folder / "image.nii.gz"), str(folder / "label.nii.gz")]
    predictor = SlicePredictor(BrightRegionSam(), bright_contract(), store=PreparedCache())
    model = SimpleNamespace(family=SimpleNamespace(contract=bright_contract(), volume=None), predictor=predictor)
    monkeypatch.setattr(tune.Segmenter, "from_family", lambda *_, **__: model)
    monkeypatch.setattr(tune, "VALUES", {"swells": (1.0,)})
    command = ["--output", str(tmp_path / "out"), "--clicks", "1", *cases]
    tune.main(command)
    table = rule_table(json.loads((tmp_path / "out" / "result.json").read_text())).as_markdown()
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in table.strip().splitlines()[2:]]
    starts = ("3D box", "2D box", "point")
    assert rows == [[rule, start, "2", "1.000"] for rule in ("as shipped", "swells 1") for start in starts]
    predictor.network.predict = None  # nothing is left to play
    tune.main(command)
    assert capsys.readouterr().out.count("swells 1") == 6
