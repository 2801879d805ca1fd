"""Following and a network of volumes under one roof: the better answer is taken, at the start and afterwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import BrightCubes, BrightRegionSam, bright_contract
from scipy import ndimage
from test_cube_network import AFFINE, ALIKE, BESIDE, ORGAN, SHAPE, STARTS, overlap

from bundle.data.volume import Volume
from bundle.engines.cache import PreparedCache
from bundle.interactive import guided_following
from bundle.interactive.candidates import FOLLOWING, NETWORK, REFINED, TOGETHER
from bundle.interactive.cube_network import CubeNetwork
from bundle.interactive.cube_predictor import CubePredictor
from bundle.interactive.guided_following import GuidedFollowing
from bundle.interactive.slice_following import SliceFollowing
from bundle.interactive.slice_model import SliceMask, SlicePredictor
from bundle.networks.interface import MaskPrediction
from bundle.prompts.cube_maps import BOX
from bundle.prompts.interactions import Box, Mask, Point
from bundle.prompts.prompts import ObjectPrompts


def models():
    predictor = SlicePredictor(BrightRegionSam(), bright_contract(), store=PreparedCache())
    cubes = CubeNetwork(CubePredictor(BrightCubes(), bright_contract()))
    return SliceFollowing(predictor), GuidedFollowing(predictor, cubes)


def asked(model, *interactions, previous=None, objects=ORGAN | BESIDE, **options):
    volume = Volume(objects.astype(np.float32) * 100, AFFINE, "CT")
    prompts = ObjectPrompts(interactions).validated(SHAPE)
    return model.predict(model.start(volume), prompts, previous, **options)


@pytest.fixture(params=[FOLLOWING, NETWORK, REFINED])
def taken(request, monkeypatch):
    """Each way is chosen once."""
    monkeypatch.setattr(guided_following, "chosen", lambda evidence: request.param)
    return request.param


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_any_start_finds_the_object_by_every_way(taken, start):
    _, guided = models()
    assert overlap(asked(guided, start).segmentation.mask, ORGAN) > ALIKE


def test_where_nothing_speaks_for_the_network_of_volumes_all_is_as_followed(monkeypatch):
    monkeypatch.setattr(guided_following, "chosen", lambda evidence: FOLLOWING)
    monkeypatch.setattr(guided_following, "corrects", lambda network, sure: False)
    following, guided = models()
    prompts = STARTS["flat box"], Point([40, 20, 15])
    masks = [asked(model, *prompts).segmentation.mask for model in (following, guided)]
    assert np.array_equal(*masks)


def test_corrections_hold_by_every_way(taken):
    _, guided = models()
    first = asked(guided, STARTS["flat box"])
    second = asked(guided, STARTS["flat box"], Point([40, 20, 15]), previous=first)
    assert second.segmentation.mask[40, 20, 15]
    third = asked(guided, STARTS["flat box"], Point([40, 20, 15]), Point([24, 20, 15], positive=False), previous=second)
    assert not third.segmentation.mask[24, 20, 15]


def test_the_answer_does_not_hang_on_what_was_asked_before(taken):
    _, guided = models()
    prompts = STARTS["flat box"], Point([40, 20, 15])
    after = asked(guided, *prompts, previous=asked(guided, prompts[0]))
    assert np.array_equal(after.segmentation.mask, asked(guided, *prompts).segmentation.mask)


def test_a_box_leaves_nothing_outside(taken):
    _, guided = models()
    mask = asked(guided, STARTS["3D box"]).segmentation.mask
    low, high = np.argwhere(mask).min(axis=0), np.argwhere(mask).max(axis=0)
    assert (low >= (18, 14, 12)).all() and (high <= (29, 25, 17)).all()


def test_in_a_3d_box_both_answers_are_taken_together_and_corrected_as_what_was_followed(monkeypatch):
    following, guided = models()
    ways, chosen = [], guided_following.chosen
    monkeypatch.setattr(guided_following, "chosen", lambda evidence: ways.append(chosen(evidence)) or ways[-1])
    first = asked(guided, STARTS["3D box"])
    mask = first.segmentation.mask
    assert ways == [TOGETHER] and overlap(mask, ORGAN) > ALIKE
    assert (mask <= asked(following, STARTS["3D box"]).segmentation.mask).all()  # no slice nor what nobody saw is added
    second = asked(guided, STARTS["3D box"], Point([20, 16, 15], positive=False), previous=first)
    assert not second.segmentation.mask[20, 16, 15] and (second.segmentation.mask <= mask).all()


def test_the_mask_of_a_slice_stays_as_it_was_drawn(taken):
    _, guided = models()
    drawn = np.zeros(SHAPE, bool)
    drawn[20:28, 14:26, 15] = True
    mask = asked(guided, Mask(drawn)).segmentation.mask
    assert np.array_equal(mask[..., 15], drawn[..., 15])


def test_the_limits_hold(taken):
    _, guided = models()
    mask = asked(guided, STARTS["flat box"], limits=(14, 16)).segmentation.mask
    assert mask.any() and set(mask.nonzero()[2]) <= {14, 15, 16}


def test_a_segmentation_of_several_slices_asks_no_network_of_volumes():
    _, guided = models()
    found = asked(guided, Mask(BESIDE)).segmentation.mask
    assert np.array_equal(found, BESIDE) and not guided.cubes.predictor.network.seen


def test_the_slice_of_the_prompt_is_asked_first():
    _, guided = models()
    told = []
    asked(guided, STARTS["flat box"], progress=told.append)
    assert told[0].index == 15


def test_another_network_is_another_model():
    following, guided = models()
    assert following.identity != guided.identity == models()[1].identity


def test_no_slice_beyond_the_limits_is_asked():
    _, guided = models()
    told = []
    asked(guided, STARTS["flat box"], limits=(14, 16), progress=told.append)
    assert {far.index for far in told} == {14, 15, 16}


@pytest.mark.parametrize("limits", [None, (14, 16)])
@pytest.mark.parametrize("start", sorted(STARTS.keys() - {"flat box on another plane"}))  # which is asked there first
def test_cubes_are_told_and_count_as_no_slices(taken, start, limits):
    _, guided = models()
    told, asked_on = [], set()
    predict = guided.predictor.predict
    guided.predictor.predict = lambda view, prompt: asked_on.add(told[-1].index) or predict(view, prompt)
    click = Point([24, 20, 16], positive=False)
    asked(guided, STARTS[start], click, limits=limits, progress=told.append)
    first, last = limits or ((12, 17) if start == "3D box" else (0, SHAPE[2] - 1))
    assert told[-1].slices == len(asked_on) and asked_on <= {*range(first, last + 1)}
    assert {far.of for far in told} == {last - first + 1}
    cubes = len(guided.cubes.predictor.network.seen)
    assert cubes and len(told) > cubes


@pytest.mark.parametrize("start", ["point", "scribble", "lasso"])
def test_where_the_network_of_volumes_finds_nothing_the_object_is_followed(start, monkeypatch):
    following, guided = models()
    nothing = MaskPrediction(torch.full((1, 1, 32, 32, 32), -8.0), torch.full((1, 1), 0.7))
    monkeypatch.setattr(guided.cubes.predictor.network, "predict", lambda prepared, maps: nothing)
    found, followed = (asked(model, STARTS[start]).segmentation.mask for model in (guided, following))
    assert np.array_equal(found, followed) and overlap(found, ORGAN) > ALIKE


@pytest.fixture
def network(taken, monkeypatch):
    """Whoever found the object, the network of volumes corrects it."""
    monkeypatch.setattr(guided_following, "corrects", lambda network, sure: True)
    return taken


@pytest.mark.usefixtures("network")
def test_a_click_changes_the_piece_that_it_lies_in_and_not_one_voxel_beside_it():
    """The network sees both bodies at the first click; the one that the click lies in is added, nothing else."""
    _, guided = models()
    first = asked(guided, STARTS["flat box"])
    click = Point([40, 20, 15])
    second = asked(guided, STARTS["flat box"], click, previous=first)
    before, after = first.segmentation.mask, second.segmentation.mask
    pieces, _ = ndimage.label(before ^ after, np.ones((3, 3, 3)))
    assert after[40, 20, 15] and set(np.unique(pieces)) == {0, pieces[40, 20, 15]}


@pytest.mark.usefixtures("network")
def test_a_slice_that_was_drawn_on_is_changed_by_a_click_on_itself_alone():
    _, guided = models()
    first = asked(guided, STARTS["flat box"])
    second = asked(guided, STARTS["flat box"], Point([24, 20, 14], positive=False), previous=first)
    assert np.array_equal(first.segmentation.mask[..., 15], second.segmentation.mask[..., 15])
    assert not second.segmentation.mask[24, 20, 14]


@pytest.mark.usefixtures("network")
def test_a_click_that_the_network_of_volumes_ignores_is_answered_on_its_slice_and_ends_the_object_there(monkeypatch):
    _, guided = models()
    first = asked(guided, STARTS["flat box"])
    monkeypatch.setattr(guided.cubes, "correct", lambda view, before, given, **options: before)
    click = Point([24, 20, 14], positive=False)
    second = asked(guided, STARTS["flat box"], click, previous=first)
    changed = first.segmentation.mask ^ second.segmentation.mask
    assert not second.segmentation.mask[24, 20, 14] and set(changed.nonzero()[2]) == {12, 13, 14}
    third = asked(guided, STARTS["flat box"], click, Point([24, 20, 14]), previous=second)
    changed = first.segmentation.mask ^ third.segmentation.mask
    assert third.segmentation.mask[24, 20, 14] and set(changed.nonzero()[2]) <= {12, 13, 14}


@pytest.mark.usefixtures("network")
def test_a_click_that_leaves_nothing_on_its_slice_ends_the_object_there(monkeypatch):
    _, guided = models()
    first = asked(guided, STARTS["flat box"])
    shown = sorted(set(first.segmentation.mask.nonzero()[2]))
    at = shown[-2]  # beyond the slice of the box
    ignoring = lambda view, before, given, **options: before  # noqa: E731
    monkeypatch.setattr(guided.cubes, "correct", ignoring)
    monkeypatch.setattr(
        guided_following, "changed_there", lambda before, followed, interaction, frame: emptied(before, at, frame)
    )
    second = asked(guided, STARTS["flat box"], Point([24, 20, at], positive=False), previous=first)
    assert sorted(set(second.segmentation.mask.nonzero()[2])) == shown[:-2]


def emptied(found, index, frame):
    """An object without one of its slices."""
    nothing = SliceMask(np.zeros((frame.height, frame.width), dtype=bool))
    return found.with_answers({**found.answers, index: nothing}, found.given, frame)


@pytest.mark.usefixtures("network")
def test_a_click_that_is_taken_back_leaves_what_was_there():
    _, guided = models()
    first = asked(guided, STARTS["flat box"])
    second = asked(guided, STARTS["flat box"], Point([40, 20, 15]), previous=first)
    assert np.array_equal(asked(guided, STARTS["flat box"], previous=second).segmentation.mask, first.segmentation.mask)


def test_nobody_waits_for_the_outlines_of_an_answer_that_the_network_of_volumes_does_not_believe_in(monkeypatch):
    following, guided = models()
    unsure = MaskPrediction(torch.full((1, 1, 32, 32, 32), 8.0), torch.full((1, 1), 0.4))
    monkeypatch.setattr(guided.cubes.predictor.network, "predict", lambda prepared, maps: unsure)
    monkeypatch.setattr(guided_following, "refined", lambda *args, **options: pytest.fail("outlined"))
    found, followed = (asked(model, STARTS["flat box"]).segmentation.mask for model in (guided, following))
    assert np.array_equal(found, followed)


def test_who_expects_less_of_a_correction_does_not_answer_it(monkeypatch):
    following, guided = models()
    monkeypatch.setattr(guided_following, "chosen", lambda evidence: FOLLOWING)
    first = asked(guided, STARTS["flat box"])
    unsure = MaskPrediction(torch.full((1, 1, 32, 32, 32), 8.0), torch.full((1, 1), 0.4))
    monkeypatch.setattr(guided.cubes.predictor.network, "predict", lambda prepared, maps: unsure)
    prompts = STARTS["flat box"], Point([24, 20, 14], positive=False)
    found = asked(guided, *prompts, previous=first).segmentation.mask
    assert np.array_equal(found, asked(following, *prompts).segmentation.mask)


@pytest.mark.usefixtures("network")
def test_a_segmentation_of_several_slices_is_corrected_by_the_network_of_volumes():
    _, guided = models()
    click = Point([40, 20, 15])
    found = asked(guided, Mask(ORGAN), click).segmentation.mask
    assert len(guided.cubes.predictor.network.seen) == 1 and found[40, 20, 15]
    assert (found & ORGAN).sum() == ORGAN.sum()


@pytest.mark.usefixtures("network")
def test_what_is_followed_in_between_is_seen_by_the_next_click():
    """A box off the object is no click: it is followed, and the network of volumes goes on from what that left."""
    _, guided = models()
    prompts = STARTS["flat box"], Box([[18, 14, 12], [29, 25, 13]], positive=False), Point([40, 20, 15])
    found = asked(guided, *prompts)
    state = found.memory.states[1]
    assert np.array_equal(state.seen.mask(SHAPE)[..., 12:14], np.zeros((*SHAPE[:2], 2), bool))
    assert not found.segmentation.mask[18:30, 14:26, 12:14].any() and found.segmentation.mask[40, 20, 15]


def test_a_3d_box_in_which_the_network_of_volumes_does_not_believe_is_asked_again_by_a_section(monkeypatch):
    """An object that bends around the middle of its box: there lies something else."""
    _, guided = models()
    network, asked_with = guided.cubes.predictor.network, []
    answer = network.predict

    def predict(prepared, maps):
        asked_with.append("box" if maps[0, BOX].any() else "section")
        found = answer(prepared, maps)
        return replace(found, iou=torch.full((1, 1), 0.4 if asked_with[-1] == "box" else 0.7))

    monkeypatch.setattr(network, "predict", predict)
    monkeypatch.setattr(guided_following, "chosen", lambda evidence: NETWORK)
    found = asked(guided, Box([[18, 14, 12], [29, 25, 15]]))  # the organ goes on to slice 17
    mask = found.segmentation.mask
    assert set(asked_with) == {"box", "section"} and overlap(mask, ORGAN) > ALIKE / 2
    (state,) = found.memory.states
    assert state.seen.looks == 2
    for voxels in (mask, state.seen.mask(SHAPE)):  # what the network of volumes is told of it, too
        low, high = np.argwhere(voxels).min(axis=0), np.argwhere(voxels).max(axis=0)
        assert (low >= (18, 14, 12)).all() and (high <= (29, 25, 15)).all()
