"""The prompts of a slice, what holds in an answer, and what a network is asked instead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bundle.prompts.slice_prompts import SliceInteraction, SliceMask, SlicePrompt
from bundle.prompts.translation import translated
from bundle.transforms.placement import Placement

SIDE = 32
LINE = np.array([[4.0, 10], [20, 10]])
SQUARE = np.array([[4.0, 4], [14, 4], [14, 14], [4, 14]])


def rectangle(x0, y0, x1, y1) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def answer(mask: np.ndarray) -> SliceMask:
    placement = Placement.of(SIDE, SIDE, size=SIDE)
    return SliceMask(mask, torch.where(torch.from_numpy(mask), 3.0, -3.0), 0.8, placement)


def drawn(kind: str, xy=SQUARE, *, positive=True) -> SliceInteraction:
    if kind == "box":
        xy = np.array([[4.0, 4], [14, 14]])
    area = rectangle(4, 4, 14, 14)[4:15, 4:15] if kind == "mask" else None
    return SliceInteraction(kind, xy[:1] if kind == "mask" else xy, positive, area)


ENCLOSING = ("box", "lasso", "mask")


@pytest.mark.parametrize("kind", ENCLOSING)
def test_what_is_enclosed_off_the_object_is_not_in_the_answer(kind):
    prompt = SlicePrompt(interactions=[drawn(kind, positive=False)])
    held = prompt.honoured(answer(rectangle(0, 0, 20, 20)))
    assert np.array_equal(held.mask, rectangle(0, 0, 20, 20) & ~rectangle(4, 4, 14, 14))
    assert np.array_equal(held.slice_logits()[0, 0].numpy() > 0, held.mask)  # nor in what is carried on


@pytest.mark.parametrize("positive", [True, False])
def test_the_pixels_of_a_scribble_are_what_the_user_says(positive):
    before = answer(rectangle(10, 0, 31, 31))
    held = SlicePrompt(interactions=[SliceInteraction("scribble", LINE, positive)]).honoured(before)
    assert (held.mask[10, 4:21] == positive).all() and np.array_equal(held.mask[11:], before.mask[11:])


def test_a_lasso_holds_as_drawn_only_where_the_network_leaves_less_than_half_of_it():
    prompt = SlicePrompt(interactions=[drawn("lasso")])
    much, little = answer(rectangle(5, 5, 13, 13)), answer(rectangle(5, 5, 7, 13))
    assert prompt.honoured(much) is much
    assert prompt.honoured(little).mask[4:15, 4:15].all()


def test_of_two_interactions_in_one_place_the_later_one_holds():
    scribble, lasso = SliceInteraction("scribble", LINE), drawn("lasso", positive=False)
    last_on = SlicePrompt(interactions=[lasso, scribble]).honoured(answer(rectangle(0, 0, 31, 31))).mask
    last_off = SlicePrompt(interactions=[scribble, lasso]).honoured(answer(rectangle(0, 0, 31, 31))).mask
    assert last_on[10, 4:21].all() and not last_off[10, 4:15].any() and last_off[10, 15:].all()


def test_a_mask_is_its_own_answer_and_starts_anew_what_comes_before_it():
    off = SliceInteraction("point", np.array([[8.0, 8]]), positive=False)
    prompt = SlicePrompt(interactions=[off, drawn("mask")])
    given = prompt.given(SIDE, SIDE)
    assert np.array_equal(given.mask, rectangle(4, 4, 14, 14)) and given.iou == 1
    assert prompt.honoured(given) is given
    assert SlicePrompt(interactions=[drawn("mask"), off]).given(SIDE, SIDE) is None


def test_a_scribble_becomes_points_along_it():
    off = SliceInteraction("scribble", LINE, positive=False)
    asked = translated(
        SlicePrompt(interactions=[SliceInteraction("scribble", LINE), off]), SIDE, SIDE, scribble_points=4
    )
    assert asked.points[:4].tolist() == [[6, 10], [10, 10], [14, 10], [18, 10]]
    assert asked.point_labels.tolist() == [1] * 4 + [0] * 4 and asked.box is None and asked.previous is None


def test_a_dot_drawn_as_a_scribble_is_one_point():
    dot = SliceInteraction("scribble", np.array([[3.0, 5]]))
    assert translated(SlicePrompt(interactions=[dot]), SIDE, SIDE).points.tolist() == [[3, 5]]


def test_a_lasso_around_the_object_becomes_its_area_and_the_box_around_it():
    asked = translated(SlicePrompt(interactions=[drawn("lasso")]), SIDE, SIDE)
    assert np.array_equal(asked.previous.mask, rectangle(4, 4, 14, 14)) and asked.box.tolist() == [4, 4, 14, 14]
    further = translated(
        SlicePrompt(interactions=[drawn("lasso")], previous=answer(rectangle(20, 4, 25, 9))), SIDE, SIDE
    )
    assert further.box.tolist() == [4, 4, 25, 14] and further.previous.mask[6, 22] and further.previous.mask[10, 10]


@pytest.mark.parametrize("kind", ENCLOSING)
def test_what_is_enclosed_off_the_object_leaves_the_mask_prompt_and_becomes_a_point(kind):
    prompt = SlicePrompt(interactions=[drawn(kind, positive=False)], previous=answer(rectangle(10, 10, 25, 25)))
    asked = translated(prompt, SIDE, SIDE)
    assert not (asked.previous.mask & rectangle(4, 4, 14, 14)).any() and asked.previous.mask[20, 20]
    (x, y), (label,) = asked.points[0].astype(int), asked.point_labels
    assert label == 0 and rectangle(10, 10, 14, 14)[y, x]


def test_an_area_that_the_answer_so_far_knows_is_not_drawn_into_it_again():
    click = SliceInteraction("point", np.array([[20.0, 20]]))
    prompt = SlicePrompt(interactions=[drawn("lasso"), click], previous=answer(rectangle(4, 4, 9, 9)))
    assert translated(prompt, SIDE, SIDE).previous is prompt.previous
    assert prompt.around().tolist() == [4, 4, 20, 20]


def test_points_and_one_box_pass_as_they_are():
    prompt = SlicePrompt(np.array([[1.0, 2]]), np.array([1]), np.array([0.0, 0, 9, 9]), answer(rectangle(1, 1, 5, 5)))
    assert translated(prompt, SIDE, SIDE) is prompt


def test_a_network_without_mask_prompts_gets_the_box_around_the_mask():
    prompt = SlicePrompt(np.array([[1.0, 2]]), np.array([1]), previous=answer(rectangle(6, 7, 15, 16)))
    asked = translated(prompt, SIDE, SIDE, understood=("point", "box"))
    assert asked.previous is None and asked.box.tolist() == [6, 7, 15, 16]


def test_one_prompt_continues_another_only_with_all_that_it_has():
    one = SlicePrompt(interactions=[SliceInteraction("scribble", LINE)])
    more = one.with_points(np.array([[1.0, 1]]), np.array([1]))
    assert more.continues(one) and not one.continues(more) and one.continues(replace(one))
    assert not SlicePrompt(interactions=[SliceInteraction("scribble", LINE + 1)]).continues(one)
