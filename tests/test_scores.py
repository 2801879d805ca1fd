"""What a model's answers about an image are worth to someone who has to choose."""

from __future__ import annotations

import json

import numpy as np
import pytest
from session_room import SHAPE, open_session, volume

from bundle.active.asking import ANYTHING, Committee, ask
from bundle.active.places import mean_places, places_of
from bundle.active.scores import FEATURES, ImageScores, StructureScores, binary_entropy, score_image, summarised


def predictor():
    return open_session().predictor


def left_place():
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:9, 4:14, 2:10] = 1
    return mean_places([places_of(volume(), labels, {1: "left"})])


def test_each_structure_is_asked_on_slices_where_labelled_images_have_it():
    committees = ask(volume(), predictor(), left_place(), members=3)
    assert {one.name for one in committees} == {"left"} and len(committees) == 3
    assert all(2 <= one.index < 10 and one.probabilities.shape[0] == 3 for one in committees)
    found = committees[0].mean > 0.5
    assert found.sum() > 30


def test_without_labelled_images_points_find_each_object_once():
    committees = ask(volume(), predictor(), {})
    assert [one.name for one in committees] == [ANYTHING] * 2
    assert not ((committees[0].mean > 0.5) & (committees[1].mean > 0.5)).any()


def test_an_image_without_an_object_has_no_doubt_and_no_slice():
    scores = score_image(volume(np.zeros(SHAPE, bool)), predictor(), {})
    assert scores.structures == {} and scores.slice is None
    assert (scores.doubt, scores.entropy, scores.foreground) == (0, 0, 0)


def test_the_same_image_has_the_same_scores():
    first, second = (score_image(volume(), predictor(), left_place(), seed=3) for _ in range(2))
    assert first == second and len(first.features) == FEATURES


def test_progress_is_told_before_each_question_and_may_end_it():
    asked = []

    def enough():
        asked.append(1)
        if len(asked) > 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        score_image(volume(), predictor(), left_place(), progress=enough)
    assert len(asked) == 3


def committee(*members, name="liver", index=4, iou=0.9):
    return Committee(name, index, np.array(members, np.float32), [iou] * len(members))


def test_answers_that_are_sure_and_agree_have_no_doubt():
    sure = np.array([[1.0, 0.0], [1.0, 0.0]])
    found = summarised([committee(sure, sure, iou=1.0)], "model", np.ones(8)).structures["liver"]
    assert found.entropy == pytest.approx(0, abs=1e-4) and found.doubt == pytest.approx(0, abs=1e-6)
    assert found.foreground == 0.5


def test_answers_that_contradict_each_other_disagree():
    one, other = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    found = summarised([committee(one, one, other)], "model", np.ones(8)).structures["liver"]
    assert found.disagreement == pytest.approx(1 / 3)
    assert found.entropy == pytest.approx(float(binary_entropy(np.array([2 / 3])).mean()), abs=1e-5)


def test_the_slice_to_look_at_is_that_of_greatest_doubt():
    sure, torn = committee(np.ones((2, 2)), index=1), committee(np.ones((2, 2)), index=7, iou=0.2)
    assert summarised([sure, torn], "model", np.ones(8)).slice == 7


def test_entropy_is_one_bit_where_nothing_is_known():
    assert binary_entropy(np.array([0.5, 0.0, 1.0])) == pytest.approx([1, 0, 0], abs=1e-5)


def some_scores() -> ImageScores:
    return summarised([committee(np.full((3, 3), 0.6))], "model", np.arange(12.0))


def test_scores_come_back_from_an_index_as_they_were():
    stored = json.loads(json.dumps(some_scores().to_json(), allow_nan=False))
    again = ImageScores.from_json(stored)
    assert again.to_json() == some_scores().to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"model": 5},
        {"structures": [1]},
        {"structures": {"liver": {"entropy": 1}}},
        {"structures": {"liver": dict.fromkeys(StructureScores.__dataclass_fields__, "high")}},
        {"features": [1, 2]},
        {"features": ["a"] * FEATURES},
        {"features": [float("nan")] * FEATURES},
    ],
)
def test_what_a_client_wrote_in_the_place_of_scores_is_none(change):
    assert ImageScores.from_json({**some_scores().to_json(), **change}) is None


@pytest.mark.parametrize("value", [None, 3, "scores", [], {}])
def test_nothing_is_no_scores(value):
    assert ImageScores.from_json(value) is None
