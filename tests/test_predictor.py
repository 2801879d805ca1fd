"""Prompts of a slice in, masks of the slice out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fakes import BrightRegionSam, bright_contract

from bundle.inference.predictor import SlicePredictor, SlicePrompt
from bundle.inference.store import EmbeddingStore

PICTURE = np.zeros((40, 60), dtype=np.float32)
PICTURE[10:20, 15:45] = 100
PICTURE[25:35, 5:15] = 100


@pytest.fixture
def predictor() -> SlicePredictor:
    return SlicePredictor(BrightRegionSam(), bright_contract(), store=EmbeddingStore())


def embed(predictor: SlicePredictor, picture: np.ndarray = PICTURE):
    return predictor.embed(picture, predictor.contract.intensity(picture, "CT"))


def test_points_and_boxes_of_many_objects_are_answered_in_their_order(predictor):
    prompts = [
        SlicePrompt(points=np.array([[30.0, 15.0]]), point_labels=np.array([1])),
        SlicePrompt(box=np.array([2.0, 22.0, 20.0, 38.0])),
        SlicePrompt(points=np.array([[10.0, 30.0]]), point_labels=np.array([1])),
    ]
    bar, square, again = predictor.predict(embed(predictor), prompts)
    assert bar.mask.shape == (40, 60)
    assert bar.mask[15, 30] and not bar.mask[30, 10]
    assert square.mask[30, 10] and not square.mask[15, 30]
    assert np.array_equal(square.mask, again.mask) and bar.iou == pytest.approx(0.9)


def test_masks_come_back_where_the_object_is(predictor):
    (answer,) = predictor.predict(embed(predictor), [SlicePrompt(box=np.array([10.0, 8.0, 50.0, 22.0]))])
    truth = np.zeros_like(PICTURE, dtype=bool)
    truth[10:20, 15:45] = True
    assert 2 * (answer.mask & truth).sum() / (answer.mask.sum() + truth.sum()) > 0.93


def test_the_answer_can_be_handed_back_as_a_mask_prompt(predictor):
    box = np.array([10.0, 8.0, 50.0, 22.0])
    (answer,) = predictor.predict(embed(predictor), [SlicePrompt(box=box)])
    predictor.predict(embed(predictor), [SlicePrompt(box=box, logits=answer.logits)])
    assert predictor.network.masks_seen == [False, True] and answer.logits.shape == (64, 64)


def test_the_embedding_is_found_by_content(predictor):
    assert embed(predictor).computed
    assert not embed(predictor, PICTURE.copy()).computed
    assert embed(predictor, PICTURE + 1).computed


def test_another_window_is_another_embedding(predictor):
    from bundle.transforms.contract import View

    embed(predictor)
    assert predictor.embed(PICTURE, (View(0, 50),)).computed


def test_the_default_family_answers_like_a_direct_call_of_its_network():
    from bundle.networks.families import build_network, load_family
    from bundle.networks.promptable_sam import PromptBatch

    family = load_family("default")
    network = build_network(family, random=True)
    predictor = SlicePredictor(network, family.contract, store=EmbeddingStore())
    picture = np.random.default_rng(0).normal(0, 300, (256, 256)).astype(np.float32)
    intensity = family.contract.intensity(picture, "CT")
    embedded = predictor.embed(picture, intensity)
    (answer,) = predictor.predict(embedded, [SlicePrompt(box=np.array([40.0, 50.0, 200.0, 180.0]))])
    image = family.contract.to_input(picture, intensity, embedded.placement)
    with torch.inference_mode():
        prompts = PromptBatch(boxes=torch.tensor([[40.0, 50.0, 200.0, 180.0]]))
        direct = network.decode(network.encode(image[None]), prompts, multimask=False)
    torch.testing.assert_close(answer.logits, direct.logits[0, 0], atol=1e-4, rtol=1e-4)
