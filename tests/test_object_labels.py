"""The label map of a session's objects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bundle.interactive.object_labels import label_map
from bundle.interactive.objects import SegmentedObject
from bundle.interactive.regions import Region
from bundle.prompts.interactions import Interaction, Lasso, Mask, Point, Scribble

SHAPE = (5, 4, 3)
WHOLE = np.array([(0, 0, 0), SHAPE])
MASKS = st.lists(hnp.arrays(bool, SHAPE), min_size=1, max_size=3)
IOU = st.sampled_from([0.5, 0.7, None])


def one(key: int, scores, *, drawn=(), **is_so) -> SegmentedObject:
    return SegmentedObject(key, f"{key}", key, (0, 0, 0), scores=scores, interactions=tuple(drawn), **is_so)


@settings(max_examples=20)
@given(MASKS, st.data())
def test_a_part_of_the_label_map_is_cut_out_of_the_whole(masks, data):
    objects, regions = [], {}
    for key, mask in enumerate(masks, start=1):
        axis = data.draw(st.sampled_from([0, 1, 2]))
        scores = {axis: {index: data.draw(IOU) for index in range(SHAPE[axis])}}
        inside = np.argwhere(mask)
        picked = inside[data.draw(st.lists(st.integers(0, len(inside) - 1), max_size=2))] if len(inside) else inside[:0]
        drawn = [data.draw(st.sampled_from([Point(picked[0]), Scribble(picked), Mask(mask)]))] if len(picked) else []
        objects.append(one(key, scores, drawn=drawn, unprompted=data.draw(st.booleans())))
        regions[key] = Region.of(mask)
    low = [data.draw(st.integers(0, size - 1)) for size in SHAPE]
    high = [data.draw(st.integers(first + 1, size)) for first, size in zip(low, SHAPE, strict=True)]
    whole = label_map(tuple(objects), regions, WHOLE, SHAPE)
    part = label_map(tuple(objects), regions, np.array([low, high]), SHAPE)
    assert np.array_equal(part, whole[tuple(map(slice, low, high))])
    assert np.array_equal(whole > 0, np.any(masks, axis=0))


def test_a_locked_object_comes_before_all_others():
    everywhere = Region.of(np.ones(SHAPE, bool))
    corner = Region.of(np.arange(60).reshape(SHAPE) < 7)
    objects = (one(1, {2: {k: 0.99 for k in range(3)}}, drawn=[Point((0, 0, 0))]), one(2, {}, locked=True))
    labels = label_map(objects, {1: everywhere, 2: corner}, WHOLE, SHAPE)
    assert np.array_equal(labels == 2, corner.mask(SHAPE)) and (labels == 1).sum() == 60 - 7


def test_what_the_user_gave_comes_before_what_the_model_guesses():
    everywhere = Region.of(np.ones(SHAPE, bool))
    given = one(300, {2: {1: None}}, base=everywhere.to_bytes())
    objects = (one(1, {2: {k: 0.99 for k in range(3)}}), given)
    labels = label_map(objects, {1: everywhere, 300: everywhere}, WHOLE, SHAPE)
    assert labels.dtype == np.uint16 and np.unique(labels[..., 1]) == [300] and (labels[..., ::2] == 1).all()
    kept, no_more = (replace(given, base=b"", confirmed=frozenset(at)) for at in ({(2, 1)}, ()))
    for of, value in ((kept, 300), (no_more, 1)):  # a slice without a score that the user keeps, or kept
        found = label_map((objects[0], of), {1: everywhere, 300: everywhere}, WHOLE, SHAPE)
        assert (found[..., 1] == value).all()


def test_no_object_is_an_empty_map():
    assert not label_map((), {}, WHOLE, SHAPE).any()


def test_an_object_within_another_is_seen_though_the_other_is_surer():
    sure, unsure = {2: {k: 0.99 for k in range(3)}}, {2: {k: 0.6 for k in range(3)}}
    inside = np.zeros(SHAPE, bool)
    inside[1:3, 1:3, 1] = True
    regions = {1: Region.of(np.ones(SHAPE, bool)), 2: Region.of(inside)}
    assert np.array_equal(label_map((one(1, sure), one(2, unsure)), regions, WHOLE, SHAPE) == 2, inside)
    assert not (label_map((one(1, sure, locked=True), one(2, unsure)), regions, WHOLE, SHAPE) == 2).any()
    assert not (label_map((one(1, sure), one(2, unsure, unprompted=True)), regions, WHOLE, SHAPE) == 2).any()
    given = {2: dict.fromkeys(range(3))}
    assert np.array_equal(label_map((one(1, given), one(2, unsure)), regions, WHOLE, SHAPE) == 2, inside)


@pytest.mark.parametrize(
    "drawn",
    [
        Point((2, 1, 1)),
        Scribble([(0, 1, 1), (4, 1, 1)]),
        Lasso([(1, 1, 1), (3, 1, 1), (3, 3, 1)]),
        Mask(np.ones((2, 2, 1), bool), corner=(1, 1, 1)),
    ],
    ids=lambda drawn: drawn.kind,
)
def test_what_was_drawn_on_an_object_is_seen_of_it_though_the_user_gave_the_other(drawn: Interaction):
    everywhere = Region.of(np.ones(SHAPE, bool))
    whole = one(1, {2: dict.fromkeys(range(3))}, base=everywhere.to_bytes())
    unsure = one(2, {2: {k: 0.6 for k in range(3)}}, drawn=[drawn])
    labels = label_map((whole, unsure), {1: everywhere, 2: everywhere}, WHOLE, SHAPE)
    assert {*map(tuple, np.argwhere(labels == 2))} == {*map(tuple, drawn.named_voxels(SHAPE))}
    off = replace(unsure, interactions=(replace(drawn, positive=False),))
    assert (label_map((whole, off), {1: everywhere, 2: everywhere}, WHOLE, SHAPE) == 1).all()
