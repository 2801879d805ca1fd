"""Batch inference: cases asked of a network."""

from __future__ import annotations

import numpy as np
import pytest
from batch_room import FAMILY, SHAPE, bright_case, two_bars
from fakes import BrightRegionSam
from torch import nn

from bundle.batch.case_files import CaseFiles
from bundle.batch.cases import CaseError, FailedCase
from bundle.batch.workflow import PromptInferer, slices_of
from bundle.evaluation.metrics import evaluate_label_map
from bundle.interactive.segmenter import Segmenter
from bundle.networks.interface import ModelSpec
from bundle.prompts.label_boxes import boxes_of_label
from bundle.prompts.prompts import ObjectPrompts, PromptError

# ---- asking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_boxes_of_a_label_find_its_objects(dimension, axis):
    names = {"bar": 1, "block": 3}
    boxes = boxes_of_label(two_bars(), names, dimension=dimension, axis=axis)
    result = PromptInferer(FAMILY, dimension=dimension, axis=axis, device="cpu")(bright_case(boxes), BrightRegionSam())
    scores = evaluate_label_map(result.labels, two_bars(), spacing=(1, 1, 2), labels=names)
    assert min(score.dsc for score in scores) > 0.8
    assert [(row.name, row.label) for row in result.objects] == [("bar", 1), ("block", 3)]
    assert [row.voxels for row in result.objects] == [np.count_nonzero(result.labels == value) for value in (1, 3)]


def test_a_flat_prompt_is_followed_in_3d_and_stays_on_its_slice_in_2d():
    prompt = ObjectPrompts(box=np.array([[4, 6, 4], [17, 19, 4]]), name="bar")
    slices = {}
    for dimension in (2, 3):
        result = PromptInferer(FAMILY, dimension=dimension, device="cpu")(bright_case([prompt]), BrightRegionSam())
        slices[dimension] = np.flatnonzero(result.labels.any(axis=(0, 1))).tolist()
        assert result.objects[0].slices == len(slices[dimension])
    assert slices == {2: [4], 3: list(range(2, 16))}


def test_answers_are_bounded_and_cleaned_as_asked():
    prompt = ObjectPrompts(box=np.array([[4, 6, 4], [17, 19, 4]]), name="bar")
    found = {}
    for name, options in {"all": {}, "some": {"limits": [3, 8]}, "smooth": {"smoothing_mm": 2.0}}.items():
        result = PromptInferer(FAMILY, device="cpu", **options)(bright_case([prompt]), BrightRegionSam())
        found[name] = result.labels > 0
    assert np.array_equal(found["some"], found["all"] & ((np.arange(SHAPE[2]) >= 3) & (np.arange(SHAPE[2]) <= 8)))
    assert 0 < np.count_nonzero(found["smooth"]) < np.count_nonzero(found["all"])


def test_limits_that_do_not_fit_the_image_are_a_failed_case():
    prompt = ObjectPrompts(box=np.array([[4, 6, 4], [17, 19, 4]]), name="bar")
    found = PromptInferer(FAMILY, device="cpu", limits=[0, 999])(bright_case([prompt]), BrightRegionSam())
    assert isinstance(found, FailedCase) and "limits must be" in found.reason


def test_slices_that_look_the_same_are_encoded_once():
    network, boxes = BrightRegionSam(), boxes_of_label(two_bars(), {"bar": 1, "block": 3}, dimension=2)
    inferer = PromptInferer(FAMILY, dimension=2, device="cpu")
    assert inferer(bright_case(boxes), network).encoded_slices == 3  # the bar alone, both, and the block alone
    again = inferer(bright_case(boxes), network)
    assert again.encoded_slices == 0 and again.engine == "torch"


def test_a_prompt_that_cannot_be_used_names_its_object():
    inferer = PromptInferer(FAMILY, device="cpu")
    case = bright_case([ObjectPrompts(points=[[99, 0, 0]], point_labels=[1], name="tip")])
    with pytest.raises(PromptError, match="object 'tip': point"):
        inferer.answer(case, Segmenter(FAMILY, BrightRegionSam(), device="cpu"))
    found = inferer(case, BrightRegionSam())
    assert isinstance(found, FailedCase) and found.reason.startswith("object 'tip': point")


class Automatic(nn.Identity):
    spec = ModelSpec(input_shape=(3, 64, 64), prompts=(), classes=4)


def test_a_network_without_prompts_and_a_fourth_dimension_are_refused():
    with pytest.raises(CaseError, match="takes no prompts"):
        PromptInferer(FAMILY)(bright_case([]), Automatic())
    with pytest.raises(CaseError, match="dimension must be 2 or 3"):
        PromptInferer(FAMILY, dimension=4)
    with pytest.raises(CaseError, match="axis must be 0, 1 or 2, got 3"):
        PromptInferer(FAMILY, axis=3)


def test_a_case_of_another_worker_is_passed_on():
    files = CaseFiles("bars", "bars.nii.gz")
    assert PromptInferer(FAMILY, device="cpu")(files, BrightRegionSam()) is files


@pytest.mark.parametrize(
    ("prompt", "dimension", "slices"),
    [
        (ObjectPrompts(box=[[4, 6, 4], [17, 19, 9]]), 3, 6),
        (ObjectPrompts(box=[[4, 6, 4], [17, 19, 4]]), 3, 24),
        (ObjectPrompts(box=[[4, 6, 4], [17, 19, 4]]), 2, 1),
        (ObjectPrompts(points=[[4, 6, 4], [5, 6, 4], [5, 6, 7]], point_labels=[1, 1, 1]), 2, 2),
        (ObjectPrompts(points=[[4, 6, 4]], point_labels=[1]), 3, 24),
    ],
)
def test_progress_knows_how_many_slices_a_prompt_can_ask_for(prompt, dimension, slices):
    assert slices_of(prompt, SHAPE, axis=2, dimension=dimension) == slices
