"""A session knows a volume model only by its two doors."""

from __future__ import annotations

import numpy as np
from fakes import BrightRegionSam, bright_contract

from bundle.data.volume import Volume
from bundle.engines.cache import PreparedCache
from bundle.interactive.answer_options import AnswerOptions
from bundle.interactive.segmentation import Segmentation
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_model import SlicePredictor
from bundle.interactive.volume_model import VolumePrediction
from bundle.prompts.prompts import ObjectPrompts

VOLUME = Volume(np.zeros((6, 5, 4), np.int16), np.eye(4))


class Counting:
    """Answers everything, remembers how often an object was asked for, and what it was given."""

    identity = "counting"

    def __init__(self) -> None:
        self.given = []

    def start(self, volume):
        return volume.shape

    def predict(self, state, prompts, previous, *, axis=2, progress=None, limits=None):
        self.limits = limits
        memory = 1 + (0 if previous is None else previous.memory)
        self.given.append((prompts.name, axis, None if previous is None else previous.memory))
        return VolumePrediction(Segmentation(np.ones(state, bool), {0: 1.0}, axis), memory)


def session(model):
    predictor = SlicePredictor(BrightRegionSam(), bright_contract(), store=PreparedCache())
    return InteractiveSession(VOLUME, predictor, volume_model=model)


def at(i, name="a"):
    return ObjectPrompts(points=[[i, 1, 1]], point_labels=[1], name=name)


def test_a_model_gets_its_last_answer_for_the_same_object_back():
    model = Counting()
    opened = session(model)
    for prompts in (at(1), at(2), at(1, "b"), at(3)):
        assert opened.segment_volume(prompts, axis=1).mask.all()
    assert model.given == [("a", 1, None), ("a", 1, 1), ("b", 1, None), ("a", 1, None)]


def test_after_a_reset_the_model_starts_anew():
    model = Counting()
    opened = session(model)
    opened.segment_volume(at(1))
    opened.reset("a")
    opened.segment_volume(at(1))
    assert model.given == [("a", 2, None), ("a", 2, None)]


def test_a_model_is_told_the_limits_along_the_axis_that_it_works_along():
    model = Counting()
    opened = session(model)
    for limits_axis, told in ((1, (0, 1)), (0, None)):
        found = opened.segment_volume(at(1), axis=1, options=AnswerOptions((0, 1), limits_axis))
        assert model.limits == told
        assert np.flatnonzero(np.moveaxis(found.mask, limits_axis, 0).any(axis=(1, 2))).tolist() == [0, 1]
