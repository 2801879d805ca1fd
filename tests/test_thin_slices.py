"""Slices so thin that not each of them is asked."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import BrightCubes, BrightRegionSam, bright_contract
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.data.volume import Volume
from bundle.engines.cache import PreparedCache
from bundle.interactive import guided_following, seen_object
from bundle.interactive.candidates import FOLLOWING, predicted_iou
from bundle.interactive.cube_network import CubeNetwork
from bundle.interactive.cube_predictor import CubePredictor
from bundle.interactive.guided_following import GuidedFollowing
from bundle.interactive.propagation import PropagationRule, propagate
from bundle.interactive.refinement import refined
from bundle.interactive.slice_following import SliceFollowing
from bundle.interactive.slice_model import SliceMask, SlicePredictor, SlicePrompt
from bundle.interactive.thin_slices import Distances, strides
from bundle.prompts.interactions import Box, Point
from bundle.prompts.prompts import ObjectPrompts
from bundle.transforms.frames import SliceFrame
from bundle.transforms.placement import Placement

SIDE = 96
THIN = Distances(1.0, (1.0, 1.0), farthest=3.0)


def disc(radius: float, centre=(48.0, 48.0), iou: float = 0.9) -> SliceMask:
    y, x = np.mgrid[:SIDE, :SIDE]
    return SliceMask(np.hypot(x - centre[0], y - centre[1]) <= radius, iou=iou)


class Solid:
    """A solid of discs, which may wander; counts what it was asked."""

    def __init__(self, first: int, last: int, radius, centre=lambda index: (48.0, 48.0)):
        self.first, self.last, self.radius, self.centre = first, last, radius, centre
        self.asked: list[int] = []

    def at(self, index: int) -> SliceMask:
        inside = self.first <= index <= self.last
        return disc(self.radius(index), self.centre(index)) if inside else disc(-1)

    def __call__(self, index: int, prompt: SlicePrompt) -> SliceMask:
        self.asked.append(index)
        return self.at(index)


@pytest.mark.parametrize(
    ("slices", "pixels", "radius", "stride"),
    [
        (1.0, 1.0, 30, 3),  # large: the farthest
        (0.6, 1.0, 30, 5),
        (1.0, 1.0, 11, 1),  # 22 mm: a twelfth is not two slices
        (1.0, 3.0, 7, 3),
        (3.0, 1.0, 30, 1),
        (5.0, 1.0, 30, 1),
        (2.0, 1.0, 30, 1),  # two of them are too far
    ],
)
def test_the_next_slice_lies_as_far_on_as_the_object_is_large(slices, pixels, radius, stride):
    assert Distances(slices, (pixels, pixels), 3.0).stride(disc(radius).mask) == stride


def test_a_rule_that_goes_no_way_asks_each_slice():
    volume = Volume(np.zeros((20, 30, 40), np.int16), np.diag([0.5, 0.6, 0.1, 1.0]), "CT")
    frames = [SliceFrame.along(volume.shape, volume.affine, axis) for axis in range(3)]
    assert PropagationRule(farthest_mm=0.0).distances(frames[2], volume).stride(disc(60).mask) == 1
    found = PropagationRule().distances(frames[1], volume)
    assert found.slices == pytest.approx(0.6) and sorted(found.pixels) == pytest.approx([0.1, 0.5])
    assert PropagationRule().distances(frames[2], volume).stride(disc(40).mask) == 20
    picture = replace(volume, placed=False)  # a stack of pictures, of which nobody knows how many mm lie between two
    assert PropagationRule().distances(frames[2], picture).stride(disc(40).mask) == 1


@settings(deadline=None, max_examples=40)
@given(
    first=st.integers(0, 20),
    length=st.integers(3, 40),
    start=st.floats(0, 1),
    radius=st.floats(8, 26),
    slope=st.floats(-0.4, 0.4),
    drift=st.floats(-0.4, 0.4),
)
def test_an_object_that_is_passed_over_is_the_one_that_is_asked_slice_by_slice(
    first, length, start, radius, slope, drift
):
    last, origin = first + length, first + round(start * length)
    solid = Solid(
        first,
        last,
        lambda index: max(4.0, radius + slope * (index - origin)),
        lambda index: (48.0 + drift * (index - origin), 48.0),
    )
    seeds = {origin: solid.at(origin)}
    each = propagate(seeds, solid, first=0, last=70)
    asked = len(solid.asked)
    solid.asked.clear()
    some = propagate(seeds, solid, first=0, last=70, distances=THIN)
    assert some.keys() == each.keys() == set(range(first, last + 1))  # its ends are where they are
    for index, answer in some.items():
        expected = each[index].mask
        both = np.count_nonzero(answer.mask & expected) / np.count_nonzero(answer.mask | expected)
        assert both > (0.999 if index in solid.asked or index == origin else 0.85)
    assert len(solid.asked) <= asked + 12  # around two ends


def test_a_third_of_the_slices_of_a_large_object_is_asked_and_those_around_its_ends():
    solid = Solid(0, 60, lambda index: 30.0)
    found = propagate({30: solid.at(30)}, solid, first=0, last=60, distances=THIN)
    assert sorted(solid.asked) == [*range(0, 30, 3), *range(33, 61, 3)] and len(found) == 61
    solid = Solid(0, 59, lambda index: 30.0)
    found = propagate({30: solid.at(30)}, solid, first=0, last=70, distances=THIN)
    assert set(found) == set(range(60)) and [index for index in solid.asked if index > 54] == [57, 60, 58, 59, 60]


def test_thin_parts_and_branches_are_asked_for():
    plate = disc(20).mask.copy()
    plate[46:48, 60:80] = True
    assert THIN.stride(disc(20).mask) == 3 and THIN.stride(plate) == 1
    assert (
        THIN.between((0, disc(20)), (3, SliceMask(plate))) is None is THIN.between((0, SliceMask(plate)), (3, disc(20)))
    )
    branch = disc(20).mask | disc(5, (78, 48)).mask
    assert THIN.between((0, disc(20)), (3, SliceMask(branch))) is None  # where does it begin?
    assert sorted(THIN.between((0, SliceMask(branch)), (3, SliceMask(branch)))) == [1, 2]


def test_a_rough_answer_that_shows_more_on_a_slice_between_is_asked_for_there():
    rough = {index: disc(30) for index in range(7)}
    rough[4] = SliceMask(rough[4].mask | disc(5, (86, 48)).mask)
    asked = []
    refined(rough, lambda index, prompt: asked.append(index) or rough[index], distances=THIN)
    assert asked == [0, 3, 6, 4, 5]


def test_a_slice_that_was_passed_over_says_nothing_of_how_sure_the_network_is():
    answers = {0: disc(20, iou=0.9), **THIN.between((0, disc(20, iou=0.9)), (3, disc(20, iou=0.5)))}
    assert predicted_iou(answers) == pytest.approx(0.9)


def test_where_a_shape_jumps_aside_each_slice_is_asked():
    apart = Solid(0, 9, lambda index: 12.0, lambda index: (20.0 + 6 * index, 48.0))
    propagate({0: apart.at(0)}, apart, first=0, last=9, distances=Distances(0.5, (1.0, 1.0), 3.0))
    assert set(apart.asked) == set(range(1, 10))
    assert THIN.between((0, disc(5, (20, 20))), (3, disc(5, (70, 70)))) is None
    assert THIN.between((0, disc(5)), (3, disc(-1))) is None and THIN.between((0, disc(5)), (1, disc(5))) == {}


def test_what_was_not_asked_has_the_lower_iou_and_a_shape_between():
    passed = THIN.between((4, disc(20, iou=0.9)), (7, disc(25, iou=0.7)))
    assert sorted(passed) == [5, 6] and {one.iou for one in passed.values()} == {0.7}
    radii = [math.sqrt(np.count_nonzero(passed[index].mask) / math.pi) for index in (5, 6)]
    assert radii == pytest.approx([21.7, 23.3], abs=0.5) and not any(one.asked for one in passed.values())


def test_what_was_not_asked_has_the_mean_of_the_logits():
    placement = Placement(32, SIDE, SIDE, 32, 32)
    low, high = (SliceMask(disc(20).mask, torch.full((32, 32), value), placement=placement) for value in (-3.0, 6.0))
    passed = THIN.between((4, low), (7, high))
    assert passed[5].logits.mean() == pytest.approx(0, abs=1e-4) and passed[6].logits.mean() == pytest.approx(3)
    assert passed[6].encoded == 0 and passed[6].probability().shape == (SIDE, SIDE)


def test_a_rough_answer_is_outlined_where_it_is_asked_and_between():
    rough, exact = ({index: disc(radius) for index in [*range(10), *range(20, 23)]} for radius in (28.0, 30.0))
    asked = []

    def ask(index: int, prompt: SlicePrompt) -> SliceMask:
        asked.append(index)
        return exact[index]

    found = refined(rough, ask, distances=THIN, asked=[4])
    assert asked == [0, 3, 4, 6, 9, 20, 22]  # 22: the last of its row
    assert found.keys() == rough.keys() and all(np.array_equal(found[i].mask, exact[i].mask) for i in found)
    asked.clear()
    refined(rough, ask)
    assert asked == list(rough)


def test_strides_end_on_the_last_slice():
    assert strides([disc(30).mask] * 8, THIN) == [0, 3, 6, 7] and strides([disc(30).mask], THIN) == [0]


# ---- through a volume of slices of 1 mm and pixels of 2 --------------------------------------------------------------

SHAPE, AFFINE = (64, 48, 32), np.diag([-2.0, -2.0, 1.0, 1.0])
ACROSS, DOWN, _ = np.indices(SHAPE)
LEFT, RIGHT = (np.hypot(ACROSS - at, DOWN - 24) <= 13 for at in (16, 46))
BOXES = {"left": Box([[2, 10, 0], [30, 38, 31]]), "right": Box([[32, 10, 0], [60, 38, 31]])}


class Asked(SlicePredictor):
    """A model of slices that finds what is bright, and counts."""

    def __init__(self) -> None:
        super().__init__(BrightRegionSam(), bright_contract(), store=PreparedCache())
        self.passes = 0

    def predict(self, view, prompt):
        self.passes += 1
        return super().predict(view, prompt)


def answered(model, *interactions, previous=None, axis: int = 2):
    volume = Volume((LEFT | RIGHT).astype(np.float32) * 100, AFFINE, "CT")
    return model.predict(model.start(volume), ObjectPrompts(interactions).validated(SHAPE), previous, axis=axis)


def test_in_a_3d_box_half_of_the_slices_is_asked_and_from_elsewhere_each():
    model = SliceFollowing(Asked())
    found = answered(model, BOXES["left"]).segmentation
    assert np.array_equal(found.mask, LEFT) and model.predictor.passes < 25  # 5 looks, and 32 slices
    assert sorted(found.scores) == list(range(32))
    for start in (Box([[2, 10, 15], [30, 38, 15]]), Point([16, 24, 15])):
        model.predictor.passes = 0
        assert np.array_equal(answered(model, start).segmentation.mask, LEFT) and model.predictor.passes >= 32


def test_where_a_box_has_taken_something_off_each_slice_is_asked():
    model, off = SliceFollowing(Asked()), Box([[58, 10, 11], [60, 38, 20]], positive=False)
    before = None
    for count in (1, 2, 3):  # the second box begins anew, with what the one off the object says
        before = answered(model, *[BOXES["left"], off, BOXES["right"]][:count], previous=before)
    mask = before.segmentation.mask
    assert mask[46, 24].all() and not mask[58:61, :, 11:21].any() and mask[58, 24, [10, 21]].all()


def test_the_network_of_volumes_is_outlined_where_it_was_prompted_and_on_half_of_the_others(monkeypatch):
    monkeypatch.setattr(guided_following, "chosen", lambda evidence: FOLLOWING)
    predictor, outlined = Asked(), []
    model = GuidedFollowing(predictor, CubeNetwork(CubePredictor(BrightCubes(), bright_contract())))

    def noted(rough, ask, **options):
        def counted(index, prompt):
            outlined.append(index)
            return ask(index, prompt)

        return refined(rough, counted, **options)

    monkeypatch.setattr(guided_following, "refined", noted)
    monkeypatch.setattr(seen_object, "refined", noted)
    monkeypatch.setattr(seen_object, "is_coarse", lambda detail: True)
    monkeypatch.setattr(guided_following, "corrects", lambda network, sure: True)
    first = answered(model, Box([[2, 10, 14], [30, 38, 14]]))
    assert 14 in outlined and len(outlined) < 24
    outlined.clear()
    answered(model, Box([[2, 10, 14], [30, 38, 14]]), Point([46, 24, 20]), previous=first)
    assert 20 in outlined
