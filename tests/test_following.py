"""An object that is followed through a volume, and corrected there."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from bundle.data.synthetic.phantom import PHANTOM_LABELS, make_phantom
from bundle.interactive.following import Followed, Follower
from bundle.interactive.propagation import PropagationRule
from bundle.interactive.slice_model import SliceInteraction, SliceMask, SlicePrompt
from bundle.interactive.sliced import SlicedInteraction
from bundle.prompts.interactions import Box, Point
from bundle.prompts.simulation import error_voxel, tight_box

SIDE, DEPTH = 32, 24


def disc(radius: float, centre=(16, 16)) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.hypot(x - centre[0], y - centre[1]) <= radius


class Scene:
    """Slices of bright regions, and a network that answers what is bright in the box, or around the point.

    A region with a point off the object is left out. Remembers what was asked.
    """

    def __init__(self, *regions: dict[int, np.ndarray], iou=lambda index: 0.9):
        self.regions, self.iou = regions, iou
        self.asked: list[tuple[int, SlicePrompt]] = []

    def __call__(self, index: int, prompt: SlicePrompt) -> SliceMask:
        self.asked.append((index, prompt))
        here = [region[index] for region in self.regions if index in region]
        denied, on_it = (
            [tuple(np.rint(xy).astype(int)) for xy in prompt.points[prompt.point_labels == k]] for k in (0, 1)
        )
        here = [region for region in here if not any(region[y, x] for x, y in denied)]
        if prompt.box is None and prompt.previous is None:
            here = [region for region in here if any(region[y, x] for x, y in on_it)]
        mask = np.any(here, axis=0) if here else np.zeros((SIDE, SIDE), bool)
        if prompt.box is not None:
            x0, y0, x1, y1 = np.rint(prompt.box).astype(int)
            inside = np.zeros_like(mask)
            inside[y0 : y1 + 1, x0 : x1 + 1] = True
            mask = mask & inside
        return SliceMask(mask, torch.zeros(8, 8), self.iou(index))


TUBE = {index: disc(7) for index in range(4, 20)}
BESIDE = {index: disc(3, centre=(27, 16)) for index in range(4, 20)}


def box(first: int, last: int, x0: float, y0: float, x1: float, y1: float) -> SlicedInteraction:
    seen = SliceInteraction("box", np.array([[x0, y0], [x1, y1]], float))
    corners = np.array([[y0, x0, first], [y1, x1, last]], float)
    return SlicedInteraction(Box(corners), {index: (seen,) for index in range(first, last + 1)})


def click(index: int, label: int, xy=(16, 16)) -> SlicedInteraction:
    seen = SliceInteraction("point", np.array([xy], float), bool(label))
    return SlicedInteraction(Point(np.array([xy[1], xy[0], index], float), positive=bool(label)), {index: (seen,)})


ON_SLICE = box(10, 10, 9, 9, 23, 23)
POINT = click(10, 1)
IN_BOX = box(4, 19, 9, 9, 30, 23)
STARTS = {"2D box": ON_SLICE, "point": POINT, "3D box": IN_BOX}


def follower(scene: Scene, start: SlicedInteraction, shade=lambda index: 100.0) -> Follower:
    def picture(index: int) -> np.ndarray:
        return np.random.default_rng(index).normal(shade(index), 5, (SIDE, SIDE))

    return Follower(scene, start, depth=DEPTH, rule=PropagationRule(), picture=picture)


def shown(found: Followed) -> set[int]:
    return {index for index in found.answers if found.shows(index)}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_an_object_is_followed_from_any_start(start):
    found = follower(Scene(TUBE), start).begin()
    assert shown(found) == set(TUBE)
    assert all(np.array_equal(found.answers[index].mask, disc(7)) for index in TUBE)


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("index", [6, 15])
def test_an_object_ends_where_a_click_off_it_empties_its_slice(start, index):
    work = follower(Scene(TUBE), start)
    found = work.correct(work.begin(), click(index, 0))
    kept = range(4, index) if index > found.origin else range(index + 1, 20)
    assert shown(found) == set(kept) and not found.answers[index].mask.any()


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_a_click_off_an_object_adds_nothing_to_it(start):
    """Also where the network answers it with something else, there and on the slices that it is carried on to."""
    more = disc(7) | disc(3, centre=(27, 16))
    more[:, 18:20] = False

    def ask(index: int, prompt: SlicePrompt) -> SliceMask:
        is_denied = (prompt.point_labels == 0).any() or (prompt.previous is not None and prompt.previous.mask[16, 27])
        mask = more if is_denied else disc(7)
        return SliceMask(mask if index in TUBE else np.zeros_like(mask), torch.zeros(8, 8), 0.95 if is_denied else 0.9)

    work = follower(ask, start)
    before = work.begin()
    after = work.correct(before, click(12, 0, xy=(19, 16)))
    assert shown(after) == shown(before) == set(TUBE)
    assert all(not (after.answers[index].mask & ~disc(7)).any() for index in TUBE)
    assert not after.answers[12].mask[16, 19] and after.answers[12].mask.any()


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_an_object_ends_where_a_click_off_it_is_answered_with_something_else(start):
    """Nothing of the answer was the object before, so nothing is left on the slice, nor beyond it."""

    def ask(index: int, prompt: SlicePrompt) -> SliceMask:
        is_denied = (prompt.point_labels == 0).any()
        mask = disc(3, centre=(27, 16)) if is_denied else disc(7)
        return SliceMask(mask if index in TUBE else np.zeros_like(mask), torch.zeros(8, 8), 0.9)

    work = follower(ask, start)
    found = work.begin()
    at = 14 if found.origin < 14 else 8
    kept = range(4, at) if at > found.origin else range(at + 1, 20)
    assert shown(work.correct(found, click(at, 0))) == set(kept)


@pytest.mark.parametrize("again", [click(15, 0, xy=(14, 14)), click(15, 0)], ids=["beside", "there"])
def test_a_click_off_the_object_where_it_shows_nothing_takes_nothing_off_beyond(again):
    """It was ended there before, and found again beyond."""
    work = follower(Scene(TUBE), POINT)
    found = work.correct(work.correct(work.begin(), click(15, 0)), click(18, 1))
    assert shown(found) == {*range(4, 15), 16, 17, 18, 19} == shown(work.correct(found, again))


def test_a_click_off_the_object_does_not_end_it_where_it_was_drawn():
    """On a slice that is known to show it, what lies under the click goes, however the network answers."""

    def ask(index: int, prompt: SlicePrompt) -> SliceMask:
        is_denied = (prompt.point_labels == 0).any()
        mask = disc(3, centre=(27, 16)) if is_denied else disc(7)
        return SliceMask(mask if index in TUBE else np.zeros_like(mask), torch.zeros(8, 8), 0.9)

    work = follower(ask, ON_SLICE)
    found = work.correct(work.begin(), click(10, 0, xy=(12, 16)))
    assert shown(found) == set(TUBE) and np.count_nonzero(found.answers[10].mask) == np.count_nonzero(disc(7)) - 1


def test_a_walk_does_not_pass_a_slice_that_a_click_has_emptied():
    work = follower(Scene(TUBE), POINT)
    found = work.correct(work.begin(), click(15, 0))
    beyond = work.correct(found, click(18, 1))
    assert shown(beyond) == {*range(4, 15), 16, 17, 18, 19}  # found again beyond it, not on it
    assert shown(work.correct(found, click(14, 1))) == set(range(4, 15))


def test_a_click_off_an_object_where_it_was_not_found_holds_for_what_follows():
    scene = Scene(TUBE)
    work = follower(scene, POINT, shade=lambda index: 100.0 if index < 14 else 200.0)
    found = work.begin()
    assert shown(found) == set(range(4, 14))
    scene.asked.clear()
    closed = work.correct(found, click(15, 0))
    assert not scene.asked and shown(closed) == shown(found)
    assert shown(work.correct(closed, click(17, 1))) == {*range(4, 14), 16, 17, 18, 19}


def test_a_click_on_the_object_beyond_its_end_finds_it_there_and_in_between():
    scene = Scene(TUBE)
    work = follower(scene, ON_SLICE, shade=lambda index: 100.0 if index < 14 else 200.0)
    found = work.begin()
    scene.asked.clear()
    longer = work.correct(found, click(17, 1))
    assert shown(found) == set(range(4, 14)) and shown(longer) == set(TUBE)
    first = scene.asked[0][1]
    assert first.previous is found.answers[13] and first.box.tolist() == [9, 9, 23, 23]  # what is known, and the point
    assert {index for index, _ in scene.asked} <= set(range(13, 21))


def test_a_correction_is_asked_with_the_answer_so_far_and_the_box_around_both():
    scene = Scene(TUBE, BESIDE)
    work = follower(scene, ON_SLICE)
    found = work.begin()
    scene.asked.clear()
    work.correct(found, click(14, 1, xy=(27, 16)))
    index, prompt = scene.asked[0]
    assert index == 14 and prompt.previous is found.answers[14]
    assert prompt.box.tolist() == [9, 9, 27, 23] and prompt.points.tolist() == [[27, 16]]


def test_a_correction_carries_on_as_far_as_it_changes_something():
    scene = Scene(TUBE, BESIDE)
    work = follower(scene, IN_BOX)
    found = work.begin()
    assert all(found.answers[index].mask[16, 27] for index in TUBE)
    right = work.correct(found, click(7, 0, xy=(27, 16)))
    assert not any(right.answers[index].mask[16, 27] for index in range(4, right.origin))
    assert all(right.answers[index] is found.answers[index] for index in range(right.origin, 20))
    assert all(right.answers[index].mask[16, 16] for index in TUBE)


@pytest.mark.parametrize("label", [0, 1])
def test_only_a_click_on_the_object_is_carried_on_beyond_its_end(label):
    beside = disc(3, centre=(27, 16))
    scene = Scene(TUBE, {index: beside for index in range(4, 16)})
    answers = {
        index: SliceMask(TUBE[index] | (beside & (label == 0)), torch.zeros(8, 8), 0.9) for index in range(8, 14)
    }
    work = follower(scene, IN_BOX)
    found = work.correct(Followed(answers, 10, (IN_BOX,)), click(11, label, xy=(27, 16)))
    assert bool(found.answers[13].mask[16, 27]) is bool(label)
    assert shown(found) == (set(range(8, 20)) if label else set(answers))  # the origin is a bound


def test_a_correction_ends_where_the_network_becomes_unsure_of_it():
    scene = Scene(TUBE, BESIDE)
    work = follower(scene, IN_BOX)
    found = work.begin()
    scene.iou = lambda index: 0.9 if index > 5 else 0.8
    right = work.correct(found, click(7, 0, xy=(27, 16)))
    assert not right.answers[6].mask[16, 27]
    assert all(right.answers[index] is found.answers[index] for index in (4, 5))


def test_a_correction_ends_where_it_would_change_far_more_than_on_its_slice():
    beside = {index: disc(1 if index > 5 else 4, centre=(27, 16)) for index in range(4, 20)}
    work = follower(Scene(TUBE, beside), IN_BOX)
    found = work.begin()
    right = work.correct(found, click(7, 0, xy=(27, 16)))
    assert not right.answers[6].mask[16, 27]
    assert all(right.answers[index] is found.answers[index] for index in (4, 5))


def test_an_object_ends_where_a_correction_that_is_carried_on_empties_a_slice():
    tail = {index: disc(2, centre=(28, 16)) for index in range(12, 20)}
    body = {index: TUBE[index] for index in range(4, 14)}
    masks = {index: body.get(index, False) | tail.get(index, np.zeros((SIDE, SIDE), bool)) for index in range(4, 20)}
    followed = {index: SliceMask(mask, torch.zeros(8, 8), 0.9) for index, mask in masks.items()}
    work = follower(Scene(body, tail), IN_BOX)
    found = work.correct(Followed(followed, 6, (IN_BOX,)), click(12, 0, xy=(28, 16)))
    assert shown(found) == set(body) and found.answers.keys() == body.keys()


def test_a_click_that_changes_nothing_asks_its_slice_alone():
    scene = Scene(TUBE)
    work = follower(scene, POINT)
    found = work.begin()
    scene.asked.clear()
    again = work.correct(found, click(14, 1))
    assert [index for index, _ in scene.asked] == [14]
    assert all(again.answers[index] is found.answers[index] for index in found.answers)


def test_in_a_3d_box_the_walk_begins_where_the_network_is_surest():
    scene = Scene(TUBE, iou=lambda index: 0.9 if index == 8 else 0.6)
    found = follower(scene, IN_BOX).begin()
    assert found.origin == 8
    looked = [index for index, prompt in scene.asked if np.array_equal(prompt.box, IN_BOX.box())]
    assert len(looked) == 5 and min(looked) >= 8 and max(looked) <= 15  # of its middle half


def test_the_other_slices_of_a_3d_box_are_asked_with_boxes_that_fit():
    cone = {index: disc(abs(index - 12) / 2 + 2) for index in range(4, 21)}
    scene = Scene(cone, iou=lambda index: 0.9 if index == 8 else 0.6)
    follower(scene, box(4, 20, 10, 10, 22, 22)).begin()
    (middle,) = [prompt for index, prompt in scene.asked if index == 12 and prompt.previous is not None]
    assert np.ptp(middle.box[[0, 2]]) < 8  # 4 pixels of object, and what the slice before was larger


def test_a_walk_in_a_3d_box_may_grow_up_to_the_box():
    cone = {index: disc(abs(index - 12) / 2 + 2) for index in range(4, 21)}
    found = follower(Scene(cone), box(4, 20, 10, 10, 22, 22)).begin()
    assert all(np.array_equal(found.answers[index].mask, cone[index]) for index in cone)


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_what_was_answered_before_a_click_is_left_as_it_was(start):
    work = follower(Scene(TUBE, BESIDE), start)
    found = work.begin()
    before = {index: answer.mask.copy() for index, answer in found.answers.items()}
    work.correct(work.correct(found, click(6, 0)), click(8, 1, xy=(27, 16)))
    assert found.answers.keys() == before.keys() and found.given == (start,)
    assert all(np.array_equal(found.answers[index].mask, before[index]) for index in before)


def test_a_3d_box_in_which_nothing_is_found_can_still_be_clicked_into():
    scene = Scene({12: disc(3)})
    work = follower(scene, box(2, 17, 9, 9, 23, 23))
    found = work.begin()
    assert shown(found) <= {12}
    assert shown(work.correct(found, click(12, 1))) == {12}


ORGANS = ("liver", "right_kidney", "stomach", "spleen")


@pytest.fixture(scope="module")
def anatomy() -> tuple[dict[int, np.ndarray], ...]:
    """The slices of some organs of a generated patient that is small enough for the scene."""
    labels = make_phantom(shape=(SIDE, SIDE, DEPTH), spacing=(10.0, 9.0, 9.0), seed=1)[1].array
    organs = [labels == PHANTOM_LABELS[name] for name in ORGANS]
    return tuple({k: organ[:, :, k] for k in range(DEPTH) if organ[:, :, k].any()} for organ in organs)


def volume_of(slices: dict[int, np.ndarray]) -> np.ndarray:
    volume = np.zeros((SIDE, SIDE, DEPTH), bool)
    for index, mask in slices.items():
        volume[:, :, index] = mask
    return volume


def started(kind: str, truth: np.ndarray) -> SlicedInteraction:
    """The starts of the challenge: rows are i, columns j."""
    areas = truth.sum(axis=(0, 1))
    largest = int(areas.argmax())
    if kind == "point":
        i, j, k, _ = error_voxel(truth, np.zeros_like(truth))
        return click(int(k), 1, (j, i))
    if kind == "2D box":
        return box(largest, largest, *tight_box(truth[:, :, largest]))
    i0, j0, k0, i1, j1, k1 = tight_box(truth)
    return box(int(k0), int(k1), j0, i0, j1, i1)


@pytest.mark.parametrize("kind", STARTS)
@pytest.mark.parametrize("organ", range(len(ORGANS)), ids=ORGANS)
def test_five_clicks_into_a_generated_anatomy_have_effect_and_do_no_harm(anatomy, organ, kind):
    truth = volume_of(anatomy[organ])
    work = follower(Scene(*anatomy), started(kind, truth))
    found, dsc, masks = work.begin(), [], []
    for _ in range(6):
        masks.append(volume_of({index: answer.mask for index, answer in found.answers.items()}))
        dsc.append(2 * (masks[-1] & truth).sum() / (masks[-1].sum() + truth.sum()))
        wrong = error_voxel(truth, masks[-1])
        if wrong is None:
            break
        i, j, k, label = wrong
        found = work.correct(found, click(int(k), label, (j, i)))
    assert dsc[-1] >= dsc[0] and dsc[-1] > 0.8
    assert not any(np.array_equal(one, other) for one, other in pairwise(masks))
