"""Batches of packed slices: pure functions of their draw number that show the right object."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from training_room import CONTRACT, make_pool, make_slice

from bundle.training.batched.augmentation import BatchRandom
from bundle.training.batched.samples import PackedSamples
from bundle.training.batched.slices import choose, pack_slices

PLAIN = dict.fromkeys(("hounsfield", "variety", "recolour", "gamma", "blur", "bias", "noise", "metal", "jitter"), 0.0)


@pytest.fixture(scope="module")
def packed():
    return choose(pack_slices({"labelled": make_pool((2, 2))}), {"labelled": 1.0})


def samples(packed, **options) -> PackedSamples:
    return PackedSamples(packed, options.pop("contract", CONTRACT), **{"batch_size": 16, **options})


def test_a_batch_is_a_function_of_its_draw_number(packed):
    first, again, other = (samples(packed)[draw] for draw in (3, 3, 4))
    assert torch.equal(first.images, again.images) and torch.equal(first.masks, again.masks)
    assert not torch.equal(first.images, other.images)
    assert first.draws.tolist() == [3]


def test_another_seed_draws_other_batches(packed):
    assert not torch.equal(samples(packed, seed=1)[3].images, samples(packed)[3].images)


def test_images_have_the_range_and_the_size_of_the_contract(packed):
    batch = samples(packed)[0]
    assert batch.images.shape == (16, 3, CONTRACT.size, CONTRACT.size)
    assert batch.images.min() >= -1.001 and batch.images.max() <= 1.001 and batch.images.isfinite().all()


@pytest.mark.parametrize(("label", "grey"), [(1, 150), (2, 100)])
def test_the_mask_is_the_drawn_object_as_it_is_seen(packed, label, grey):
    packed = replace(packed, object_weight=(packed.object_label == label).double())
    batch = samples(packed, looks=PLAIN)[1]
    inside = (batch.images[:, 0] * batch.masks).flatten(1).sum(1) / batch.masks.flatten(1).sum(1)
    assert batch.usable.all()
    assert (inside - (2 * grey / 255 - 1)).abs().max() < 0.05


def test_the_first_samples_are_asked_for_with_boxes(packed):
    assert samples(packed, box_share=0.25)[0].boxed.tolist() == [True] * 4 + [False] * 12


def test_a_box_is_shown_larger_than_the_whole_slice_shows_its_object():
    packed = choose(pack_slices({"discs": [make_slice(i, ids=(1,)) for i in range(4)]}), {"discs": 1.0})
    near = replace(CONTRACT, zoom=replace(CONTRACT.zoom, smallest=4, whole=5.0))
    boxed = samples(packed, contract=near, box_share=1.0, looks=PLAIN)[0]
    pointed = samples(packed, contract=near, box_share=0.0, point_window_share=0.0, looks=PLAIN)[0]
    assert boxed.masks.float().mean() > 1.2 * pointed.masks.float().mean()
    assert boxed.reach.mean() > 1.05 * pointed.reach.mean()  # a hand is as precise, so it misses by more pixels


def test_without_jitter_no_hand_misses_the_object(packed):
    assert not samples(packed, jitter=0.0)[0].reach.any()


def test_what_is_hidden_is_never_asked_for():
    packed = choose(pack_slices({"labelled": make_pool((2, 2))}), {"labelled": 1.0}, hidden={"labelled": [2]})
    drawing = samples(packed, batch_size=256)
    objects = drawing._draw_objects(BatchRandom.of("cpu", 256, 0))
    assert packed.object_label[objects].unique().tolist() == [1]


def test_objects_that_are_too_small_are_not_used(packed):
    assert not samples(packed, min_pixels=CONTRACT.size**2)[0].usable.any()


def test_slices_of_several_sizes_lie_in_one_batch():
    wide = make_slice(5, patient="wide")
    wide = replace(
        wide, picture=wide.picture[:, :40].copy(), labels=wide.labels[:, :40].copy(), pixel_spacing=(2.0, 1.0)
    )
    packed = choose(pack_slices({"labelled": [*make_pool((1,)), wide]}), {"labelled": 1.0})
    batch = samples(packed, batch_size=32)[0]
    assert batch.usable.float().mean() > 0.9 and batch.images.isfinite().all()


def test_a_contract_without_zoom_is_refused(packed):
    with pytest.raises(ValueError, match="families that zoom"):
        samples(packed, contract=replace(CONTRACT, zoom=None))


def test_a_batch_moves_but_is_not_divided(packed):
    batch = samples(packed)[0]
    assert batch.split(1) == [batch] and torch.equal(batch.to("cpu").images, batch.images)
    with pytest.raises(ValueError, match="a packed batch is not divided, got accumulation 2"):
        batch.split(2)
