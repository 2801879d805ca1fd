"""Box prompts from label maps, as transforms: the boxes of the simulation, and the same ones every time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from bundle.errors import CaseError, EmptyMaskError, PromptError
from bundle.prompts.label_boxes import SliceBoxd, VolumeBoxesd, boxes_of_label
from bundle.prompts.simulation import jitter_box, shift_box, tight_box

seeds = st.integers(0, 99)


def label_map(seed: int, shape=(1, 30, 40)) -> np.ndarray:
    labels = np.random.default_rng(seed).integers(0, 40, shape).astype(np.uint8)
    labels[labels > 3] = 0
    labels[0, 5, 7], labels[0, 6, 6] = 1, 2
    return labels


@given(seeds, st.sampled_from([1, 2]), st.sampled_from([np.asarray, torch.from_numpy, MetaTensor]))
def test_the_box_of_an_object_is_tight(seed, value, kind):
    labels = label_map(seed)
    given_labels = kind(torch.from_numpy(labels)) if kind is MetaTensor else kind(labels)
    box = SliceBoxd("label")({"label": given_labels, "object": value})["box"]
    assert np.array_equal(box, tight_box(labels[0] == value))


@given(seeds, st.integers(0, 5), st.floats(0, 9), st.sampled_from([None, 256.0, 40.0]))
def test_a_shifted_and_jittered_box_is_that_of_the_simulation(seed, draw, amount, pixels_of):
    mask = label_map(seed)
    transform = SliceBoxd("label", shift=2.0, jitter=amount, pixels_of=pixels_of, seed=3)
    found = transform({"label": mask, "draw": draw})["box"]
    scale = 1.0 if pixels_of is None else 40 / pixels_of
    box = shift_box(tight_box(mask[0]), 2.0 * scale, (30, 40))
    rng = np.random.default_rng((3, draw))
    expected = jitter_box(box, rng, max_pixels=amount * scale, shape=(30, 40)) if amount else box
    np.testing.assert_allclose(found, expected, atol=1e-5)


@given(seeds, st.sampled_from([2, 3]), st.sampled_from([0, 1, 2]))
def test_the_prompts_of_a_volume_are_those_of_a_batch_run(seed, dimension, axis):
    labels = label_map(seed, (1, 7, 8, 9))
    transform = VolumeBoxesd("label", dimension=dimension, axis=axis, shift=1)
    found = transform({"label": labels, "names": {"a": 1, "c": 3}})["prompts"]
    expected = boxes_of_label(labels[0], {"a": 1, "c": 3}, dimension=dimension, axis=axis, shift=1)
    assert [(p.name, p.label, p.box.tolist()) for p in found] == [(p.name, p.label, p.box.tolist()) for p in expected]
    assert len(found) >= 1


def test_without_names_every_value_is_an_object():
    prompts = VolumeBoxesd("label")({"label": label_map(0, (1, 7, 8, 9))})["prompts"]
    assert [prompt.name for prompt in prompts] == ["label_1", "label_2", "label_3"]


def test_what_cannot_be_drawn_is_refused():
    labels = label_map(0)
    with pytest.raises(EmptyMaskError):
        SliceBoxd("label")({"label": labels, "object": 9})
    with pytest.raises(PromptError, match=r"must be the label map \(1, H, W\) of a slice, got the shape \(30, 40\)"):
        SliceBoxd("label")({"label": labels[0]})
    with pytest.raises(PromptError, match="jitter needs a number to draw by; add 'draw' to the data"):
        SliceBoxd("label", jitter=2.0)({"label": labels})
    with pytest.raises(PromptError, match=r"must be the label map \(1, I, J, K\) of a volume"):
        VolumeBoxesd("label")({"label": labels})
    with pytest.raises(CaseError, match="dimension must be 2 or 3 and axis 0, 1 or 2, got 4 and 2"):
        VolumeBoxesd("label", dimension=4)
