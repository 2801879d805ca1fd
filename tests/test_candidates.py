"""Which of three answers to a start is taken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bundle.interactive.candidates import (
    FOLLOWING,
    NETWORK,
    REFINED,
    Candidate,
    Evidence,
    chosen,
    corrects,
    predicted_iou,
)
from bundle.interactive.slice_model import SliceMask

ALIKE = Evidence(agreement=0.9, sure=(0.8, 0.6, 0.8), detail=1.0, outgrown=False)


def candidate(*sizes: int, iou: float = 0.5) -> Candidate:
    """An object of so many pixels on each slice from 0 on."""
    masks = [np.arange(10)[None] < size for size in sizes]
    return Candidate({i: SliceMask(mask, iou=iou + 0.1 * i) for i, mask in enumerate(masks)}, 0.0)


@pytest.mark.parametrize(
    ("sure", "detail", "way"),
    [
        ((0.8, 0.6, 0.8), 1.0, FOLLOWING),
        ((0.8, 0.99, 0.805), 1.0, FOLLOWING),
        ((0.7, 0.6, 0.8), 1.2, REFINED),
        ((0.7, 0.5, 0.8), 0.9, NETWORK),
        ((0.7, 0.4, 0.8), 0.9, FOLLOWING),
        ((0.8, 0.6, 0.7), 0.3, FOLLOWING),
    ],
)
def test_the_model_of_slices_judges_which_answer_is_taken(sure, detail, way):
    assert chosen(replace(ALIKE, sure=sure, detail=detail)) == way


def test_the_predicted_iou_counts_each_slice_by_its_voxels():
    assert predicted_iou(candidate(1, 3).answers) == pytest.approx((0.5 + 3 * 0.6) / 4)
    assert predicted_iou(candidate(0, 0).answers) == 0


def test_the_overlap_counts_slices_that_only_one_has():
    assert candidate(2, 4).overlap(candidate(2)) == pytest.approx(2 / 6)
    assert candidate(2, 4).overlap(candidate(2, 4)) == 1
    assert candidate(0).overlap(candidate(0)) == 0


@pytest.mark.parametrize(
    ("network", "sure", "answers"),
    [
        (0.90, 0.88, True),  # the network is the surer
        (0.88, 0.92, True),  # about as sure
        (0.77, 0.89, False),  # the object is outlined well
        (0.65, 0.77, True),  # it is not, and the network believes in its answer
        (0.40, 0.77, False),  # it does not
        (0.40, 0.42, True),  # nobody is sure
        (0.02, 0.0, False),  # the object is empty by now
        (0.60, 0.0, True),
    ],
)
def test_who_is_surer_answers_a_correction(network, sure, answers):
    assert corrects(network, sure) == answers
