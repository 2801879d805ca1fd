"""Slice tensors hold what the pools held, in a file as well; a training chooses from them."""

from __future__ import annotations

from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
import torch
from training_room import CONTRACT, make_pool, make_slice

from bundle.data.hounsfield import FAT, GAS, OUTSIDE, SHOWN
from bundle.data.labelled_slices import LabelledSlice
from bundle.prompts.simulation import tight_box
from bundle.training.batched.file import gather_into, read_slice_tensors, write_slice_tensors
from bundle.training.batched.slices import FINE_SIDE, SliceTensors, choose, gather_slices


def ct_slice(height: int = 40, width: int = 48) -> LabelledSlice:
    """HU below zero, of another size than the rest."""
    rng = np.random.default_rng(1)
    picture = rng.integers(-1000, 900, (height, width)).astype(np.int16)
    labels = np.zeros((height, width), np.uint8)
    labels[5:30, 8:20] = 7
    part = make_slice(0)
    return replace(
        part,
        picture=picture,
        labels=labels,
        ids=(7,),
        modality="CT",
        intensity=CONTRACT.intensity(picture, "CT"),
        patient="ct",
        key="ct-2-0",
    )


def body_slice(side: int) -> LabelledSlice:
    """A windowed body with organs, a thin plane and a large hole that the window made black, and air around it."""
    rows, columns = np.mgrid[:side, :side]
    noise = np.random.default_rng(2).integers(90, 120, (side, side))
    picture = np.where(np.hypot(rows - side / 2, columns - side / 2) < 0.45 * side, noise, 0)
    picture[side // 2 - 1 : side // 2 + 1, side // 3 : 2 * side // 3] = 1
    picture[side // 4 : 3 * side // 8, side // 2 : 5 * side // 8] = 0
    labels = np.zeros((side, side), np.uint8)
    labels[side // 3 : side // 2 - 2, side // 3 : side // 2] = 1
    return replace(make_slice(0), picture=picture.astype(np.uint8), labels=labels, ids=(1,), patient="body")


@pytest.fixture(scope="module")
def tensors() -> SliceTensors:
    pool = make_pool((2, 1))
    return gather_slices(
        {"labelled": pool, "again": pool[:1], "ct": [ct_slice(), ct_slice(FINE_SIDE + 20, 60)]}, instances=("again",)
    )


def weights_of(tensors: SliceTensors, source: str) -> torch.Tensor:
    return tensors.object_weight[tensors.object_source == list(tensors.about).index(source)]


def test_a_file_gives_back_every_tensor(tensors, tmp_path):
    pool = make_pool((2, 1))
    gather_into(
        tmp_path / "slices.npz",
        {"labelled": pool, "again": pool[:1], "ct": [ct_slice(), ct_slice(FINE_SIDE + 20, 60)]},
        instances=["again"],
    )
    found = read_slice_tensors(tmp_path / "slices.npz")
    assert found.about == tensors.about
    for field in fields(tensors):
        if field.name != "about":
            assert torch.equal(getattr(found, field.name), getattr(tensors, field.name)), field.name


@pytest.mark.parametrize("side", [96, FINE_SIDE + 1])
def test_a_file_remembers_what_the_window_made_black(side, tmp_path):
    tensors = gather_slices({"bodies": [body_slice(side)]})
    assert set(tensors.kinds.tolist()) == {SHOWN, FAT, GAS, OUTSIDE}
    write_slice_tensors(tensors, tmp_path / "slices.npz")
    found = read_slice_tensors(tmp_path / "slices.npz")
    assert all(torch.equal(getattr(found, name), getattr(tensors, name)) for name in ("pixels", "kinds", "levels"))


def test_pictures_and_labels_lie_where_the_rows_say(tensors):
    for row, part in enumerate([*make_pool((2, 1)), make_pool((1,))[0], ct_slice()]):
        start, height, width = tensors.levels[row, 0].tolist()
        where = tensors.label_offsets[row]
        assert np.array_equal(tensors.pixels[start : start + height * width].view(height, width), part.picture)
        assert np.array_equal(tensors.labels[where : where + height * width].view(height, width), part.labels)


def test_an_object_knows_its_box(tensors):
    pool = [*make_pool((2, 1)), make_pool((1,))[0], ct_slice(), ct_slice(FINE_SIDE + 20, 60)]
    rows = zip(tensors.object_slice.tolist(), tensors.object_label.tolist(), tensors.object_box, strict=True)
    assert all(np.array_equal(box, tight_box(pool[row].labels == label)) for row, label, box in rows)


def test_a_picture_that_two_sources_share_is_stored_once(tensors):
    assert tensors.levels[3, 0, 0] == tensors.levels[0, 0, 0]


def test_a_long_slice_has_a_copy_of_half_its_size(tensors):
    full, half = tensors.levels[5].tolist()
    assert half[1:] == [full[1] // 2, full[2] // 2] and half[0] != full[0]
    assert torch.equal(tensors.levels[4, 0], tensors.levels[4, 1])


def test_named_organs_are_drawn_alike_then_patients_then_slices(tensors):
    pool = make_pool((2, 1))
    expected = [1 / (2 * 2 * (2 if part.patient == "p0" else 1)) for part in pool for _ in part.ids]
    assert weights_of(tensors, "labelled").tolist() == pytest.approx(expected)


def test_instances_are_drawn_by_the_root_of_their_size(tensors):
    part = make_pool((1,))[0]
    roots = [np.count_nonzero(part.labels == i) ** 0.5 for i in part.ids]
    assert weights_of(tensors, "again").tolist() == pytest.approx([root / sum(roots) for root in roots], rel=1e-6)


def test_a_choice_gives_each_source_its_share(tensors):
    chosen = choose(tensors, {"labelled": 3.0, "ct": 1.0})
    whole = tensors.object_source
    assert chosen.object_weight.sum().item() == pytest.approx(1)
    assert chosen.object_weight[whole == 2].sum().item() == pytest.approx(0.25)
    assert chosen.object_weight[whole == 1].sum() == 0 and set(chosen.about) == {"labelled", "ct"}


def test_a_hidden_label_is_neither_asked_for_nor_in_the_map(tensors):
    chosen = choose(tensors, {"labelled": 1.0, "again": 1.0}, hidden={"labelled": [2]})
    here = chosen.object_source == 0
    assert chosen.object_weight[here & (chosen.object_label == 2)].sum() == 0
    first, size = int(chosen.label_offsets[0]), int(chosen.levels[0, 0, 1:].prod())
    assert 2 not in chosen.labels[first : first + size]
    other = int(chosen.label_offsets[3])
    assert 2 in chosen.labels[other : other + size]  # of the source from which nothing was hidden
    assert 2 in tensors.labels[first : first + size]


def test_a_modality_that_is_left_out_is_not_drawn(tensors):
    chosen = choose(tensors, {"labelled": 3.0, "again": 1.0, "ct": 1.0}, without=["a*", "c?"])
    assert set(chosen.about) == {"labelled"} and chosen.object_weight[chosen.object_source > 0].sum() == 0
    assert chosen.object_weight.sum().item() == pytest.approx(1)
    with pytest.raises(ValueError, match=r"no source with a weight fits 'us-\*'"):
        choose(tensors, {"labelled": 1.0}, without=["us-*"])


def test_wrong_choices_are_refused_with_the_reason(tensors):
    with pytest.raises(ValueError, match="'lungs' was not gathered, only labelled"):
        choose(tensors, {"lungs": 1.0})
    with pytest.raises(ValueError, match="every label of source 'ct' is hidden"):
        choose(tensors, {"ct": 1.0}, hidden={"ct": [7]})


def test_what_cannot_be_gathered_is_refused():
    with pytest.raises(ValueError, match="source 'none' has no labelled slice"):
        gather_slices({"none": []})
    with pytest.raises(ValueError, match=r"must be .H, W. grey or .H, W, 3. colour, got .48, 48, 2."):
        gather_slices({"two": [replace(make_slice(), picture=np.zeros((48, 48, 2), np.uint8))]})
    with pytest.raises(ValueError, match="'lungs' is no source; sources are one"):
        gather_slices({"one": make_pool((1,))}, never_ct=["lungs"])


@pytest.mark.parametrize("side", [48, FINE_SIDE + 2])
def test_a_colour_picture_keeps_its_three_planes_in_a_file_too(side, tmp_path):
    labels = np.zeros((side, 40), np.uint8)
    labels[4:20, 5:30] = 1
    colors = np.random.default_rng(0).integers(0, 256, (side, 40, 3)).astype(np.uint8)
    part = replace(make_slice(), picture=colors, labels=labels, ids=(1,))
    tensors = gather_slices({"colour": [part], "grey": make_pool((1,))})
    write_slice_tensors(tensors, tmp_path / "slices.npz")
    for found in (tensors, read_slice_tensors(tmp_path / "slices.npz")):
        assert found.channels.tolist() == [3, 1] and found.peak[0] == 0 and not found.kinds[: 3 * side * 40].any()
        for level, size in ((0, (side, 40)), (1, (side, 40) if side == 48 else (side // 2, 20))):
            start, height, width = found.levels[0, level].tolist()
            planes = found.pixels[start : start + 3 * height * width].view(3, height, width)
            shown = cv2.resize(colors, size[::-1], interpolation=cv2.INTER_AREA)
            assert np.abs(planes.numpy() - shown.transpose(2, 0, 1).astype(int)).max() <= 1


def test_a_file_of_before_colour_is_read_as_grey(tensors, tmp_path):
    write_slice_tensors(tensors, tmp_path / "slices.npz")
    with np.load(tmp_path / "slices.npz") as file:
        former = {name: value for name, value in file.items() if name != "channels"}
    np.savez(tmp_path / "former.npz", **former)
    assert torch.equal(read_slice_tensors(tmp_path / "former.npz").channels, torch.ones_like(tensors.channels))


def test_only_what_may_be_ct_has_a_soft_tissue_peak():
    tensors = gather_slices({"ct": [body_slice(96)], "ultrasound": [body_slice(96)]}, never_ct=["ultrasound"])
    assert tensors.peak[0] > 0 and tensors.peak[1] == 0
    start, height, width = tensors.levels[1, 0].tolist()
    assert not tensors.kinds[start : start + height * width].any()


def test_another_file_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", image=np.zeros(3))
    with pytest.raises(ValueError, match="holds no slices"):
        read_slice_tensors(tmp_path / "other.npz")
