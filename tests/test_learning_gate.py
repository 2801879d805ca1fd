"""A trained network is published only if it is not worse, on held-out labels and on what was not trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import BrightRegionSam, bright_contract
from torch import Tensor
from training_room import make_slice

from bundle.engines.cache import PreparedCache
from bundle.interactive.slice_model import SlicePredictor
from monailabel_app.learning.gate import (
    MEAN_TOLERANCE,
    TOLERANCE,
    Score,
    judge,
    mean_of,
    measure,
    score_rows,
    scores_from_rows,
)

NAMES = {1: "disc", 2: "bar"}


class ShiftedSam(BrightRegionSam):
    """As wrong labels teach it: its answer lies beside what it was asked for."""

    def _segment(self, picture: Tensor, prompts, row: int) -> Tensor:
        return torch.roll(super()._segment(picture, prompts, row), 9, dims=1)


def predictor(network=None) -> SlicePredictor:
    return SlicePredictor(network or BrightRegionSam(), bright_contract(64), store=PreparedCache())


def slices():
    """Bright objects on dark ground, as the fake network outlines them."""
    found = []
    for number in range(4):
        labelled = make_slice(number)
        picture = np.where(labelled.labels > 0, 255, 0).astype(np.uint8)
        found.append(replace(labelled, picture=picture, intensity=bright_contract(64).intensity(picture, "windowed")))
    return found


def scores(dsc: float = 0.9, nsd: float = 0.8, **changed: float) -> list[Score]:
    """Of two structures that were trained and one that was not; ``spleen=0.88`` gives one another DSC."""
    parts = [("held_out", "liver"), ("held_out", "spleen"), ("replay", "aorta")]
    return [
        Score(part, name, prompt, 5, changed.get(name, dsc), nsd) for part, name in parts for prompt in ("box", "point")
    ]


def test_one_that_is_as_good_is_accepted():
    assert judge(scores(), scores()).accepted
    assert judge(scores(), scores(0.95, 0.9)).accepted


@pytest.mark.parametrize("name", ["liver", "spleen", "aorta"])
def test_one_that_loses_a_structure_is_refused_whatever_it_gains_elsewhere(name):
    verdict = judge(scores(), scores(0.97, 0.9, **{name: 0.9 - TOLERANCE - 0.002}))
    assert not verdict.accepted
    assert verdict.reasons[0].startswith(f"DSC of {name} (") and "fell from 0.900 to 0.888" in verdict.reasons[0]
    assert judge(scores(), scores(0.97, 0.9, **{name: 0.9 - TOLERANCE + 0.001})).accepted


def test_a_little_of_everything_that_was_held_out_is_too_much():
    lost = 0.9 - 2 * MEAN_TOLERANCE
    verdict = judge(scores(), scores(liver=lost, spleen=lost))
    assert verdict.reasons == (
        "DSC of the mean of the held-out labels fell from 0.900 to 0.896, more than 0.002 are too many",
    )


def test_surfaces_count_as_well_as_volumes():
    assert not judge(scores(), scores(0.95, 0.78)).accepted


def test_both_networks_are_asked_the_same_and_a_bad_one_is_refused():
    good = measure(predictor(), slices(), NAMES, part="held_out")
    assert good == measure(predictor(), slices(), NAMES, part="held_out")
    assert {(score.structure, score.prompt) for score in good} == {
        (name, prompt) for name in NAMES.values() for prompt in ("box", "point")
    }
    bad = measure(predictor(ShiftedSam()), slices(), NAMES, part="held_out")
    assert mean_of(good, "dsc") > 0.9 > mean_of(bad, "dsc")
    assert judge(good, good).accepted and not judge(good, bad).accepted


def test_a_structure_that_nobody_labelled_there_has_no_score():
    assert [s.structure for s in measure(predictor(), slices(), {9: "absent"}, part="replay")] == []


def test_without_a_held_out_object_nothing_is_published():
    replay = [score for score in scores() if score.part == "replay"]
    assert judge(replay, replay).reasons[0].startswith("no held-out label shows an object")
    assert mean_of(replay, "dsc") == 0.0


def test_scores_are_kept_as_json():
    assert scores_from_rows(score_rows(scores())) == scores()
