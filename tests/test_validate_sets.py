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
