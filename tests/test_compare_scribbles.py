"""The script that compares scribbles with clicks and boxes."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from fakes import BrightRegionSam, bright_contract

from bundle.data.labelled_slices import LabelledSlice
from bundle.engines.cache import PreparedCache
from bundle.interactive.slice_model import SlicePredictor


@pytest.fixture
def script(repository):
    path = repository / "scripts" / "compare_scribbles.py"
    spec = importlib.util.spec_from_file_location("compare_scribbles", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_prompt_is_scored_on_every_slice_with_as_many_points_as_asked_for(script):
    labels = np.zeros((48, 48), np.uint8)
    labels[10:30, 8:40] = 1
    picture = labels * 100.0
    views = bright_contract().intensity(picture, "CT")
    item = LabelledSlice(picture, labels, (1,), views, "CT", (1.0, 1.0), "p", "p-0")
    predictor = SlicePredictor(BrightRegionSam(), bright_contract(), store=PreparedCache())
    spec = predictor.network.spec
    scores = script.compare(predictor, [item, item], [1, 4], {1: "liver"})
    assert {name for _, name in scores} >= {"click", "box", "lasso", "scribble along, 4 points"}
    assert all(len(values) == 2 and min(values) > 0.9 for values in scores.values())
    assert predictor.network.spec is spec
    assert "| liver" in script.table_of(scores).as_markdown()
