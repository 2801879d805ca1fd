"""Batches drawn from slices in flat tensors: pure functions of their draw number that show the right object."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from training_room import CONTRACT, make_pool, make_slice

from bundle.training.batched.augmentation import BatchRandom
from bundle.training.batched.geometry import quarter_turned
from bundle.training.batched.samples import BatchedSamples
from bundle.training.batched.slices import choose, gather_slices

PLAIN = dict.fromkeys(
    ("hounsfield", "random_window", "random_intensity", "gamma", "blur", "bias", "noise", "metal", "window_jitter"), 0.0
)


@pytest.fixture(scope="module")
def tensors():
    return choose(gather_slices({"labelled": make_pool((2, 2))}), {"labelled": 1.0})


def samples(tensors, **options) -> BatchedSamples:
    return BatchedSamples(tensors, options.pop("contract", CONTRACT), **{"batch_size": 16, **options})


def test_a_batch_is_a_function_of_its_draw_number(tensors):
    first, again, other = (samples(tensors)[draw] for draw in (3, 3, 4))
    assert torch.equal(first.images, again.images) and torch.equal(first.masks, again.masks)
    assert not torch.equal(first.images, other.images)
    assert first.draws.tolist() == [3]


def test_another_seed_draws_other_batches(tensors):
    assert not torch.equal(samples(tensors, seed=1)[3].images, samples(tensors)[3].images)


def test_images_have_the_range_and_the_size_of_the_contract(tensors):
    batch = samples(tensors)[0]
    assert batch.images.shape == (16, 3, CONTRACT.size, CONTRACT.size)
    assert batch.images.min() >= -1.001 and batch.images.max() <= 1.001 and batch.images.isfinite().all()


@pytest.mark.parametrize(("label", "grey"), [(1, 150), (2, 100)])
def test_the_mask_is_the_drawn_object_as_it_is_seen(tensors, label, grey):
    tensors = replace(tensors, object_weight=(tensors.object_label == label).double())
    batch = samples(tensors, rates=PLAIN)[1]
    inside = (batch.images[:, 0] * batch.masks).flatten(1).sum(1) / batch.masks.flatten(1).sum(1)
    assert batch.usable.all()
    assert (inside - (2 * grey / 255 - 1)).abs().max() < 0.05


def colored_pool(*scale: float) -> list:
    """Grey slices in colours: each channel so much of the grey value."""
    return [replace(part, picture=(part.picture[..., None] * scale).astype(np.uint8)) for part in make_pool((2, 2))]


def test_a_colour_picture_is_shown_in_its_colours():
    colors = choose(gather_slices({"labelled": colored_pool(1.0, 0.5, 0.25)}), {"labelled": 1.0})
    colors = replace(colors, object_weight=(colors.object_label == 1).double())
    batch = samples(colors, rates={**PLAIN, "color": 0.0, "grey": 0.0})[1]
    inside = (batch.images * batch.masks[:, None]).flatten(2).sum(2) / batch.masks.flatten(1).sum(1)[:, None]
    expected = torch.tensor([2 * grey / 255 - 1 for grey in (150, 74.5, 37)])
    assert (inside - expected).abs().max() < 0.05


def test_three_equal_channels_are_shown_as_one():
    grey = gather_slices({"labelled": make_pool((2, 2))}, never_ct=["labelled"])
    same = gather_slices({"labelled": colored_pool(1.0, 1.0, 1.0)})
    rates = {**PLAIN, "random_window": 0.5, "window_jitter": 0.2, "color": 0.0, "grey": 0.0}
    one, three = (samples(choose(part, {"labelled": 1.0}), rates=rates)[2] for part in (grey, same))
    assert torch.equal(one.images, three.images) and torch.equal(one.masks, three.masks)


def test_the_first_samples_are_asked_for_with_boxes(tensors):
    assert samples(tensors, box_share=0.25)[0].boxed.tolist() == [True] * 4 + [False] * 12


def test_a_box_is_shown_larger_than_the_whole_slice_shows_its_object():
    tensors = choose(gather_slices({"discs": [make_slice(i, ids=(1,)) for i in range(4)]}), {"discs": 1.0})
    near = replace(CONTRACT, zoom=replace(CONTRACT.zoom, smallest=4, whole=5.0))
    boxed = samples(tensors, contract=near, box_share=1.0, rates=PLAIN)[0]
    pointed = samples(tensors, contract=near, box_share=0.0, point_window_share=0.0, rates=PLAIN)[0]
    assert boxed.masks.float().mean() > 1.2 * pointed.masks.float().mean()
    assert boxed.box_error.mean() > 1.05 * pointed.box_error.mean()  # a hand is as precise, so it misses by more pixels


def test_a_volume_in_another_direction_is_seen_by_turning_all_by_quarters(tensors):
    upright, some = samples(tensors, rates=PLAIN)[5], samples(tensors, rates=PLAIN, quarter_share=1.0)[5]
    for before, after in zip(upright.masks, some.masks, strict=True):
        assert any(torch.equal(before.rot90(k), after) for k in (1, 2, 3))
    assert torch.equal(samples(tensors, rates=PLAIN, quarter_share=0.0)[5].images, upright.images)


def test_quarters_of_a_turn_are_counted_from_each_sample():
    values = torch.arange(4 * 9).view(4, 3, 3)
    found = quarter_turned(values, torch.tensor([0, 1, 2, 3]))
    assert all(torch.equal(found[k], values[k].rot90(k)) for k in range(4))


def test_without_jitter_no_hand_misses_the_object(tensors):
    assert not samples(tensors, jitter=0.0)[0].box_error.any()


def test_what_is_hidden_is_never_asked_for():
    tensors = choose(gather_slices({"labelled": make_pool((2, 2))}), {"labelled": 1.0}, hidden={"labelled": [2]})
    drawing = samples(tensors, batch_size=256)
    objects = drawing._draw_objects(BatchRandom.from_key("cpu", 256, 0))
    assert tensors.object_label[objects].unique().tolist() == [1]


def test_objects_that_are_too_small_are_not_used(tensors):
    assert not samples(tensors, min_pixels=CONTRACT.size**2)[0].usable.any()


def test_slices_of_several_sizes_lie_in_one_batch():
    wide = make_slice(5, patient="wide")
    wide = replace(
        wide, picture=wide.picture[:, :40].copy(), labels=wide.labels[:, :40].copy(), pixel_spacing=(2.0, 1.0)
    )
    tensors = choose(gather_slices({"labelled": [*make_pool((1,)), wide]}), {"labelled": 1.0})
    batch = samples(tensors, batch_size=32)[0]
    assert batch.usable.float().mean() > 0.9 and batch.images.isfinite().all()


def test_a_contract_without_zoom_is_refused(tensors):
    with pytest.raises(ValueError, match=r"got zoom None, resize .longest."):
        samples(tensors, contract=replace(CONTRACT, zoom=None))


def test_a_batch_moves_but_is_not_divided(tensors):
    batch = samples(tensors)[0]
    assert batch.split(1) == [batch] and torch.equal(batch.to("cpu").images, batch.images)
    with pytest.raises(ValueError, match="batched training does not divide a batch, got accumulation 2"):
        batch.split(2)
