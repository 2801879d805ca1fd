"""Samples are a pure function of their draw number, balanced over patients or organs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandFlipd, RandGaussianNoised
from training_room import CONTRACT, SIZE, make_batch, make_pool, make_samples, make_slice, make_stack

from bundle.training.batches import collate
from bundle.training.draws import DrawNumbers
from bundle.training.samples import EverySample
from bundle.transforms.crop import Zoom


def augmentation() -> Compose:
    keys = ["image", "label"]
    return Compose([RandFlipd(keys, prob=0.5, spatial_axis=1), RandGaussianNoised(["image"], prob=1.0, std=5.0)])


def test_the_same_draw_gives_the_same_sample():
    options = {"augmentation": augmentation(), "hounsfield_share": 0.5, "window_jitter": 0.1, "seed": 3}
    first, second = make_samples(**options), make_samples(**options)
    first[7]  # what was drawn before does not matter
    assert torch.equal(first[11].image, second[11].image) and torch.equal(first[11].masks, second[11].masks)
    assert not torch.equal(first[11].image, first[12].image)


def test_another_seed_gives_another_sample():
    assert not torch.equal(make_samples(seed=0)[0].image, make_samples(seed=1)[0].image)


def test_a_sample_fits_the_network():
    sample = make_samples()[0]
    assert sample.image.shape == (3, SIZE, SIZE) and sample.image.dtype == torch.float32
    assert sample.masks.dtype == torch.bool and sample.masks.shape[1:] == (SIZE, SIZE)
    assert all(mask.any() for mask in sample.masks)


def test_a_patient_with_many_slices_is_not_drawn_more_often():
    pool = make_pool((1, 9))
    samples = make_samples(sources={"all": {"slices": pool, "weight": 1}}, objects=0)
    counts = Counter(samples.draws[0](np.random.default_rng(i))[0].patient for i in range(200))
    assert 70 < counts["p0"] < 130


def test_balance_over_organs_draws_a_rare_organ_as_often():
    pool = [make_slice(0, ids=(2,)), *[make_slice(i, ids=(1,)) for i in range(1, 10)]]
    draw = make_samples(sources={"all": {"slices": pool, "weight": 1}}, balance="organs").draws[0]
    counts = Counter(draw(np.random.default_rng(i))[1] for i in range(200))
    assert 70 < counts[2] < 130


def test_the_drawn_organ_is_the_object_asked_for():
    samples = make_samples(balance="organs", objects=1)
    for draw in range(6):
        rng = np.random.default_rng((0, draw))
        rng.choice(1, p=[1.0])
        organ = samples.draws[0](rng)[1]
        assert torch.equal(samples[draw].masks[0], samples[draw].labels == organ)


def test_sources_are_drawn_by_weight():
    sources = {
        "a": {"slices": [make_slice(0, annotated=(1,))], "weight": 3},
        "b": {"slices": [make_slice(1, annotated=(2,))], "weight": 1},
    }
    samples = make_samples(sources=sources)
    share = np.mean([samples[i].annotated == (1,) for i in range(80)])
    assert 0.6 < share < 0.9


def test_few_variants_of_a_slice_come_again():
    pool = {"one": {"slices": [make_slice(0)], "weight": 1}}
    samples = make_samples(sources=pool, augmentation=augmentation(), variants=2)
    assert len({samples[i].image.numpy().tobytes() for i in range(12)}) == 2


def test_small_objects_are_not_asked_for():
    samples = make_samples(min_pixels=350)  # the disc covers about 197 of 48 x 48, 350 of 64 x 64; the bar more
    assert all(sample.masks.sum(dim=(1, 2)).min() >= 350 for sample in (samples[i] for i in range(5)))


def test_slices_without_objects_serve_when_no_objects_are_asked_for():
    empty = replace(make_slice(0), labels=np.zeros((48, 48), np.uint8), ids=())
    sample = make_samples(sources={"empty": {"slices": [empty], "weight": 1}}, objects=0)[0]
    assert sample.masks.shape == (0, SIZE, SIZE)


def test_objects_that_are_all_too_small_are_reported():
    with pytest.raises(ValueError, match="no object of 5000 pixels"):
        make_samples(min_pixels=5000)[0]


def test_an_empty_source_is_refused():
    with pytest.raises(ValueError, match="'nothing' has no labelled slice"):
        make_samples(sources={"nothing": {"slices": [], "weight": 1}})


def test_an_unknown_balance_is_refused():
    with pytest.raises(ValueError, match="patients, organs"):
        make_samples(balance="dice")


def test_a_stack_is_moved_as_a_whole():
    source = {"stack": {"slices": [make_stack(3)], "weight": 1}}
    plain = make_samples(sources=source)
    turned = make_samples(sources=source, augmentation=Compose([RandFlipd(["image", "label"], 1.0, spatial_axis=1)]))
    assert plain[0].image.shape == (3, 3, SIZE, SIZE) and plain[0].masks.shape[0] == 0
    assert torch.equal(turned[0].labels, plain[0].labels.flip(-1))


def test_every_slice_comes_once_in_order():
    dataset = EverySample(make_pool((2, 1)), CONTRACT)
    assert [dataset[i].draw for i in range(len(dataset))] == [0, 1, 2]
    with pytest.raises(ValueError, match="validation has no slice"):
        EverySample([], CONTRACT)


def test_processes_share_the_draws_of_one():
    ranks = [list(islice(DrawNumbers(8, rank=rank, world_size=2), 4)) for rank in (0, 1)]
    assert sorted(ranks[0] + ranks[1]) == list(islice(DrawNumbers(8), 8))


def test_a_resumed_stream_goes_on_where_it_stopped():
    draws = DrawNumbers(8)
    draws.first = 24
    assert list(islice(draws, 2)) == [24, 25] and len(draws) == 8


def test_the_pieces_of_a_batch_are_the_batch():
    batch = make_batch(5)
    pieces = batch.split(2)
    assert [len(p.images) for p in pieces] == [3, 2]
    assert torch.equal(torch.cat([p.masks for p in pieces]), batch.masks)
    assert torch.equal(torch.cat([p.images[p.image_index] for p in pieces]), batch.images[batch.image_index])


def test_objects_know_their_image():
    samples = [make_samples()[i] for i in range(3)]
    batch = collate(samples)
    assert batch.image_index.tolist() == [i for i, s in enumerate(samples) for _ in s.masks]


def zooming_contract():
    return replace(CONTRACT, zoom=Zoom(margin=0.5, smallest=4, whole=0.9))


def test_a_zoomed_sample_shows_its_first_object_large():
    sources = {"discs": {"slices": [make_slice(i, ids=(1,)) for i in range(4)], "weight": 1}}
    options = {"sources": sources, "contract": zooming_contract(), "objects": 1}
    plain, zoomed = make_samples(**options), make_samples(**options, zoom_share=1.0)
    shares = [[float(samples[i].masks[0].float().mean()) for i in range(20)] for samples in (plain, zoomed)]
    assert np.mean(shares[1]) > 1.4 * np.mean(shares[0])


def test_a_sample_says_whether_it_shows_a_window():
    sources = {"labelled": {"slices": make_pool(), "weight": 1.0}}
    samples = make_samples(sources=sources, contract=zooming_contract(), objects=1, zoom_share=0.5)
    batch = collate([samples[i] for i in range(20)])
    assert 4 < int(batch.windows.sum()) < 16
    windows, whole = batch.by_view()
    assert windows.windows.all() and not whole.windows.any()
    assert sorted(windows.draws.tolist() + whole.draws.tolist()) == list(range(20))
    for part in (windows, whole):
        rows = [batch.draws.tolist().index(draw) for draw in part.draws.tolist()]
        assert torch.equal(part.images, batch.images[rows]) and torch.equal(part.masks, batch.masks[rows])
        assert part.image_index.tolist() == list(range(len(rows)))
    assert windows.masks.float().mean() > whole.masks.float().mean()


def test_zoom_is_refused_for_a_contract_without_it():
    with pytest.raises(ValueError, match="no zoom"):
        make_samples(contract=replace(CONTRACT, zoom=None), zoom_share=0.5)


def test_variety_gives_one_view_three_times_and_sometimes_inverts_it():
    samples = [make_samples(variety_share=1.0)[i] for i in range(12)]
    pool = make_pool()
    for sample in samples:
        assert torch.equal(sample.image[0], sample.image[1]) and torch.equal(sample.image[0], sample.image[2])
    assert pool[0].picture[pool[0].labels == 1].mean() > pool[0].picture[pool[0].labels == 0].mean()
    brighter = [bool(s.image[0][s.labels == 1].mean() > s.image[0][s.labels == 0].mean()) for s in samples]
    assert any(brighter) and not all(brighter)


def test_recoloured_samples_are_grey_and_of_no_fixed_order():
    samples = [make_samples(recolour_share=1.0)[i] for i in range(12)]
    assert all(torch.equal(sample.image[0], sample.image[1]) for sample in samples)
    brighter = [bool(s.image[0][s.labels == 1].mean() > s.image[0][s.labels == 0].mean()) for s in samples]
    assert any(brighter) and not all(brighter)
    assert torch.equal(samples[3].image, make_samples(recolour_share=1.0)[3].image)
