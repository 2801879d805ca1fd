"""Prompts of a slice in, masks of the slice out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import BrightRegionSam, bright_contract

from bundle.data.volume import Volume
from bundle.engines.cache import PreparedCache
from bundle.families.family import build_network, load_family
from bundle.interactive.prompted_volume import PromptedVolume
from bundle.interactive.slice_model import SlicePredictor, SlicePrompt, SliceView
from bundle.prompts.batch import PromptBatch, mask_prompt
from bundle.transforms.contract import View
from bundle.transforms.crop import Zoom

PICTURE = np.zeros((40, 60), dtype=np.float32)
PICTURE[10:20, 15:45] = 100
PICTURE[25:35, 5:15] = 100


@pytest.fixture
def predictor() -> SlicePredictor:
    return SlicePredictor(BrightRegionSam(), bright_contract(), store=PreparedCache())


@pytest.fixture
def zooming() -> SlicePredictor:
    contract = replace(bright_contract(), zoom=Zoom(margin=0.5, smallest=8, whole=0.7))
    return SlicePredictor(BrightRegionSam(), contract, store=PreparedCache())


def view(picture: np.ndarray = PICTURE) -> SliceView:
    return SliceView(picture, bright_contract().intensity(picture, "CT"))


def at(x: float, y: float) -> SlicePrompt:
    return SlicePrompt(points=np.array([[x, y]]), point_labels=np.array([1]))


def test_a_point_and_a_box_find_the_same_object(predictor):
    bar = predictor.predict(view(), at(30, 15))
    square = predictor.predict(view(), SlicePrompt(box=np.array([2.0, 22.0, 20.0, 38.0])))
    again = predictor.predict(view(), at(10, 30))
    assert bar.mask.shape == (40, 60)
    assert bar.mask[15, 30] and not bar.mask[30, 10]
    assert square.mask[30, 10] and not square.mask[15, 30]
    assert np.array_equal(square.mask, again.mask) and bar.iou == pytest.approx(0.9)


def test_masks_come_back_where_the_object_is(predictor):
    answer = predictor.predict(view(), SlicePrompt(box=np.array([10.0, 8.0, 50.0, 22.0])))
    truth = np.zeros_like(PICTURE, dtype=bool)
    truth[10:20, 15:45] = True
    assert 2 * (answer.mask & truth).sum() / (answer.mask.sum() + truth.sum()) > 0.93


def test_the_answer_can_be_handed_back_as_a_mask_prompt(predictor):
    box = np.array([10.0, 8.0, 50.0, 22.0])
    answer = predictor.predict(view(), SlicePrompt(box=box))
    predictor.predict(view(), SlicePrompt(box=box, previous=answer))
    assert predictor.network.masks_seen == [False, True] and answer.logits.shape == (64, 64)


def test_the_embedding_is_found_by_content(predictor):
    assert predictor.predict(view(), at(30, 15)).encoded == 1
    again = predictor.predict(view(PICTURE.copy()), at(10, 30))
    assert again.encoded == 0 and again.encode_seconds == 0
    assert predictor.predict(view(PICTURE + 1), at(30, 15)).encoded == 1


def test_other_intensity_views_are_another_embedding(predictor):
    predictor.predict(view(), at(30, 15))
    assert predictor.predict(SliceView(PICTURE, (View(0, 50),)), at(30, 15)).encoded == 1


def test_a_family_that_zooms_sees_small_objects_large(zooming):
    box = np.array([4.0, 24.0, 15.0, 35.0])
    answer = zooming.predict(view(), SlicePrompt(box=box))
    assert answer.placement.window is not None and answer.placement.scale[0] > 2 * (64 / 60)
    truth = np.zeros_like(PICTURE, dtype=bool)
    truth[25:35, 5:15] = True
    assert answer.mask.shape == (40, 60) and np.array_equal(answer.mask, truth)


def test_a_point_gets_a_second_look_around_its_first_answer(zooming):
    answer = zooming.predict(view(), at(10, 30))
    assert zooming.network.masks_seen == [False, True]
    assert answer.encoded == 2 and answer.placement.window is not None
    assert answer.mask[30, 10] and not answer.mask[15, 30]


class EverythingBright(BrightRegionSam):
    """Answers every bright region, wherever the prompt points."""

    def _segment(self, picture, prompts, row):
        return torch.where(picture > 0.5, 8.0, -8.0)


@pytest.mark.parametrize(("point", "pieces"), [((10, 30), (True, False)), ((50, 5), (True, True))])
def test_one_point_finds_one_connected_piece_unless_it_lies_beside_all(point, pieces):
    contract = replace(bright_contract(), zoom=Zoom(margin=0.5, smallest=8, whole=0.7))
    everything = SlicePredictor(EverythingBright(), contract, store=PreparedCache())
    mask = everything.predict(view(), at(*point)).mask
    assert (mask[30, 10], mask[15, 30]) == pieces
    two = SlicePrompt(np.array([[10.0, 30.0], [30.0, 15.0]]), np.array([1, 1]))
    assert everything.predict(view(), two).mask[[30, 15], [10, 30]].all()


def test_several_points_correct_what_the_first_one_on_the_object_found(zooming):
    points = SlicePrompt(np.array([[30.0, 15.0], [10.0, 30.0], [12.0, 28.0]]), np.array([0, 1, 1]))
    assert points.first_on_object().points.tolist() == [[10, 30]]
    answer = zooming.predict(view(), points)
    assert zooming.network.masks_seen == [False, True, True]
    assert answer.encoded >= 2 and answer.placement.window is not None
    assert answer.mask[30, 10]


def test_points_off_the_object_alone_find_nothing_to_look_around(zooming):
    prompt = SlicePrompt(np.array([[30.0, 15.0]]), np.array([0]))
    assert not prompt.on_object
    assert zooming.predict(view(), prompt).placement.window is None


def test_a_mask_prompt_is_moved_into_the_window_that_is_looked_at(zooming):
    whole = zooming.predict(view(), SlicePrompt(box=np.array([0.0, 0.0, 59.0, 39.0])))
    assert whole.placement.window is None
    prompt = replace(at(10, 30), previous=replace(whole, mask=np.pad(np.ones((10, 10), bool), ((25, 5), (5, 45)))))
    answer = zooming.predict(view(), prompt)
    (moved,) = mask_prompt(whole, answer.placement, 64)
    inside = answer.placement.mask_to_square(PICTURE > 50)[::1, ::1]
    assert moved.shape == (1, 64, 64) and inside.any()
    assert np.mean((moved[0].numpy() > 0) == (inside > 0)) > 0.9


def test_points_outside_of_the_box_widen_what_is_looked_at():
    prompt = SlicePrompt(np.array([[50.0, 5.0], [0.0, 0.0]]), np.array([1, 0]), box=np.array([10.0, 10.0, 20.0, 20.0]))
    assert prompt.around().tolist() == [10, 5, 50, 20]
    assert at(3, 3).around() is None


def test_the_default_family_answers_like_a_direct_call_of_its_network():
    family = load_family("default")
    network = build_network(family, random=True)
    predictor = SlicePredictor(network, family.contract, store=PreparedCache())
    predictor.bfloat16 = False
    picture = np.random.default_rng(0).normal(0, 300, (256, 256)).astype(np.float32)
    intensity = family.contract.intensity(picture, "CT")
    answer = predictor.predict(SliceView(picture, intensity), SlicePrompt(box=np.array([10.0, 20.0, 220.0, 200.0])))
    image = family.contract.to_input(picture, intensity, answer.placement)
    with torch.inference_mode():
        prompts = PromptBatch(boxes=torch.tensor([[10.0, 20.0, 220.0, 200.0]]))
        direct = network.predict(network.prepare(image[None]), prompts, multimask=False)
    assert answer.placement.window is None
    torch.testing.assert_close(answer.logits, direct.logits[0, 0], atol=1e-4, rtol=1e-4)


def test_the_shipped_network_answers_in_bfloat16_where_the_cpu_computes_in_it(monkeypatch):
    family = load_family("default")
    picture = np.tile(np.linspace(-200, 300, 96), (96, 1)).astype(np.int16)
    view = SliceView(picture, family.contract.intensity(picture, "CT"))
    prompt = SlicePrompt(box=np.array([20.0, 20.0, 60.0, 60.0]))
    answers = {}
    for able in (False, True):
        monkeypatch.setattr("bundle.interactive.slice_model.computes_in_bfloat16", lambda device, able=able: able)
        predictor = SlicePredictor(build_network(family), family.contract, store=PreparedCache())
        assert predictor.bfloat16 == able
        answers[able] = predictor.predict(view, prompt)
    assert np.mean(answers[False].mask != answers[True].mask) < 0.005
    assert answers[True].iou == pytest.approx(answers[False].iou, abs=0.02)


def test_other_networks_answer_in_float32(predictor):
    assert not predictor.bfloat16


def test_what_computes_in_another_precision_is_another_model(predictor):
    image = Volume(PICTURE[..., None], np.eye(4), "CT", None)
    exact = PromptedVolume(image, predictor).identity
    assert PromptedVolume(image, predictor).identity == exact
    predictor.bfloat16 = True
    assert PromptedVolume(image, predictor).identity != exact
