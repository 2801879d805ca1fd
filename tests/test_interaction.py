"""Playing a protocol: what goes along with a prompt, scores and seconds."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from test_protocols import disc

from bundle.evaluation.interaction import Prediction, run_protocol
from bundle.evaluation.protocols import Box, ClickProtocol, Points, object_rng


def play(protocol, predict, **options):
    return run_protocol(protocol, predict, disc(), rng=object_rng(0, "case"), **options)


@pytest.mark.parametrize("mask_prompt", [True, False])
def test_the_former_answer_goes_along_only_with_a_mask_prompt(mask_prompt):
    given = []

    def predict(prompt, previous):
        given.append(previous)
        return Prediction(np.zeros((128, 128), bool), iou=len(given))

    steps = play(ClickProtocol(Points(1), clicks=2, mask_prompt=mask_prompt), predict)
    assert given == ([None, steps[0].answer, steps[1].answer] if mask_prompt else [None] * 3)


def test_scores_follow_the_spacing_and_the_tolerance():
    def shifted(prompt, previous):
        return Prediction(np.roll(disc(), 3, axis=1))

    (coarse,) = play(ClickProtocol(Box()), shifted, spacing=(2, 2), tolerance=2)
    (fine,) = play(ClickProtocol(Box()), shifted, spacing=(0.5, 0.5), tolerance=2)
    assert fine.score.nsd == 1 > coarse.score.nsd


def test_the_encoder_is_timed_apart_from_the_answer():
    def predict(prompt, previous):
        return Prediction(disc(), encoded=2, encode_seconds=-6.0)  # below zero: no clock can hide the subtraction

    (step,) = play(ClickProtocol(Box()), predict)
    assert step.encode_seconds == -3 and step.seconds >= 6
    (remembered,) = play(ClickProtocol(Box()), lambda prompt, previous: Prediction(disc()))
    assert remembered.encode_seconds is None and remembered.seconds >= 0


def test_the_estimate_of_a_volume_counts_slices_by_their_answer():
    mask = np.zeros((4, 4, 3), bool)
    mask[:3, 0, 0], mask[0, 0, 1] = True, True
    found = SimpleNamespace(mask=mask, axis=2, scores={0: 0.8, 1: 0.4, 2: 0.1}, seconds={"encode": 6.0}, encoded=3)
    answer = Prediction.of_volume(found)
    assert answer.iou == pytest.approx((3 * 0.8 + 0.4) / 4) and (answer.encoded, answer.encode_seconds) == (3, 6)
    found.mask = np.zeros_like(mask)
    assert Prediction.of_volume(found).iou == pytest.approx(1.3 / 3)
