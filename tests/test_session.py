"""Interactive sessions: prompts in voxel index in, masks on the grid of the volume out."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from fakes import BrightRegionSam, bright_contract

from bundle.data.volume import Volume
from bundle.engines.cache import PreparedCache
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_model import SliceMask, SlicePredictor, SlicePrompt, SliceView
from bundle.prompts.prompts import ObjectPrompts, PromptError


def ball(shape=(40, 36, 30), centre=(14, 20, 15), radius=8.0) -> np.ndarray:
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return np.linalg.norm(grid - np.array(centre), axis=-1) <= radius


def open_session(mask: np.ndarray, affine: np.ndarray | None = None) -> InteractiveSession:
    affine = np.diag([2.0, 2.0, 3.0, 1.0]) if affine is None else affine
    volume = Volume(mask.astype(np.float32) * 100, affine, "CT", None)
    return InteractiveSession(volume, SlicePredictor(BrightRegionSam(), bright_contract(), store=PreparedCache()))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def box_of(mask: np.ndarray) -> np.ndarray:
    where = np.argwhere(mask)
    return np.stack([where.min(axis=0), where.max(axis=0)])


ORIENTATIONS = {
    "RAS": np.diag([2.0, 2.0, 3.0, 1.0]),
    "LPS": np.diag([-2.0, -2.0, 3.0, 1.0]),
    "permuted": np.array([[0, 0, 3.0, 5], [-2.0, 0, 0, 7], [0, 2.0, 0, -9], [0, 0, 0, 1]]),
}


@pytest.mark.parametrize("affine", ORIENTATIONS.values(), ids=ORIENTATIONS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_point_segments_its_slice_in_any_orientation(affine, axis):
    truth = ball()
    result = open_session(truth, affine).segment_slice(
        ObjectPrompts(points=[[14, 20, 15]], point_labels=[1]), axis=axis
    )
    index = (14, 20, 15)[axis]
    assert list(result.scores) == [index]
    assert dice(result.mask.take(index, axis), truth.take(index, axis)) > 0.95
    assert result.mask.sum() == result.mask.take(index, axis).sum()


@pytest.mark.parametrize("affine", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_a_3d_box_segments_the_object_and_stays_inside(affine):
    truth = ball() | ball(centre=(31, 20, 15), radius=5)
    result = open_session(truth, affine).segment_volume(ObjectPrompts(box=box_of(ball())))
    assert dice(result.mask, ball()) > 0.95
    assert not (result.mask & ball(centre=(31, 20, 15), radius=5)).any()


def test_one_point_travels_through_the_volume_until_the_object_ends():
    truth = ball()
    result = open_session(truth).segment_volume(ObjectPrompts(points=[[14, 20, 15]], point_labels=[1]))
    assert dice(result.mask, truth) > 0.9
    assert min(result.scores) >= 7 and max(result.scores) <= 23


def test_another_shade_ends_an_object_that_is_followed_but_not_one_in_a_3d_box():
    truth = ball()
    session = open_session(truth)
    session.volume.array[:, :, 18:] *= 3  # as bright to the network, whose window ends at 100
    followed = session.segment_volume(ObjectPrompts(points=[[14, 20, 15]], point_labels=[1]))
    assert max(followed.scores) == 17
    assert dice(session.segment_volume(ObjectPrompts(box=box_of(truth))).mask, truth) > 0.95


def test_points_on_two_slices_do_not_end_the_object():
    prompts = ObjectPrompts(points=[[14, 20, 14], [14, 20, 17]], point_labels=[1, 1])
    assert dice(open_session(ball()).segment_volume(prompts).mask, ball()) > 0.9


def test_a_click_in_a_3d_box_corrects_what_comes_from_its_middle():
    prompts = ObjectPrompts(points=[[14, 20, 10]], point_labels=[1], box=box_of(ball()))
    result = open_session(ball()).segment_volume(prompts)
    assert {10, 15} <= set(result.scores) and dice(result.mask, ball()) > 0.95


def test_a_background_point_removes_what_it_points_at():
    truth = ball() | ball(centre=(31, 20, 15), radius=5)
    prompts = ObjectPrompts(points=[[31, 20, 15]], point_labels=[0], box=np.array([[0, 0, 15], [39, 35, 15]]))
    result = open_session(truth).segment_slice(prompts)
    assert dice(result.mask[..., 15], ball()[..., 15]) > 0.95


def test_a_slice_seen_before_never_runs_the_encoder():
    session = open_session(ball())
    prompts = ObjectPrompts(points=[[14, 20, 15]], point_labels=[1])
    assert session.segment_slice(prompts).encoded == 1
    assert session.segment_slice(prompts).encoded == 0
    assert session.predictor.network.encoded == 1


def test_more_points_continue_from_the_answer_before():
    session = open_session(ball())
    first = ObjectPrompts(points=[[14, 20, 15]], point_labels=[1])
    second = ObjectPrompts(points=[[14, 20, 15], [15, 20, 15]], point_labels=[1, 1])
    alone = session.segment_slice(first).mask
    corrected = session.segment_slice(second).mask
    assert np.array_equal(session.segment_slice(second).mask, corrected)  # asked again: nothing to compute
    assert np.array_equal(session.segment_slice(first).mask, alone)  # a point taken back: as if it had never been
    assert session.predictor.network.masks_seen == [False, True]


def asked_slices(session: InteractiveSession, monkeypatch) -> list[SlicePrompt]:
    """A list that fills with every prompt that reaches the network."""
    asked, predict = [], session.predictor.predict

    def counted(view: SliceView, prompt: SlicePrompt) -> SliceMask:
        asked.append(prompt)
        return predict(view, prompt)

    monkeypatch.setattr(session.predictor, "predict", counted)
    return asked


@pytest.mark.parametrize("box", [None, box_of(ball())], ids=["points", "box"])
def test_a_further_click_computes_only_the_slices_that_it_changes(box, monkeypatch):
    points, labels = [[14, 20, 15], [14, 20, 20]], [1, 1]
    first = ObjectPrompts(points=points[:1], point_labels=labels[:1], box=box)
    both = ObjectPrompts(points=points, point_labels=labels, box=box)
    session = open_session(ball())
    asked = asked_slices(session, monkeypatch)
    session.segment_volume(first)
    whole = len(asked)
    asked.clear()
    result = session.segment_volume(both)
    assert 0 < len(asked) <= whole // 2  # what lies below the first click is as it was
    assert np.array_equal(result.mask, open_session(ball()).segment_volume(both).mask)
    asked.clear()
    again = session.segment_volume(both)
    assert not asked and again.scores == result.scores and np.array_equal(again.mask, result.mask)


def test_a_click_in_a_3d_box_corrects_the_answer_that_came_from_its_middle(monkeypatch):
    session = open_session(ball())
    asked = asked_slices(session, monkeypatch)
    session.segment_volume(ObjectPrompts(points=[[14, 20, 21]], point_labels=[1], box=box_of(ball())))
    (clicked,) = [prompt for prompt in asked if len(prompt.points)]
    assert clicked.previous.mask.sum() == pytest.approx(ball()[:, :, 21].sum(), rel=0.2)
    low, high = np.split(clicked.box, 2)
    sides = np.ptp(box_of(ball()), axis=0)[:2]
    assert np.all(high - low < sides)  # the ball is smaller there than in its middle


def tube(last: int) -> np.ndarray:
    """A column along k from slice 5 to ``last``."""
    i, j, k = np.ogrid[:40, :36, :30]
    return ((i - 14) ** 2 + (j - 20) ** 2 <= 36) & (k >= 5) & (k <= last)


STARTS = {
    "2D box": {"box": [[8, 14, 10], [20, 26, 10]]},
    "3D box": {"box": [[8, 14, 5], [20, 26, 24]]},
    "point": {"points": [[14, 20, 10]], "point_labels": [1]},
}


def clicked(start: dict, *clicks: tuple[int, int, int, int]) -> ObjectPrompts:
    """Prompts of a start and clicks (i, j, k, label) behind it."""
    points = [*start.get("points", []), *(click[:3] for click in clicks)]
    labels = [*start.get("point_labels", []), *(click[3] for click in clicks)]
    return ObjectPrompts(**{"points": np.reshape(points, (-1, 3)), "point_labels": labels, "box": start.get("box")})


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_a_click_off_the_object_on_any_slice_ends_it_there(start):
    session = open_session(tube(24))
    assert dice(session.segment_volume(clicked(start)).mask, tube(24)) > 0.95
    shorter = session.segment_volume(clicked(start, (14, 20, 20, 0))).mask
    assert not shorter[:, :, 20:].any() and dice(shorter, tube(19)) > 0.95


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_the_same_prompts_give_the_same_answer_and_a_point_taken_back_the_one_before(start):
    clicks = [(14, 20, 20, 0), (15, 20, 23, 1), (12, 20, 7, 1)]
    session = open_session(tube(24))
    masks = [session.segment_volume(clicked(start, *clicks[:count])).mask for count in range(4)]
    assert not np.array_equal(masks[1], masks[2])
    for count in (3, 1, 2, 0):  # taken back, and given again
        assert np.array_equal(session.segment_volume(clicked(start, *clicks[:count])).mask, masks[count])
        assert np.array_equal(open_session(tube(24)).segment_volume(clicked(start, *clicks[:count])).mask, masks[count])
    other = [(14, 20, 22, 0), *clicks[1:]]
    fresh = open_session(tube(24)).segment_volume(clicked(start, *other)).mask
    assert np.array_equal(session.segment_volume(clicked(start, *other)).mask, fresh)


def test_a_point_taken_back_and_given_again_is_not_computed_again(monkeypatch):
    session = open_session(tube(24))
    prompts = [clicked(STARTS["point"], *[(14, 20, 20, 0), (15, 20, 23, 1)][:count]) for count in range(3)]
    session.segment_volume(prompts[2])
    asked = asked_slices(session, monkeypatch)
    for index in (0, 2, 1, 2):
        session.segment_volume(prompts[index])
    assert not asked


def test_a_background_point_that_comes_first_waits_for_the_object():
    start = {"points": [[14, 20, 20], [14, 20, 10]], "point_labels": [0, 1]}
    mask = open_session(tube(24)).segment_volume(clicked(start)).mask
    assert dice(mask, tube(19)) > 0.95


def test_what_was_computed_for_one_object_is_not_answered_for_another(monkeypatch):
    session = open_session(ball())
    asked = asked_slices(session, monkeypatch)
    prompts = {"points": [[14, 20, 15]], "point_labels": [1]}
    session.segment_volume(ObjectPrompts(name="liver", **prompts))
    whole = len(asked)
    session.segment_volume(ObjectPrompts(name="spleen", **prompts))
    assert len(asked) == 2 * whole
    session.reset()
    session.segment_volume(ObjectPrompts(name="spleen", **prompts))
    assert len(asked) == 3 * whole


def test_another_object_starts_anew_and_reset_forgets():
    session = open_session(ball())
    one = ObjectPrompts(points=[[14, 20, 15]], point_labels=[1], name="one")
    more = {"points": [[14, 20, 15], [15, 20, 15]], "point_labels": [1, 1]}
    session.segment_slice(one)
    session.segment_slice(ObjectPrompts(**more, name="two"))
    session.reset("one")
    session.segment_slice(ObjectPrompts(**more, name="one"))
    assert session.predictor.network.masks_seen == [False, False, False]


def test_a_thick_box_without_a_point_is_no_2d_prompt():
    with pytest.raises(PromptError, match="the box covers slices 7 to 23; a 2D prompt needs one slice"):
        open_session(ball()).segment_slice(ObjectPrompts(box=box_of(ball())))


def test_a_point_says_which_slice_of_a_thick_box_is_meant():
    prompts = ObjectPrompts(points=[[14, 20, 12]], point_labels=[1], box=box_of(ball()))
    assert list(open_session(ball()).segment_slice(prompts).scores) == [12]


def test_prompts_outside_the_volume_are_refused():
    with pytest.raises(PromptError, match="lies outside the volume"):
        open_session(ball()).segment_slice(ObjectPrompts(points=[[99, 0, 0]], point_labels=[1]))


def test_two_users_at_once_get_what_they_would_get_alone():
    prompts = {name: ObjectPrompts(box=box_of(ball()), name=name) for name in "abcd"}
    alone = open_session(ball()).segment_volume(prompts["a"]).mask
    session, answers = open_session(ball()), {}
    threads = [
        threading.Thread(target=lambda n=name: answers.update({n: session.segment_volume(prompts[n]).mask}))
        for name in prompts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(answers[name], alone) for name in prompts)
