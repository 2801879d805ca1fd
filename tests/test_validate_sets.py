"""The validation on the sets of every modality: which objects are asked for, and what is written of the answers."""

from __future__ import annotations

import runpy

import numpy as np
import pytest
from test_labelled_sets import VIEWS, make_set

from bundle.errors import OptionError


@pytest.fixture(scope="module")
def script(repository):
    return runpy.run_path(str(repository / "scripts" / "validate_sets.py"))


def test_objects_of_the_validation_part_are_drawn_and_carry_the_number_of_their_set(script, tmp_path):
    make_set(tmp_path / "ct-mr" / "organs", instances=None, side=64)
    make_set(tmp_path / "other" / "pieces", side=64)
    pool, names = script["validation_pool"](tmp_path, VIEWS, 8, 2, seed=0)
    assert names == {1: "organs", 2: "pieces"} and {part.patient for part in pool} == {"p2"}
    assert [part.ids for part in pool] == [(1,), (1,), (2,), (2,)]  # two values, two of three pieces
    assert all(set(np.unique(part.labels)) == {0, part.ids[0]} for part in pool)
    again, _ = script["validation_pool"](tmp_path, VIEWS, 8, 2, seed=0)
    assert [part.key for part in again] == [part.key for part in pool]
    assert len({part.key for part in pool}) == len(pool)


def test_sets_that_are_asked_alone_have_the_objects_that_they_have_among_all(script, tmp_path):
    make_set(tmp_path / "ct-mr" / "organs", instances=None, side=64)
    make_set(tmp_path / "other" / "pieces", side=64)
    every, _ = script["validation_pool"](tmp_path, VIEWS, 8, 2, seed=0)
    pool, names = script["validation_pool"](tmp_path, VIEWS, 8, 2, seed=0, sets=["pie*"])
    assert names == {2: "pieces"} and [part.key for part in pool] == [part.key for part in every if part.ids == (2,)]
    with pytest.raises(OptionError, match="sets are organs, pieces"):
        script["validation_pool"](tmp_path, VIEWS, 8, 2, seed=0, sets=["us-*"])


def test_a_model_beside_is_counted_on_the_same_sets(script):
    records = [record(organ, "x", "box_jitter_20", 0, score) for organ, score in (("a", 0.4), ("b", 0.8))]
    records += [record(organ, "x", "clicks_from_point_3", step, 0.5) for organ in "ab" for step in (0, 3)]
    scores = script["restricted"](script["scores_of"](records), ["b"])
    assert list(scores["sets"]) == ["b"] and scores["macro"]["box"]["dsc"] == pytest.approx(0.8)


def record(organ: str, key: str, protocol: str, step: int, score: float) -> dict:
    return {
        "organ": organ,
        "key": key,
        "patient": key,
        "protocol": protocol,
        "step": step,
        "dsc": score,
        "nsd": score / 2,
        "iou": score,
        "predicted_iou": 0.9,
    }


def test_an_object_that_needed_no_more_corrections_keeps_its_last_scores(script):
    point = "clicks_from_point_3"
    records = [
        *(record("a", key, "box_jitter_20", 0, 0.8) for key in ("x", "y")),
        *(record("a", "x", point, step, score) for step, score in enumerate((0.2, 0.4, 0.6, 0.8))),
        *(record("a", "y", point, step, score) for step, score in enumerate((0.4, 1.0))),
    ]
    scores = script["scores_of"](records)
    assert scores["sets"]["a"]["objects"] == 2
    assert scores["sets"]["a"]["point"] == pytest.approx({"dsc": 0.3, "nsd": 0.15})
    assert scores["macro"]["corrected"]["dsc"] == pytest.approx(0.9)
    assert scores["expected"]["box"]["mae"] == pytest.approx(0.1)
