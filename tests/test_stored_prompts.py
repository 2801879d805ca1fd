"""Prompts in records: written and read again, of slices and volumes."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.evaluation.stored_prompts import prompt_from_json, prompt_to_json, with_points
from bundle.interactive.slice_model import SlicePrompt
from bundle.prompts.interactions import Lasso
from bundle.prompts.prompts import ObjectPrompts
from bundle.prompts.slice_prompts import SliceInteraction

PROMPTS = {
    "slice box": SlicePrompt(box=np.array([1, 2, 30, 40])),
    "slice points": with_points(SlicePrompt(), [[3, 4], [5, 6]], [1, 0]),
    "both on a slice": with_points(SlicePrompt(box=np.array([1, 2, 30, 40])), [[3, 4]], [1]),
    "volume box": ObjectPrompts(box=np.array([[1, 2, 3], [4, 5, 6]])),
    "volume points": with_points(ObjectPrompts(), [[3, 4, 5]], [1]),
    "scribble on a slice": with_points(
        SlicePrompt(interactions=[SliceInteraction("scribble", np.array([[1.0, 2.0], [3.5, 4.0]]))]), [[3, 4]], [0]
    ),
    "lasso in a volume": with_points(ObjectPrompts([Lasso([[1, 1, 4], [9, 1, 4], [5, 8, 4]])]), [[3, 4, 5]], [0]),
    "both in a volume": with_points(ObjectPrompts(box=np.array([[1, 2, 3], [4, 5, 6]])), [[3, 4, 5]], [0]),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_that_is_read_again_is_the_same_of_the_same_kind(name):
    again = prompt_from_json(prompt_to_json(PROMPTS[name]))
    assert type(again) is type(PROMPTS[name]) and prompt_to_json(again) == prompt_to_json(PROMPTS[name])
    assert [one.kind for one in again.interactions] == [one.kind for one in PROMPTS[name].interactions]


def test_an_empty_prompt_survives_storing():
    assert prompt_to_json(prompt_from_json(prompt_to_json(SlicePrompt())))["points"] == []


def test_padding_is_no_point_and_the_box_stays():
    prompt = with_points(ObjectPrompts(box=np.array([[1, 2, 3], [4, 5, 6]])), [[1, 2, 3], [0, 0, 0]], [1, -1])
    assert prompt.points.tolist() == [[1, 2, 3]] and prompt.point_labels.tolist() == [1]
    assert prompt.box.tolist() == [[1, 2, 3], [4, 5, 6]]
