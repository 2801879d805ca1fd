"""Which answer to a start is taken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bundle.interactive.candidates import (
    FOLLOWING,
    NETWORK,
    REFINED,
    TOGETHER,
    Candidate,
    Evidence,
    chosen,
    corrects,
    predicted_iou,
    share_of_network,
    together,
)
from bundle.interactive.slice_model import SliceMask
from bundle.transforms.placement import Placement

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


@pytest.mark.parametrize(
    ("boxed", "agreement", "sure", "way"),
    [
        (True, 0.6, (0.8, 0.6, 0.8), TOGETHER),
        (False, 0.6, (0.8, 0.6, 0.8), FOLLOWING),  # nobody said how far it reaches
        (True, 0.1, (0.8, 0.6, 0.8), FOLLOWING),  # they are two objects
        (True, 0.1, (0.7, 0.6, 0.8), FOLLOWING),  # even where the model of slices is surer of the other one
        (False, 0.1, (0.7, 0.6, 0.8), NETWORK),  # which without a box is the better one
        (True, 0.6, (0.8, 0.4, 0.8), FOLLOWING),  # the network does not believe in its answer
        (True, 0.6, (0.7, 0.6, 0.8), NETWORK),  # following went astray
    ],
)
def test_in_a_3d_box_both_answers_count_where_they_show_the_same_object(boxed, agreement, sure, way):
    assert chosen(replace(ALIKE, boxed=boxed, agreement=agreement, sure=sure)) == way


@pytest.mark.parametrize(
    ("ends", "share"),
    [
        ((1, 3), 1 / 2),  # the box cuts it off on both sides
        ((1, 4), 1 / 3),  # on slice 4 it ends
        ((0, 3), 1 / 3),  # slice 0 is the first of the volume, or the user's limit
        ((1, 5), 1 / 3),  # slice 5 is the last
    ],
)
def test_the_network_counts_as_much_where_the_box_cuts_off_what_was_followed(ends, share):
    followed = candidate(4, 4, 8, 4, 2, 4).answers
    assert share_of_network(followed, ends, limits=(0, 5)) == share


def test_the_mean_of_both_drops_what_one_is_unsure_of_and_the_other_does_not_see():
    """Followed: three pixels of certainty, one pixel of 0.6, one of 0.4 that is not in the mask."""
    probability = torch.zeros(10, 10)
    probability[0, :5] = torch.tensor([1, 1, 1, 0.6, 0.4])
    placement = Placement.of(1, 10, size=10)
    one = SliceMask(probability[:1].numpy() > 0.5, torch.logit(probability, eps=1e-6), iou=0.7, placement=placement)
    seen = np.array([[1, 0, 1, 0.2, 0.9, 1, 0, 0, 0, 0]], dtype=np.float32)
    found = together({4: one, 5: candidate(2).answers[0]}, {4: seen, 6: seen}, 1 / 3)
    assert found[4].mask[0, :6].tolist() == [True, True, True, False, True, False]
    assert found[4].iou == 0.7
    assert found[5].mask.sum() == 2 and 6 not in found  # certain where the other sees nothing; no slice is added


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
