"""Volumes become slices that a network sees as it would see the volume, and a killed run goes on."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from bundle.data import prepare as module
from bundle.data.datasets import flare22, msd
from bundle.data.labelled_slices import read_pool
from bundle.data.prepare import Preparation, PrepareError, prepare, unified_labels
from bundle.data.slice_files import STORAGES
from bundle.data.slices import SliceFilters
from bundle.data.splits import check_disjoint, split_items
from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import Volume, read_label, read_volume, write_label, write_volume
from bundle.families.family import load_family
from bundle.transforms.frames import SliceFrame

FILTERS = SliceFilters(5, 3, 0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Three small generated patients in FLARE22's layout."""
    root = tmp_path_factory.mktemp("flare22")
    for seed in range(3):
        image, label, _ = make_phantom(shape=(40, 36, 12), spacing=(9, 9, 20), seed=seed)
        write_volume(image, root / "images" / f"FLARE22_Tr_{seed:04d}_0000.nii.gz")
        write_label(label.array, label, root / "labels" / f"FLARE22_Tr_{seed:04d}.nii.gz")
    return root


def preparation(family: str = "medsam_v0", **options) -> Preparation:
    return Preparation(contract=load_family(family).contract, filters=FILTERS, **options)


@pytest.mark.parametrize("family", ["medsam_v0", "default"])
def test_a_prepared_slice_gives_the_network_the_input_that_its_volume_gives(tmp_path, dataset, family):
    items = flare22(dataset)[:1]
    prepare(items, tmp_path, preparation(family))
    contract, volume = load_family(family).contract, read_volume(items[0]["image"])
    item = msd(tmp_path, datalist="datalist.json")[3]
    picture = read_volume(tmp_path / item["image"])
    from_volume, from_picture = (
        contract.to_input(
            SliceFrame.of_plane(v.shape, v.affine, "axial").extract(v.array, index),
            contract.intensity(v.array, v.modality),
            contract.placement(36, 40, tuple(item["pixel_spacing"])),
        )
        for v, index in ((volume, item["index"]), (picture, 0))
    )
    # Eight bits are all that a PNG keeps: a family whose contract does not round loses at most one of 255 steps.
    step = 0 if contract.eight_bit else 1.001 / min(contract.std)
    np.testing.assert_allclose(from_picture, from_volume, atol=step + 1e-6)


@pytest.mark.parametrize("storage", STORAGES)
def test_both_storages_hold_the_same_slices_in_all_planes(tmp_path, dataset, storage):
    items = flare22(dataset)[:1]
    report = prepare(items, tmp_path, preparation(storage=storage, planes=("axial", "sagittal")))
    prepared = msd(tmp_path, datalist="datalist.json")
    volume, truth = read_volume(items[0]["image"]), read_label(items[0]["label"])
    pictures = 0
    for item in prepared:
        image, label = read_volume(tmp_path / item["image"]), read_label(tmp_path / item["label"])
        assert (image.modality, image.array.dtype) == ("windowed", np.uint8)
        for k, described in enumerate(item.get("slices", [item])):
            frame = SliceFrame.of_plane(volume.shape, volume.affine, described["plane"])
            full = frame.extract(truth.array, described["index"])
            stored = label.array[:, :, k].T
            assert ((stored == full) | (stored == 0)).all()
            assert {str(value) for value in np.unique(stored) if value} == set(described["boxes"])
            pictures += 1
    assert pictures == report["slices"] > 20


@pytest.mark.parametrize("storage", STORAGES)
def test_a_prepared_folder_read_back_keeps_pixel_spacing_modality_and_patient(tmp_path, dataset, storage):
    items = flare22(dataset)[:2]
    prepare(items, tmp_path, preparation(storage=storage, planes=("axial", "sagittal")))
    pool = read_pool(msd(tmp_path, datalist="datalist.json"), contract=load_family("medsam_v0").contract)
    volume = read_volume(items[0]["image"])
    spacing = {
        plane: SliceFrame.of_plane(volume.shape, volume.affine, plane).pixel_spacing(volume.spacing)
        for plane in ("axial", "sagittal")
    }
    assert {part.key.removeprefix(part.patient).split("_")[1].split("-")[0] for part in pool} == set(spacing)
    for part in pool:
        plane = next(plane for plane in spacing if plane in part.key)
        np.testing.assert_allclose(part.pixel_spacing, spacing[plane])
        assert part.modality == "windowed"
    assert {part.patient for part in pool} == {item["patient"] for item in items}


def test_what_the_filters_took_from_a_slice_is_unlabelled_there_in_both_storages(tmp_path, dataset):
    items, contract = flare22(dataset)[:1], load_family("medsam_v0").contract
    known = {}
    for storage in STORAGES:
        prepare(items, tmp_path / storage, Preparation(contract, filters=SliceFilters(0, 15, 0), storage=storage))
        pool = read_pool(msd(tmp_path / storage, datalist="datalist.json"), contract=contract, min_pixels=1)
        assert all(set(part.ids) <= set(part.annotated) <= set(items[0]["labelled"]) for part in pool)
        known[storage] = [part.annotated for part in pool]
    assert known["png"] == known["zarr"] and len(set(known["zarr"])) > 1


