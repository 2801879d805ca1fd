"""The cheap learner of simulations: it learns what it is shown, and keeps what it has seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fakes import BrightRegionSam, bright_contract

from bundle.active.pixel_head import GRID, PixelLearner, load_slices, save_slices, see
from bundle.engines.cache import PreparedCache
from bundle.errors import FamilyError
from bundle.interactive.slice_model import SlicePredictor, SliceView
from bundle.networks.prompted_unet import PromptedUNet


@pytest.fixture(scope="module")
def predictor():
    torch.manual_seed(0)
    network = PromptedUNet(64, widths=(8, 8), depths=(1, 1))
    return SlicePredictor(network, bright_contract(64), store=PreparedCache())


def a_slice(predictor, left: int, patient="p"):
    """A bright square with its left edge in a column, 40 x 64 pixels."""
    labels = np.zeros((40, 64), np.uint8)
    labels[10:30, left : left + 20] = 1
    picture = labels * 80.0
    view = SliceView(picture, predictor.contract.intensity(picture[..., None], "other"))
    return see(view, labels, predictor, patient=patient)


def test_a_slice_is_seen_with_its_truth_where_it_lies_in_the_square(predictor):
    one = a_slice(predictor, 5)
    assert one.features.shape[0] == GRID * GRID and one.truth.shape == one.inside.shape == (GRID, GRID)
    assert one.inside.sum() == 40 * 64 and one.truth.sum() == 20 * 20 and not one.truth[~one.inside].any()


def test_it_learns_what_it_is_shown(predictor):
    pool = {str(left): a_slice(predictor, left) for left in (2, 12, 22, 32)}
    learner = PixelLearner(pool, [a_slice(predictor, 17, "other")], ["square"], seed=0)
    learner.train(list(pool))
    assert learner.evaluate() > 0.8
    scores = learner.scores("12")
    assert set(scores.structures) == {"square"} and 0.05 < scores.foreground < 0.2
    assert scores.structures["square"].predicted_iou > 0.5


def test_the_same_seed_learns_the_same(predictor):
    pool = {str(left): a_slice(predictor, left) for left in (2, 22)}

    def learned():
        learner = PixelLearner(pool, list(pool.values()), ["square"], seed=4)
        learner.train(list(pool))
        return learner.evaluate(), learner.scores("2")

    assert learned() == learned()


def test_what_was_seen_comes_back_from_its_file(predictor, tmp_path):
    slices = {"a": a_slice(predictor, 2), "b": a_slice(predictor, 12)}
    save_slices(str(tmp_path / "slices.npz"), slices)
    again = load_slices(tmp_path / "slices.npz")
    assert list(again) == ["a", "b"] and again["b"].patient == "p"
    assert torch.allclose(again["a"].features, slices["a"].features, atol=1e-2)
    assert np.array_equal(again["b"].truth, slices["b"].truth) and np.array_equal(again["b"].inside, slices["b"].inside)


def test_another_network_than_the_u_net_is_refused():
    predictor = SlicePredictor(BrightRegionSam(), bright_contract(64), store=PreparedCache())
    with pytest.raises(FamilyError, match="PromptedUNet"):
        see(SliceView(np.zeros((8, 8)), None), np.zeros((8, 8), np.uint8), predictor, patient="p")
