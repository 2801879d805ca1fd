"""What a click changes on its slice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bundle.interactive.correction import corrected, taken_over, touching
from bundle.interactive.slice_model import SliceMask, SlicePrompt
from bundle.transforms.placement import Placement

SIDE = 32


def rectangle(x0, y0, x1, y1) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def answer(mask: np.ndarray, iou: float = 0.8, *, size: int = SIDE) -> SliceMask:
    """As a network gives it that sees the slice in a square of its size, or of another."""
    placement = Placement.of(SIDE, SIDE, size=size)
    logits = torch.where(torch.from_numpy(mask), 8.0, -8.0)[None, None]
    return SliceMask(mask, placement.logits_to_square(logits, size)[0, 0], iou, placement)


class Says:
    """A network that gives one answer to a prompt with a box, another to one without; remembers what it was asked."""

    def __init__(self, boxed: SliceMask, boxless: SliceMask | None = None):
        self.boxed, self.boxless = boxed, boxless or boxed
        self.asked: list[SlicePrompt] = []

    def __call__(self, prompt: SlicePrompt) -> SliceMask:
        self.asked.append(prompt)
        return self.boxless if prompt.box is None else self.boxed


def click(x: int, y: int, label: int, before: SliceMask | None) -> SlicePrompt:
    return SlicePrompt(np.array([[x, y]], float), np.array([label]), np.array([2.0, 2, 29, 29]), before)


def correct(
    says: Says, x: int, y: int, label: int, before: SliceMask | None, *, fits=True, may_empty=True
) -> SliceMask:
    return corrected(says, click(x, y, label, before), before, fits=lambda _: fits, may_empty=may_empty)


def test_the_network_is_asked_with_the_answer_so_far_and_corrects_it():
    before, after = answer(rectangle(4, 4, 20, 20)), answer(rectangle(4, 4, 12, 20))
    says = Says(after)
    assert correct(says, 18, 12, 0, before) is after
    assert says.asked[0].previous is before and says.asked[0].box is not None


@pytest.mark.parametrize("iou, better", [(0.9, True), (0.7, False)])
def test_a_click_on_what_is_right_counts_where_the_network_is_surer_with_it(iou, better):
    before, after = answer(rectangle(4, 4, 20, 20)), answer(rectangle(4, 4, 22, 20), iou)
    assert correct(Says(after), 10, 10, 1, before) is (after if better else before)


@pytest.mark.parametrize("label", [0, 1])
def test_the_pixel_of_a_click_is_what_the_user_says_even_if_the_network_overlooks_it(label):
    before = answer(rectangle(4, 4, 20, 20))
    x = 19 if label == 0 else 23
    result = correct(Says(before), x, 12, label, before, fits=False)
    assert result.mask[12, x] == bool(label) and np.count_nonzero(result.mask ^ before.mask) == 1
    assert before.mask[12, x] != bool(label)  # the answer from before is not touched


def test_what_the_network_overlooks_in_a_box_it_is_asked_without_one():
    before, without = answer(rectangle(4, 4, 20, 20)), answer(rectangle(4, 4, 18, 20))
    assert correct(Says(before, without), 20, 12, 0, before) is without


def test_a_click_in_the_middle_empties_a_slice_on_which_little_is_left():
    before, part = answer(rectangle(4, 4, 20, 20)), answer(rectangle(4, 4, 8, 20), 0.3)
    assert not correct(Says(before, part), 12, 12, 0, before).mask.any()
    assert correct(Says(part, part), 19, 12, 0, before) is part  # at the edge: of the object, but not there
    assert correct(Says(part, part), 12, 12, 0, before, may_empty=False) is part


def test_a_click_in_the_middle_empties_no_slice_where_the_network_is_sure_of_what_is_left():
    before, part, nothing = (answer(rectangle(4, 4, x, 20), iou) for x, iou in ((20, 0.8), (8, 0.7), (-1, 0.9)))
    assert correct(Says(before, part), 12, 12, 0, before).mask.any()
    assert not correct(Says(before, nothing), 12, 12, 0, before).mask.any()


def test_a_click_at_the_edge_empties_a_slice_only_if_the_network_finds_nothing_in_the_box_either():
    before, part, nothing = (answer(rectangle(4, 4, x, 20)) for x in (20, 18, -1))
    assert correct(Says(part, nothing), 20, 12, 0, before) is part
    assert not correct(Says(nothing), 20, 12, 0, before).mask.any()


def test_a_piece_beside_a_wrong_answer_is_found_by_its_click_alone():
    before, piece = answer(rectangle(2, 2, 8, 8)), answer(rectangle(20, 20, 26, 26), 0.9)
    both = answer(rectangle(2, 2, 26, 26), 0.5)
    result = correct(Says(both, piece), 23, 23, 1, before)
    assert np.array_equal(result.mask, before.mask | piece.mask)
    assert correct(Says(both, piece), 23, 23, 1, before, fits=False) is both  # too large for this object
    assert correct(Says(both, piece), 23, 23, 1, None) is piece


def test_a_change_is_what_hangs_together_with_the_change_before():
    changed = rectangle(2, 2, 5, 5) | rectangle(20, 20, 25, 25)
    assert np.array_equal(touching(changed, rectangle(6, 6, 7, 7)), rectangle(2, 2, 5, 5))
    assert not touching(changed, rectangle(10, 10, 12, 12)).any()
    assert not touching(changed, np.zeros_like(changed)).any()


@pytest.mark.parametrize("size", [SIDE, 2 * SIDE])
def test_what_is_taken_over_is_taken_over_as_logits_too(size):
    before, after = answer(rectangle(4, 4, 20, 20)), answer(rectangle(10, 4, 28, 20), 0.6, size=size)
    where = rectangle(21, 0, 31, 31)
    result = taken_over(before, after, where)
    wanted = rectangle(4, 4, 28, 20)
    assert np.array_equal(result.mask, wanted) and result.iou == 0.6
    logits = result.placement.logits_to_slice(result.logits[None, None])[0, 0]
    assert np.array_equal(logits.numpy() > 0, wanted)