def test_two_labels_of_one_name_get_files_of_their_own(tmp_path, dataset):
    items = []
    for number, item in enumerate(flare22(dataset)[:2]):
        (tmp_path / str(number)).mkdir()
        label = shutil.copy(item["label"], tmp_path / str(number) / "label.nii.gz")
        items.append({**item, "label": str(label)})
    prepare(items, tmp_path / "out", preparation())
    prepared = msd(tmp_path / "out", datalist="datalist.json")
    assert {Path(entry["image"]).name.split("_axial")[0] for entry in prepared} == set(module.item_keys(items))
    assert len({entry["source"] for entry in prepared}) == 2


def test_patients_stay_together_and_folds_are_written(tmp_path, dataset):
    report = prepare(flare22(dataset), tmp_path, preparation(), folds=3)
    assert report["patients"] == {"training": 1, "validation": 1, "test": 1}
    check_disjoint(split_items(msd(tmp_path, datalist="datalist.json")))
    folds = [msd(tmp_path, datalist=f"fold_{n}.json") for n in range(3)]
    held_out = [{item["patient"] for item in fold if item["split"] == "validation"} for fold in folds]
    assert set.union(*held_out) == {f"FLARE22_Tr_000{n}" for n in range(3)}


def test_a_killed_run_goes_on_and_a_changed_setting_starts_over(tmp_path, dataset, monkeypatch):
    items, done = flare22(dataset), []
    index = module.index_slices

    def counted(label, **options):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(label.source)
        return index(label, **options)

    monkeypatch.setattr(module, "index_slices", counted)
    with pytest.raises(KeyboardInterrupt):
        prepare(items, tmp_path, preparation())
    assert not (tmp_path / "datalist.json").exists()
    done[:] = [None]  # the third item may be indexed now, the first two must not be again
    report = prepare(items, tmp_path, preparation())
    assert report["items"] == 3
    assert len(done) == 2
    monkeypatch.setattr(module, "index_slices", lambda label, **options: done.append(label) or index(label, **options))
    prepare(items, tmp_path, preparation(planes=("coronal",)))
    assert len(done) == 5


def test_two_processes_write_what_one_writes(tmp_path, dataset):
    for workers in (1, 2):
        prepare(flare22(dataset)[:2], tmp_path / str(workers), preparation(), workers=workers)
    one, two = ((tmp_path / str(workers) / "datalist.json").read_text() for workers in (1, 2))
    assert one == two


def test_two_programs_share_the_items_of_a_folder_and_end_with_one_list(tmp_path, dataset, monkeypatch):
    items, indexed, other, index = flare22(dataset), [], [], module.index_slices
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not a volume")
    items[2] = {**items[2], "image": str(broken)}

    def counted(label, **options):
        indexed.append(label.source)
        if not other:  # the second program comes and does all that is free, while this one holds its first item
            other.append(ThreadPoolExecutor(1).submit(prepare, items, tmp_path / "both", preparation()))
            while not other[0].done() and len(list((tmp_path / "both" / "records").glob("*.json"))) < 2:
                time.sleep(0.01)
        return index(label, **options)

    monkeypatch.setattr(module, "index_slices", counted)
    report = prepare(items, tmp_path / "both", preparation())
    assert report == other[0].result() == prepare(items, tmp_path / "alone", preparation())
    assert list(report["failed"]) == ["FLARE22_Tr_0002"] and len(indexed) == 4
    both, alone = ((tmp_path / name / "datalist.json").read_text() for name in ("both", "alone"))
    assert both == alone


@pytest.mark.slow
def test_a_run_that_is_killed_takes_its_workers_along_and_goes_on(repository, tmp_path, dataset):
    arguments = ["--layout", "flare22", "--data", str(dataset), "--min-voxels", "5", "--min-pixels", "3"]
    parallel = [str(repository / "scripts" / "prepare.py"), *arguments, "--workers", "2"]
    process = subprocess.Popen([sys.executable, *parallel, "--output", str(tmp_path / "killed")], cwd=repository)
    while not list((tmp_path / "killed").glob("records/*.json")):
        assert process.poll() is None
        time.sleep(0.1)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert not psutil.wait_procs(workers, timeout=60)[1]
    for name in ("killed", "whole"):
        assert command(repository)([*arguments, "--output", str(tmp_path / name)]) == 0
    killed, whole = ((tmp_path / name / "datalist.json").read_text() for name in ("killed", "whole"))
    assert killed == whole


def test_a_damaged_file_is_reported_and_the_rest_is_done(tmp_path, dataset):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not a volume")
    items = flare22(dataset)
    items[1] = {**items[1], "image": str(broken)}
    report = prepare(items, tmp_path / "out", preparation())
    assert list(report["failed"]) == ["FLARE22_Tr_0001"]
    assert "damaged" in report["failed"]["FLARE22_Tr_0001"]


