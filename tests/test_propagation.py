"""How a slice's answer travels to its neighbours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bundle.families.family import list_families, load_family
from bundle.interactive.propagation import IntensityProfile, PropagationRule, propagate
from bundle.interactive.slice_model import SliceMask, SlicePrompt
from bundle.networks.interface import PROPAGATED


def disc(radius: float, centre=(16, 16)) -> SliceMask:
    y, x = np.mgrid[:32, :32]
    return SliceMask(np.hypot(x - centre[0], y - centre[1]) <= radius, torch.zeros(8, 8), 0.9)


class Cone:
    """A cone with its tip at slice 0 and its base at slice 20; remembers what it was asked."""

    def __init__(self):
        self.asked: dict[int, SlicePrompt] = {}

    def __call__(self, index: int, prompt: SlicePrompt) -> SliceMask:
        self.asked[index] = prompt
        return disc(index / 2) if 0 < index <= 20 else SliceMask(np.zeros((32, 32), bool), torch.zeros(8, 8), 0.1)


def test_the_object_is_followed_until_it_ends():
    cone = Cone()
    answers = propagate({15: disc(7.5)}, cone, first=0, last=31)
    assert max(answers) == 20 and min(answers) <= 4
    assert 22 not in cone.asked  # it stopped at the first empty slice


def test_the_range_is_kept():
    cone = Cone()
    assert set(propagate({15: disc(7.5)}, cone, first=13, last=16)) == {13, 14, 15, 16}
    assert set(cone.asked) == {13, 14, 16}


def test_two_seeds_meet_in_the_middle():
    cone = Cone()
    answers = propagate({5: disc(2.5), 10: disc(5)}, cone, first=5, last=10)
    assert set(answers) == set(range(5, 11))
    # Slice 7 comes from below and is asked with the small box of slice 6, slice 8 from above with the large of slice 9.
    assert np.ptp(cone.asked[7].box[[0, 2]]) < np.ptp(cone.asked[8].box[[0, 2]])


def test_a_sudden_change_is_the_end():
    answers = propagate({0: disc(8)}, lambda index, prompt: disc(8, centre=(28, 28)), first=0, last=5)
    assert set(answers) == {0}


def test_the_object_may_wander_but_not_swell():
    # A network that always fills its box: without a cap it would leak further with every slice.
    def fill(index: int, prompt: SlicePrompt) -> SliceMask:
        x0, y0, x1, y1 = prompt.box.round().astype(int)
        mask = np.zeros((32, 32), bool)
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
        return SliceMask(mask, torch.zeros(8, 8), 0.9)

    seed = fill(0, SlicePrompt(box=np.array([10.0, 10.0, 20.0, 20.0])))
    answers = propagate({0: seed}, fill, first=0, last=20)
    widest = max(answer.mask.any(axis=0).sum() for answer in answers.values())
    assert len(answers) == 21 and widest <= 1.15 * 11 + 1


def test_boxes_stay_in_the_users_box():
    prompt = PropagationRule(margin=0.06).next_prompt(disc(8), np.array([10.0, 4.0, 20.0, 30.0]))
    np.testing.assert_allclose(prompt.box, [10.0, 6.98, 20.0, 25.02], atol=0.01)


def test_answers_stay_in_the_users_box():
    answers = propagate({0: disc(8)}, lambda index, prompt: disc(8), first=0, last=2, limit=np.array([10, 4, 20, 30]))
    columns = np.flatnonzero(answers[2].mask.any(axis=0))
    assert (columns[0], columns[-1]) == (10, 20)


@pytest.mark.parametrize("propagated", [("box",), ("mask",), ("box", "mask")])
def test_the_next_slice_is_asked_with_what_the_network_was_trained_with(propagated):
    prompt = PropagationRule(propagated=propagated).next_prompt(disc(8), None)
    assert (prompt.box is not None, prompt.previous is not None) == ("box" in propagated, "mask" in propagated)


def test_no_family_is_asked_through_a_volume_with_what_it_was_not_trained_with():
    for name in list_families():
        family = load_family(name)
        if "none" not in family.prompts:
            assert set(family.network_def.get("propagated", PROPAGATED)) <= set(family.prompts), name


def test_an_empty_mask_has_no_next_prompt():
    assert PropagationRule().next_prompt(SliceMask(np.zeros((4, 4), bool), torch.zeros(1, 1), 0.0), None) is None


def graded(index: int) -> np.ndarray:
    """A noisy object of shade 100 that grows darker by 1 a slice up to slice 9, where its neighbour of 160 begins."""
    return np.random.default_rng(index).normal(160 if index > 9 else 100 - index, 10, (32, 32))


def test_another_shade_is_the_end_although_a_mask_is_found():
    answers = propagate({0: disc(8)}, lambda index, prompt: disc(8), first=0, last=20, picture=graded)
    assert max(answers) == 9


def test_between_two_seeds_no_shade_ends_the_object():
    seeds = {0: disc(8), 14: disc(8)}
    answers = propagate(seeds, lambda index, prompt: disc(8), first=0, last=14, picture=graded)
    assert set(answers) == set(range(15))


def test_a_shade_is_the_median_and_tissue_is_never_quite_even():
    picture = np.where(disc(8).mask, 50.0, 0.0)
    shade = IntensityProfile.of(picture, disc(8).mask)
    assert shade == IntensityProfile(50.0, 0.5)
    assert shade.differs(IntensityProfile(53.0, 0.5), 4) and not shade.differs(IntensityProfile(51.0, 0.5), 4)
    assert IntensityProfile.of(picture, np.zeros((32, 32), bool)) is None and not shade.differs(None, 4)
    assert IntensityProfile.of(np.stack([picture] * 3, axis=2), disc(8).mask) == shade


@pytest.mark.parametrize(
    ("before", "after", "changed", "fades"),
    [
        (0.80, 0.80, 20, False),
        (0.80, 0.80, 21, True),  # twice as many pixels as on the slice that was corrected, and no surer
        (0.80, 0.83, 100, False),  # surer
        (0.80, 0.76, 5, False),
        (0.80, 0.74, 5, True),  # less sure
    ],
)
def test_a_correction_is_carried_on_by_what_the_network_says_of_it(before, after, changed, fades):
    rule, was, now = PropagationRule(), replace(disc(8), iou=before), replace(disc(7), iou=after)
    assert rule.fades(was, now, changed, 10) is fades


def test_where_a_correction_leaves_nothing_the_number_of_pixels_says_whether_it_is_carried_on():
    nothing = SliceMask(np.zeros((32, 32), bool), torch.zeros(8, 8), 0.1)
    rule = PropagationRule()
    assert not rule.fades(disc(8), nothing, 20, 10) and rule.fades(disc(8), nothing, 21, 10)
