"""Every layout gives the same kind of items, and no patient stands in two splits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from monai.bundle import ConfigParser

from bundle.data import datasets as layouts
from bundle.data.dataset_files import names_listed
from bundle.data.datasets import LAYOUTS, LayoutError, organ_names, read_layout
from bundle.data.labels import FLARE22_LABELS
from bundle.data.splits import SPLITS, split_items
from bundle.data.volume import Volume, read_label, read_volume, write_label, write_volume

LABELS = np.zeros((6, 5, 4), np.uint8)
LABELS[1:3, 1:3, 1:3], LABELS[4, 4, 3] = 1, 2
PICTURE = LABELS[:, :, 1:2]


def save(root: Path, image: str, label: str | None = None, labels: np.ndarray = LABELS) -> None:
    volume = Volume(np.arange(labels.size, dtype=np.uint8).reshape(labels.shape), np.eye(4), "windowed")
    write_volume(volume, root / image)
    if label:
        write_label(labels, volume, root / label)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def make_flare22(root: Path) -> None:
    for case in (1, 2, 3):
        save(root, f"images/FLARE22_Tr_{case:04d}_0000.nii.gz", f"labels/FLARE22_Tr_{case:04d}.nii.gz")


def make_msd(root: Path) -> None:
    save(root, "imagesTr/liver_1.nii.gz", "labelsTr/liver_1.nii.gz")
    save(root, "imagesTs/liver_2.nii.gz")
    entry = {"image": "./imagesTr/liver_1.nii.gz", "label": "./labelsTr/liver_1.nii.gz"}
    names = {"0": "background", "1": "liver", "2": "cancer"}
    write_json(root / "dataset.json", {"labels": names, "training": [entry], "test": ["./imagesTs/liver_2.nii.gz"]})


def make_nnunet(root: Path) -> None:
    for case in ("a_1", "b_2"):
        save(root, f"imagesTr/{case}_0000.nii.gz", f"labelsTr/{case}.nii.gz")
        save(root, f"imagesTr/{case}_0001.nii.gz")
    write_json(root / "dataset.json", {"labels": {"background": 0, "liver": 1, "cancer": 2}})


def make_medsam(root: Path) -> None:
    for case in ("CT_a", "CT_b"):
        np.savez(root / f"{case}.npz", imgs=LABELS * 9, gts=LABELS, spacing=(1, 1, 2))


def make_sam_med2d(root: Path) -> None:
    save(root, "images/ct_7_90.png", "masks/ct_7_90_liver_000.png", PICTURE * 255)
    save(root, "images/ct_7_91.png", "masks/ct_7_91_left_kidney_001.png", PICTURE * 255)
    pairs = {f"data/images/ct_7_{n}.png": [f"data/masks/ct_7_{n}_{organ}.png"] for n, organ in [(90, "liver_000")]}
    write_json(root / "image2label_train.json", pairs)
    write_json(root / "label2image_test.json", {"data/masks/ct_7_91_left_kidney_001.png": "data/images/ct_7_91.png"})


def make_monai_label(root: Path) -> None:
    save(root, "scan1.nii.gz", "labels/final/scan1.nii.gz")
    save(root, "scan2.nii.gz")
    info = {"label_info": [{"name": "tumour", "idx": 2}, {"name": "liver", "idx": 1}]}
    write_json(root / "datastore_v2.json", {"objects": {"scan1": {"labels": {"final": {"info": info}}}}})


def make_folders(root: Path) -> None:
    for name in ("p1_a", "p1_b", "p2_a"):
        save(root, f"images/{name}.nii.gz", f"labels/{name}.nii.gz")


MAKERS = {name.removeprefix("make_"): maker for name, maker in list(globals().items()) if name.startswith("make_")}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_readable_items(tmp_path, layout):
    MAKERS[layout](tmp_path)
    for item in read_layout(layout, tmp_path):
        assert {"image", "label", "patient", "labels", "labelled"} <= set(item)
        image = read_volume(item["image"])
        if item["label"] is None:
            assert item["labelled"] == []
            continue
        label = read_label(item["label"])
        assert image.shape == label.shape
        assert set(np.unique(label.array)) - {0} <= set(item["labels"].values())
        assert set(item["labelled"]) <= set(item["labels"].values())


def test_flare22_has_thirteen_organs_and_patients_without_channel_number(tmp_path):
    make_flare22(tmp_path)
    items = layouts.flare22(tmp_path)
    assert [item["patient"] for item in items] == ["FLARE22_Tr_0001", "FLARE22_Tr_0002", "FLARE22_Tr_0003"]
    assert organ_names(items) == {value: name for name, value in FLARE22_LABELS.items()}


def test_an_msd_list_gives_unlabelled_images_only_when_asked(tmp_path):
    make_msd(tmp_path)
    (alone,) = layouts.msd(tmp_path)
    labelled, unlabelled = layouts.msd(tmp_path, unlabelled=True)
    assert alone == labelled and labelled["labels"] == {"liver": 1, "cancer": 2}
    assert (labelled["labelled"], unlabelled["labelled"], unlabelled["label"]) == ([1, 2], [], None)


def test_msd_test_cases_without_labels_stand_in_no_split(tmp_path):
    for case in range(10):
        save(tmp_path, f"imagesTr/liver_{case}.nii.gz", f"labelsTr/liver_{case}.nii.gz")
    pairs = [{"image": f"imagesTr/liver_{n}.nii.gz", "label": f"labelsTr/liver_{n}.nii.gz"} for n in range(10)]
    hidden = [f"imagesTs/liver_{n}.nii.gz" for n in range(10, 20)]  # nobody has to download them
    write_json(tmp_path / "dataset.json", {"labels": {"1": "liver", "2": "cancer"}, "training": pairs, "test": hidden})
    splits = split_items(layouts.msd(tmp_path))
    assert {name: len(items) for name, items in splits.items()} == {"training": 8, "validation": 1, "test": 1}
    assert all(item["label"] for items in splits.values() for item in items)


def test_a_list_may_bring_patients_and_its_own_split(tmp_path):
    for name in ("a", "b"):
        save(tmp_path, f"{name}.png", f"{name}_label.png", (PICTURE == 1).astype(np.uint8))
    entries = [{"image": f"{n}.png", "label": f"{n}_label.png", "patient": p} for n, p in (("a", "x"), ("b", "y"))]
    lists = {"labels": {"1": "liver", "2": "cancer"}, "training": entries[:1], "validation": entries[1:]}
    write_json(tmp_path / "list.json", lists)
    first, second = layouts.msd(tmp_path, datalist="list.json", labelled="present")
    assert (first["patient"], first["split"], second["split"]) == ("x", "training", "validation")
    assert first["labelled"] == [1]  # "cancer" was not annotated here, which does not mean that there is none


ENTRY = {"image": "a.nii.gz", "label": "l.nii.gz"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([ENTRY], r"dataset\.json must hold one JSON object, got a list"),
        ({"labels": ["liver"]}, r"labels of .*dataset\.json must be an object.* got \['liver'\]"),
        (
            {"labels": {"one": "liver"}},
            "the value of 'one' in labels of .* must be a whole number from 0.* got 'liver'",
        ),
        ({"labels": {"1": None}}, "the value of '1' in labels of .* got None"),
        ({"labels": {"liver": 2**32}}, "below 2.*32, got 4294967296"),
        ({"labels": {"liver": True}}, "got True"),
        ({"labels": {"1" * 5000: "liver"}}, "must be a whole number from 0"),
        ({"labels": {"1": "liver", "2": "liver"}}, "give 'liver' two values, 1 and 2"),
        ({"training": ENTRY}, r"training of .*dataset\.json must be a list, got"),
        ({"training": [3]}, r"training\[0\] of .* must be a path or .* got 3"),
        ({"training": [["a.nii.gz", "l.nii.gz"]]}, r"training\[0\] of .* got \['a"),
        ({"training": [ENTRY, {"label": "l.nii.gz"}]}, r"image of training\[1\] of .* must be one path, got None"),
        ({"training": [{**ENTRY, "image": ["a.nii.gz"]}]}, "must be one path, got"),
        ({"training": [{**ENTRY, "label": {}}]}, r"label of training\[0\] of .* got {}"),
        ({"training": [{**ENTRY, "patient": []}]}, "patient of .* must be a text or number"),
        ({"training": [{**ENTRY, "series": 3}]}, "series of .* must be a text, got 3"),
        ({"training": [{**ENTRY, "labelled": 1}]}, "labelled of .* must be a list of values, got 1"),
        ({"training": [{**ENTRY, "labelled": [[1]]}]}, r"a value of labelled of .* got \[1\]"),
        ({"training": [{**ENTRY, "labelled": [1e300]}]}, "a value of labelled of"),
        ({"training": [{**ENTRY, "image": "a" * 5000}]}, "is listed and cannot be looked up: File name too long"),
        ({"training": [{**ENTRY, "image": "a\0b"}]}, "there is no such file"),
    ],
    ids=str,
)
def test_a_wrong_data_list_says_what_is_wrong_and_where(tmp_path, content, message):
    save(tmp_path, "a.nii.gz", "l.nii.gz")
    write_json(tmp_path / "dataset.json", content)
    with pytest.raises(LayoutError, match=message):
        layouts.msd(tmp_path)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"0": "background", "1": "liver"}, {"liver": 1}),
        ({"background": 0, "liver": 1}, {"liver": 1}),
        ({"1": "2"}, {"2": 1}),
        ({"2": 1}, {"2": 1}),
        ({"liver": "3"}, {"liver": 3}),
    ],
)
def test_labels_of_a_list_map_values_to_names_or_names_to_values(tmp_path, labels, names):
    assert names_listed(labels, tmp_path / "dataset.json") == names


def test_lists_of_other_programs_are_checked_too(tmp_path):
    write_json(tmp_path / "pairs.json", {"a.png": [3]})
    with pytest.raises(LayoutError, match=r"'a.png' in .*pairs\.json must be a path or a list of paths, got 3"):
        layouts.sam_med2d(tmp_path, pairs="pairs.json")
    make_monai_label(tmp_path)
    for info, message in (
        ({"label_info": [{"name": "liver", "idx": "one"}]}, "idx in label_info of .* got 'one'"),
        ({"label_info": 3}, "label_info of .* must be a list, got 3"),
        ([], "label_info of .* must be in an object"),
    ):
        write_json(tmp_path / "datastore_v2.json", {"objects": {"scan1": {"labels": {"final": {"info": info}}}}})
        with pytest.raises(LayoutError, match=message):
            layouts.monai_label(tmp_path)
    write_json(tmp_path / "datastore_v2.json", {"objects": {"scan1": []}})
    with pytest.raises(LayoutError, match=r"the entry of scan1\.nii\.gz in .* must be objects within objects"):
        layouts.monai_label(tmp_path)


def test_nnunet_picks_a_channel_and_reads_both_versions(tmp_path):
    make_nnunet(tmp_path)
    items = layouts.nnunet(tmp_path, channel=1)
    assert [(Path(item["image"]).name, item["patient"]) for item in items] == [
        ("a_1_0001.nii.gz", "a_1"),
        ("b_2_0001.nii.gz", "b_2"),
    ]
    write_json(tmp_path / "dataset.json", {"labels": {"0": "background", "1": "liver", "2": "cancer"}})
    assert layouts.nnunet(tmp_path)[0]["labels"] == items[0]["labels"] == {"liver": 1, "cancer": 2}
    write_json(tmp_path / "dataset.json", {"labels": {"background": 0, "whole": [1, 2]}})
    with pytest.raises(LayoutError, match="regions"):
        layouts.nnunet(tmp_path)


def test_medsam_npy_slices_belong_to_the_patient_of_their_case(tmp_path):
    for folder, array in (("imgs", np.random.default_rng(0).random((8, 8, 3))), ("gts", np.eye(8, dtype=np.uint8))):
        (tmp_path / folder).mkdir()
        for index in (0, 1):
            np.save(tmp_path / folder / f"CT_case1-{index:03d}.npy", array)
    items = layouts.medsam(tmp_path)
    assert {item["patient"] for item in items} == {"CT_case1"}
    assert items[0]["labels"] == {"label_1": 1}


@pytest.mark.parametrize(
    ("pairs", "organ"), [("image2label_train.json", "liver"), ("label2image_test.json", "left_kidney")]
)
def test_sam_med2d_names_the_organ_of_each_mask_in_both_directions(tmp_path, pairs, organ):
    make_sam_med2d(tmp_path)
    (item,) = layouts.sam_med2d(tmp_path, pairs=pairs)
    assert (item["labels"], item["patient"]) == ({organ: 255}, "ct_7")


def test_monai_label_names_go_by_number_and_unlabelled_images_are_optional(tmp_path):
    make_monai_label(tmp_path)
    (item,) = layouts.monai_label(tmp_path)
    assert item["labels"] == {"tumour": 2, "liver": 1}
    assert [item["patient"] for item in layouts.monai_label(tmp_path, unlabelled=True)] == ["scan1", "scan2"]
    (tmp_path / "datastore_v2.json").unlink()
    assert layouts.monai_label(tmp_path)[0]["labels"] == {"label_1": 1, "label_2": 2}


def test_a_pattern_finds_the_patient_in_plain_folders(tmp_path):
    make_folders(tmp_path)
    items = layouts.folders(tmp_path, patient=r"(p\d)_")
    assert [item["patient"] for item in items] == ["p1", "p1", "p2"]
    assert [item["patient"] for item in layouts.folders(tmp_path)] == ["p1_a", "p1_b", "p2_a"]
    with pytest.raises(LayoutError, match="patient pattern"):
        layouts.folders(tmp_path, patient=r"(q\d)_")


PICTURE_SETS = {
    "flare22": ("images/p1_7_0000.png", "labels/p1_7.png"),
    "nnunet": ("imagesTr/p1_7_0000.png", "labelsTr/p1_7.png"),
    "monai_label": ("p1_7.png", "labels/final/p1_7.png"),
    "folders": ("images/p1_7.png", "labels/p1_7.png"),
}


@pytest.mark.parametrize("layout", PICTURE_SETS)
def test_slices_whose_patient_nobody_names_are_refused(tmp_path, layout):
    save(tmp_path, *PICTURE_SETS[layout], PICTURE)
    write_json(tmp_path / "dataset.json", {"labels": {"liver": 1}})
    with pytest.raises(LayoutError, match="nothing says whose"):
        read_layout(layout, tmp_path)
    (item,) = read_layout(layout, tmp_path, patient=r"(p\d)_")
    assert item["patient"] == "p1"


def test_slices_of_a_data_list_need_its_patients(tmp_path):
    save(tmp_path, "a.png", "b.png", PICTURE)
    entry = {"image": "a.png", "label": "b.png"}
    write_json(tmp_path / "dataset.json", {"labels": {"1": "liver"}, "training": [entry]})
    with pytest.raises(LayoutError, match="give `patient` in the data list"):
        layouts.msd(tmp_path)


def test_dots_of_a_uid_are_no_ending(tmp_path):
    for name in ("1.2.840.1", "1.2.840.2"):
        save(tmp_path, f"images/{name}.nii.gz", f"labels/{name}.nii.gz")
    assert [item["patient"] for item in layouts.folders(tmp_path)] == ["1.2.840.1", "1.2.840.2"]


def test_wrong_folders_are_named(tmp_path):
    for layout in LAYOUTS:
        with pytest.raises(LayoutError):
            read_layout(layout, tmp_path)
    with pytest.raises(LayoutError, match="layout must be one of flare22"):
        read_layout("coco", tmp_path)
    save(tmp_path, "images/a.nii.gz", "labels/b.nii.gz")
    with pytest.raises(LayoutError, match="have no image"):
        layouts.folders(tmp_path)
    write_json(tmp_path / "dataset.json", {"training": [{"image": "gone.nii.gz", "label": "gone.nii.gz"}]})
    with pytest.raises(LayoutError, match=r"gone\.nii\.gz is listed"):
        layouts.msd(tmp_path)


def test_one_value_with_two_names_is_refused():
    with pytest.raises(LayoutError, match=r"prepare\.py"):
        organ_names([{"labels": {"liver": 1}}, {"labels": {"spleen": 1}}])


def make_list(root: Path) -> None:
    names = ("liver_7_90", "pancreas_8_90")
    for name in names:
        save(root, f"images/{name}.png", f"labels/{name}.png", PICTURE)
    pairs = [{"image": f"images/{n}.png", "label": f"labels/{n}.png", "patient": n.rpartition("_")[0]} for n in names]
    organs = {"0": "background", "1": "liver", "2": "pancreas"}
    write_json(root / "datalist.json", {"labels": organs, "training": pairs[:1], "validation": pairs[1:]})


OVERLAYS = {
    **{name: MAKERS[name] for name in LAYOUTS},
    **{"flare22_style": make_flare22, "abdomen_ct_2d": make_list, "prepared": make_list},
}


def test_there_is_a_config_for_every_layout(repository):
    assert {path.stem for path in (repository / "configs" / "datasets").glob("*.json")} == set(OVERLAYS)


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_dataset_config_gives_items_and_organs(tmp_path, repository, name):
    OVERLAYS[name](tmp_path)
    parser = ConfigParser({"imports": ["$import os"], "bundle_root": str(repository)})
    parser.update(json.loads((repository / "configs" / "datasets" / f"{name}.json").read_text()))
    parser["dataset_dir"] = str(tmp_path)
    assert parser.get_parsed_content("training_items")
    assert isinstance(parser.get_parsed_content("validation_items"), list)
    assert all(isinstance(value, int) for value in parser.get_parsed_content("organs"))


def test_training_reads_by_default_what_the_config_of_its_data_set_says(repository):
    train, overlay = (
        json.loads((repository / "configs" / name).read_text())
        for name in ("train.json", "datasets/abdomen_ct_2d.json")
    )
    assert {key: train[key] for key in overlay if key != "_desc_"} | {"_desc_": overlay["_desc_"]} == overlay


def test_names_of_images_say_which_organ_was_annotated(tmp_path):
    make_list(tmp_path)
    options = {"datalist": "datalist.json", "labelled": {"liver_*": ["liver"], "pan*": ["pancreas", "liver"]}}
    assert [item["labelled"] for item in layouts.msd(tmp_path, **options)] == [[1], [1, 2]]
    with pytest.raises(LayoutError, match="no pattern"):
        layouts.msd(tmp_path, **options | {"labelled": {"liver_*": ["liver"]}})
    with pytest.raises(LayoutError, match="'spleen', but the list has the organs liver, pancreas"):
        layouts.msd(tmp_path, **options | {"labelled": {"*": ["spleen"]}})


@pytest.mark.real_data
def test_the_names_of_the_real_slices_say_what_their_label_files_hold(real_data, repository):
    config = json.loads((repository / "configs" / "datasets" / "abdomen_ct_2d.json").read_text())
    by_name, by_content = (
        layouts.msd(real_data / "abdomen-ct-2d", datalist="datalist.json", labelled=labelled)
        for labelled in (config["dataset_items"]["labelled"], "present")
    )
    assert by_name == by_content


@pytest.mark.real_data
def test_real_layouts_read(real_data):
    (flare,) = layouts.flare22(real_data / "flare22-style")
    assert set(layouts.values_in(Path(flare["label"]))) <= set(flare["labelled"])
    slices = layouts.msd(real_data / "abdomen-ct-2d", datalist="datalist.json")
    splits = split_items(slices)
    assert [len(splits[name]) for name in SPLITS] == [851, 136, 0]
    masks = layouts.sam_med2d(real_data / "sam-med2d-demo")
    assert {"liver", "heart_atrium_left", "rib_right_9"} <= {name for item in masks for name in item["labels"]}


@pytest.mark.parametrize("layout", ["flare22", "nnunet", "folders", "medsam", "monai_label"])
def test_files_that_macos_leaves_are_no_items(layout, tmp_path, caplog):
    MAKERS[layout](tmp_path)
    before = read_layout(layout, tmp_path)
    for path in [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".json"]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7" + b"\0" * 300)
    assert read_layout(layout, tmp_path) == before
    assert "passed over as no images" in caplog.text


def test_a_list_that_was_written_on_windows_is_read(tmp_path):
    make_msd(tmp_path)
    path = tmp_path / "dataset.json"
    before = read_layout("msd", tmp_path)
    path.write_bytes(path.read_text().replace("/", "\\\\").encode("utf-8-sig"))
    assert "\\\\imagesTr" in path.read_text("utf-8-sig")
    assert read_layout("msd", tmp_path) == before
