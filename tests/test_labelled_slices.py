"""Pools of labelled slices: what is cut, kept, stacked and chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dicom_files import numbered, write_slice, write_stack
from training_room import CONTRACT, make_pool, make_slice

from bundle.data.labelled_slices import (
    cut_slices,
    describe_sources,
    few_slices,
    phantom_pool,
    read_pool,
    read_what_can_be_read,
    resized,
    stack_slices,
    without_labels,
)
from bundle.data.synthetic.phantom import PHANTOM_LABELS, make_phantom
from bundle.data.volume import Volume, VolumeError, write_label, write_volume


def test_a_pool_names_every_item_that_cannot_be_read(patient, tmp_path):
    image, _ = patient
    good = {"image": str(write_volume(image, tmp_path / "good.nii.gz")), "label": None, "patient": "a"}
    bad = [{"image": str(tmp_path / name), "label": None, "patient": name} for name in ("b.nii.gz", "c.nii.gz")]
    (tmp_path / "b.nii.gz").write_text("nothing")
    with pytest.raises(VolumeError, match=r"(?s)2 of 3 items cannot be read.*b\.nii\.gz.*c\.nii\.gz"):
        read_pool([bad[0], good, bad[1]], contract=CONTRACT)
    with pytest.raises(VolumeError, match=r"^there is no file"):
        read_pool([bad[1], good], contract=CONTRACT)
    pool = read_what_can_be_read([bad[0], good, bad[1]], contract=CONTRACT)
    assert [key for key, _ in pool.unreadable] == ["b.nii.gz/b.nii.gz", "c.nii.gz/c.nii.gz"]
    assert {part.patient for part in pool.slices} == {"a"}


@pytest.fixture(scope="module")
def patient() -> tuple[Volume, Volume]:
    volume, labels, _ = make_phantom(shape=(40, 36, 12), spacing=(9.0, 9.0, 20.0), seed=1)
    return volume, labels


def cut(patient, **options):
    return cut_slices(*patient, contract=CONTRACT, patient="p", **options)


def test_slices_name_the_objects_that_are_large_enough(patient):
    for part in cut(patient, min_pixels=10):
        counts = {int(v): int((part.labels == v).sum()) for v in np.unique(part.labels) if v}
        assert part.ids == tuple(v for v, n in counts.items() if n >= 10)


def test_slices_without_objects_are_left_out_unless_asked_for(patient):
    volume, labels = patient
    array = labels.array.copy()
    array[..., :3] = 0
    empty = (volume, replace(labels, array=array))
    assert len(cut(empty, keep_empty=True)) == 12
    assert len(cut(empty)) <= 9


def test_every_axis_is_cut(patient):
    shapes = {part.key.split("-")[1]: part.labels.shape for part in cut(patient, axes=(0, 1, 2))}
    assert shapes == {"0": (12, 36), "1": (12, 40), "2": (36, 40)}


def test_large_slices_shrink_with_their_spacing(patient):
    small = cut(patient, max_side=20)[0]
    whole = next(part for part in cut(patient) if part.key == small.key)
    assert max(small.labels.shape) == 20 and set(np.unique(small.labels)) <= set(np.unique(whole.labels))
    extent = [n * mm for n, mm in zip(whole.labels.shape, whole.pixel_spacing, strict=True)]
    assert [n * mm for n, mm in zip(small.labels.shape, small.pixel_spacing, strict=True)] == pytest.approx(extent)


def test_values_beyond_16_bits_shrink_as_others_do(patient):
    volume, labels = patient
    large = replace(volume, array=volume.array.astype(np.int32) * 100)
    small, large = cut(patient, max_side=20)[0], cut((large, labels), max_side=20)[0]
    assert large.picture.max() > 2**15 and np.array_equal(large.labels, small.labels)
    np.testing.assert_allclose(large.picture, 100.0 * small.picture, atol=51)  # int16 is rounded
    assert resized(large, 40).picture.shape == resized(small, 40).picture.shape


def test_an_unlabelled_volume_keeps_every_slice_and_no_organ(patient):
    slices = cut_slices(patient[0], None, contract=CONTRACT, patient="p")
    assert len(slices) == 12 and all(part.ids == () and part.annotated == () for part in slices)


def test_image_and_label_must_have_one_shape(patient):
    with pytest.raises(VolumeError, match=r"\(40, 36, 10\) voxels and its image \(40, 36, 12\)"):
        cut((patient[0], make_phantom(shape=(40, 36, 10), spacing=(9.0, 9.0, 24.0), seed=1)[1]))


def test_a_layouts_items_are_read_with_what_was_annotated(patient, tmp_path):
    volume, labels = patient
    write_volume(volume, tmp_path / "scan.nii.gz")
    write_label(labels.array, volume, tmp_path / "label.nii.gz")
    image, label = str(tmp_path / "scan.nii.gz"), str(tmp_path / "label.nii.gz")
    items = [
        {"image": image, "label": label, "patient": "a", "labelled": [1]},
        {"image": image, "label": None, "patient": "b", "labelled": []},
    ]
    pool = read_pool(items, contract=CONTRACT)
    assert {(part.patient, part.annotated) for part in pool} == {("a", (1,)), ("b", ())}
    assert len({part.key for part in pool if part.patient == "a"}) == sum(part.patient == "a" for part in pool)


def test_an_item_chooses_its_dicom_series(tmp_path):
    folder = write_stack(tmp_path / "study", [(0, 0, 3 * k) for k in range(3)])
    write_slice(folder / "scout.dcm", numbered(9, (7, 6)), SeriesInstanceUID="1.2.3.5")
    item = {"image": str(folder), "label": None, "patient": "a"}
    with pytest.raises(ValueError, match=r'one with "series" in its item of the data list: 1\.2\.3\.4, 1\.2\.3\.5'):
        read_pool([item], contract=CONTRACT)
    assert len(read_pool([{**item, "series": "1.2.3.4"}], contract=CONTRACT)) == 3


def test_a_label_map_stored_in_another_order_lies_on_its_image_and_a_word_overrules_the_guess(patient, tmp_path):
    volume, labels = patient
    write_volume(volume, tmp_path / "scan.nii.gz")
    flip = np.diag([-1.0, -1, 1, 1])
    flip[:2, 3] = np.subtract(labels.shape[:2], 1)
    mirrored = Volume(labels.array[::-1, ::-1], labels.affine @ flip)
    write_label(mirrored.array, mirrored, tmp_path / "label.nrrd")
    item = {"image": str(tmp_path / "scan.nii.gz"), "label": str(tmp_path / "label.nrrd"), "patient": "p"}
    pool = read_pool([item], contract=CONTRACT)
    for part, wanted in zip(pool, cut(patient), strict=True):
        np.testing.assert_array_equal(part.labels, wanted.labels)
    assert {part.modality for part in pool} == {"CT"}
    assert {part.modality for part in read_pool([item | {"read_as": "other"}], contract=CONTRACT)} == {"other"}


def test_files_of_one_name_stay_apart_and_dots_in_names_are_kept(patient, tmp_path):
    volume, labels = patient
    items = []
    for who, name in (("p1", "ct"), ("p2", "ct"), ("p3", "1.2.840"), ("p3", "1.2.841")):
        image, label = tmp_path / who / f"{name}.nii.gz", tmp_path / who / f"{name}_label.nii.gz"
        write_volume(volume, image)
        write_label(labels.array, volume, label)
        items.append({"image": str(image), "label": str(label), "patient": who})
    pool = read_pool(items, contract=CONTRACT, keep_empty=True)
    assert [part.key for part in pool[::12]] == ["ct-2-0000", "ct-2-0000", "1.2.840-2-0000", "1.2.841-2-0000"]
    stacks = stack_slices(pool, depth=12)
    assert [stack.patient for stack in stacks] == ["p1", "p2", "p3", "p3"]
    assert all({part.patient for part in stack.slices} == {stack.patient} for stack in stacks)


def test_every_phantom_is_a_patient():
    pool = phantom_pool([1, 2], contract=CONTRACT, shape=(24, 20, 6))
    assert {part.patient for part in pool} == {"phantom-1", "phantom-2"}


def keyed(count: int, name: str = "a"):
    return [replace(make_slice(i), key=f"{name}-2-{i:04d}") for i in range(count)]


def test_stacks_hold_neighbours_and_reach_the_end():
    stacks = stack_slices(keyed(7), depth=3)
    assert [[int(part.key[-4:]) for part in s.slices] for s in stacks] == [[0, 1, 2], [3, 4, 5], [4, 5, 6]]


def test_stacks_do_not_mix_volumes_and_repeat_the_end_of_thin_ones():
    stacks = stack_slices([*keyed(2, "a"), *keyed(3, "b")], depth=3)
    assert [[part.key[0] for part in s.slices] for s in stacks] == [["a"] * 3, ["b"] * 3]
    assert stacks[0].slices[1] is stacks[0].slices[2]


def test_stacks_without_an_object_are_left_out():
    slices = [replace(part, ids=()) for part in keyed(3)] + keyed(3, "b")
    assert [stack.key[0] for stack in stack_slices(slices, depth=3)] == ["b"]


def test_a_stack_knows_what_was_looked_for_in_all_of_its_slices():
    first, second = (replace(part, annotated=known) for part, known in zip(keyed(2), ((1, 2), (1,)), strict=True))
    (stack,) = stack_slices([first, second], depth=2)
    assert (stack.annotated, stack.ids) == ((1,), (1,))
    assert all(set(np.unique(part.labels)) == {0, 1} for part in stack.slices)


def test_few_shots_come_from_different_patients():
    chosen = few_slices(make_pool((9, 9, 9)), count=5, seed=3)
    assert len(chosen) == 5 and {part.patient for part in chosen} == {"p0", "p1", "p2"}
    assert {part.patient for part in chosen[:3]} == {"p0", "p1", "p2"}
    assert [p.key for p in chosen] == [p.key for p in few_slices(make_pool((9, 9, 9)), count=5, seed=3)]


def test_more_shots_than_slices_are_refused():
    with pytest.raises(ValueError, match="asks for 5 slices, got 2"):
        few_slices(make_pool((2,)), count=5)


def test_sources_are_described_for_the_checkpoint():
    pool = [replace(make_slice(), patient=name, key=f"{name}-{i}") for i, name in enumerate("aab")]
    described = describe_sources({"labelled": {"slices": pool, "weight": 1.0}})
    assert described == {"labelled": {"slices": 3, "patients": 2}}


def test_hidden_labels_are_neither_asked_for_nor_seen():
    parts = without_labels([make_slice(0, ids=(1, 2)), make_slice(1, ids=(2,))], [2])
    assert [part.ids for part in parts] == [(1,)]
    assert set(np.unique(parts[0].labels)) <= {0, 1}


def test_phantoms_can_hide_organs_by_name():
    options = {"contract": CONTRACT, "shape": (24, 20, 6)}
    shown = phantom_pool([1], **options)
    hidden = phantom_pool([1], without=("liver", "pancreas", "an organ that no phantom has"), **options)
    liver, pancreas = PHANTOM_LABELS["liver"], PHANTOM_LABELS["pancreas"]
    assert {liver, pancreas} & {i for part in shown for i in part.ids}
    for part in hidden:
        assert part.ids and not {liver, pancreas} & {*part.ids, *np.unique(part.labels)}


def test_a_resized_slice_keeps_its_size_in_mm():
    part = make_slice(0)
    large = resized(part, 96)
    assert large.labels.shape == (96, 96) and large.picture.shape == (96, 96)
    assert np.allclose(np.multiply(large.pixel_spacing, 96), np.multiply(part.pixel_spacing, 48))
    assert (large.labels == 1).mean() == pytest.approx((part.labels == 1).mean(), abs=0.01)