def test_the_report_says_what_was_dropped_and_which_organ_vanished(tmp_path, dataset):
    strict = Preparation(contract=load_family("medsam_v0").contract, filters=SliceFilters(40, 0, 0))
    report = prepare(flare22(dataset)[:1], tmp_path, strict)
    assert report["organs_lost"]["gallbladder"] == ["FLARE22_Tr_0000"]
    assert report["dropped"]["component_3d"]["gallbladder"]["size"] > 0
    assert json.loads((tmp_path / "report.json").read_text()) == report


def test_names_decide_the_numbers_where_values_disagree():
    assert unified_labels([{"labels": {"b": 2, "a": 7}}, {"labels": {"b": 2}}]) == {"b": 2, "a": 7}
    assert unified_labels([{"labels": {"liver": 255}}, {"labels": {"aorta": 255}}]) == {"aorta": 1, "liver": 2}


def test_numbers_that_no_png_holds_are_given_smaller_ones():
    assert unified_labels([{"labels": {"thalamus": 614_454_277, "cortex": 5}}]) == {"cortex": 1, "thalamus": 2}


def test_a_label_map_of_an_atlas_in_another_order_is_prepared_on_its_image(tmp_path):
    image = Volume(np.random.default_rng(0).integers(0, 99, (20, 20, 6)).astype(np.int16), np.diag([2.0, 2, 5, 1]))
    labels = np.zeros(image.shape, np.uint32)
    labels[2:8, 3:9] = 614_454_277
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = 19
    write_volume(image, tmp_path / "a.nrrd")
    mirrored = Volume(labels[::-1], image.affine @ flip)
    write_label(mirrored.array, mirrored, tmp_path / "a_label.nrrd")
    item = {"image": str(tmp_path / "a.nrrd"), "label": str(tmp_path / "a_label.nrrd"), "patient": "p"}
    item |= {"labels": {"thalamus": 614_454_277}, "labelled": [614_454_277], "split": "training"}
    report = prepare([item], tmp_path / "out", preparation())
    assert (report["failed"], report["slices"]) == ({}, 6)
    first = json.loads((tmp_path / "out/datalist.json").read_text())["training"][0]
    picture, label = read_volume(tmp_path / "out" / first["image"]), read_label(tmp_path / "out" / first["label"])
    frame = SliceFrame.of_plane(image.shape, image.affine, "axial")
    np.testing.assert_array_equal(label.array[:, :, 0].T, frame.extract(labels > 0, 0))
    assert picture.shape == label.shape


def test_options_that_do_not_fit_are_refused(tmp_path, dataset):
    with pytest.raises(PrepareError, match="storage"):
        preparation(storage="hdf5")
    with pytest.raises(PrepareError, match="labelled items"):
        prepare([{"image": "a", "label": None}], tmp_path, preparation())
    with pytest.raises(PrepareError, match="no slice is left"):
        huge = Preparation(contract=load_family("medsam_v0").contract, filters=SliceFilters(10**9, 0, 0))
        prepare(flare22(dataset)[:1], tmp_path, huge)


def command(repository: Path):
    spec = importlib.util.spec_from_file_location("prepare_command", repository / "scripts" / "prepare.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script.main


def test_the_command_prints_what_it_did_and_fails_with_one_sentence(repository, tmp_path, dataset, capsys):
    main = command(repository)
    filters = ["--min-voxels", "5", "--min-pixels", "3", "--min-share", "0"]
    assert main(["--layout", "flare22", "--data", str(dataset), "--output", str(tmp_path), *filters]) == 0
    assert "slices of 3 items" in capsys.readouterr().out
    assert main(["--layout", "nnunet", "--data", str(dataset), "--output", str(tmp_path)]) == 2
    assert "dataset.json" in capsys.readouterr().err


@pytest.mark.real_data
def test_a_real_ct_is_prepared_and_small_organs_are_reported(real_data, tmp_path):
    report = prepare(flare22(real_data / "flare22-style"), tmp_path, Preparation(load_family("medsam_v0").contract))
    assert report["slices"] > 30
    # On a grid of 3 mm MedSAM's 1000 voxels are 27 ml: the rules take the adrenals away, and the report says so.
    assert {"right_adrenal_gland", "left_adrenal_gland"} <= set(report["organs_lost"])
    item = msd(tmp_path, datalist="datalist.json")[20]
    picture, label = read_volume(tmp_path / item["image"]), read_label(tmp_path / item["label"])
    value, box = next(iter(item["boxes"].items()))
    x0, y0, x1, y1 = box
    inside = label.array[x0 : x1 + 1, y0 : y1 + 1, 0] == int(value)
    assert inside.sum() == item["pixels"][value]
    assert 60 < picture.array[x0 : x1 + 1, y0 : y1 + 1, 0][inside].mean() < 180
