"""Collections of labelled sets: what one object is, which slices of a volume are kept, and that nothing is left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training_room import CONTRACT

from bundle.data.dataset_files import LayoutError
from bundle.data.labelled_sets import numbered_pieces, read_sets, sets_of_instances
from bundle.data.volume import Volume, write_label, write_volume
from bundle.transforms.dictionary import IntensityViewsd

VIEWS = IntensityViewsd("image", CONTRACT)
SIDE = 24


def make_set(folder: Path, *, instances: str | None = "components", color: bool = False, side: int = SIDE) -> Path:
    """Two pictures for training and one for validation, each with two squares of value 1 and one of value 2."""
    folder.mkdir(parents=True)
    labels = np.zeros((side, side), np.uint8)
    labels[2:8, 2:8] = labels[12:20, 2:8] = 1
    labels[12:20, 12:20] = 2
    entries = []
    for number in range(3):
        grey = np.random.default_rng(number).integers(0, 255, (side, side, 3 if color else 1)).astype(np.uint8)
        Image.fromarray(grey if color else grey[..., 0]).save(folder / f"{number}.png")
        Image.fromarray(labels).save(folder / f"{number}-label.png")
        entries.append({"image": f"{number}.png", "label": f"{number}-label.png", "patient": f"p{number}"})
    content = {"labels": {"0": "background", "1": "a", "2": "b"}, "training": entries[:2], "validation": entries[2:]}
    (folder / "datalist.json").write_text(json.dumps(content | ({"instances": instances} if instances else {})))
    return folder


def test_every_connected_piece_gets_a_number_of_its_own():
    labels = np.array([[1, 0, 1], [0, 2, 2], [7, 0, 2]])
    assert numbered_pieces(labels).tolist() == [[1, 0, 2], [0, 3, 3], [4, 0, 3]]


def test_sets_are_read_by_what_one_object_of_them_is(tmp_path):
    make_set(tmp_path / "one" / "pieces")
    make_set(tmp_path / "two" / "organs", instances=None, color=True)
    collections = [tmp_path / "one", tmp_path / "two"]
    sets = read_sets(collections, preprocessing=VIEWS)
    assert [len(pool) for pool in sets.values()] == [2, 2] and sets_of_instances(collections) == ["pieces"]
    assert sets["pieces"][0].ids == (1, 2, 3) and sets["organs"][0].ids == (1, 2)
    assert sets["organs"][0].picture.shape == (SIDE, SIDE, 3) and sets["pieces"][0].picture.ndim == 2
    assert {part.patient for part in sets["pieces"]} == {"p0", "p1"}
    assert len(read_sets(collections, preprocessing=VIEWS, split="validation")["pieces"]) == 1


def test_a_set_for_training_alone_has_no_validation_part(tmp_path):
    path = make_set(tmp_path / "pieces") / "datalist.json"
    content = json.loads(path.read_text()) | {"validation": []}
    path.write_text(json.dumps(content))
    assert len(read_sets([tmp_path], preprocessing=VIEWS)["pieces"]) == 2
    assert read_sets([tmp_path], preprocessing=VIEWS, split="validation") == {}


def test_large_pictures_are_shrunk_and_their_small_objects_not_offered(tmp_path):
    make_set(tmp_path / "pieces")
    (part, _) = read_sets([tmp_path], preprocessing=VIEWS, max_side=12, min_pixels=10)["pieces"]
    assert part.labels.shape == part.picture.shape == (12, 12) and part.ids == (2, 3)


def test_of_a_volume_some_slices_of_each_axis_are_kept(tmp_path):
    folder = tmp_path / "volumes"
    folder.mkdir()
    labels = np.zeros((12, 14, 16), np.uint8)
    labels[2:10, 2:12, 3:14] = 1
    image = Volume(np.random.default_rng(0).integers(0, 900, labels.shape).astype(np.int16), np.eye(4), "other")
    write_volume(image, folder / "v.nii.gz"), write_label(labels, image, folder / "v-label.nii.gz")
    entry = {"image": "v.nii.gz", "label": "v-label.nii.gz", "patient": "v"}
    content = {"labels": {"1": "a"}, "training": [entry], "validation": [entry]}
    (folder / "datalist.json").write_text(json.dumps(content))
    first, again = (read_sets([tmp_path], preprocessing=VIEWS, slices={"volumes": 2})["volumes"] for _ in range(2))
    assert [part.key.split("-")[-2] for part in first] == ["0", "0", "1", "1", "2", "2"]
    assert [part.key for part in first] == [part.key for part in again]


def test_what_is_no_set_is_refused(tmp_path):
    with pytest.raises(LayoutError, match=r"no set with a datalist.json lies in"):
        read_sets([tmp_path], preprocessing=VIEWS)
    make_set(tmp_path / "odd", instances="blobs")
    with pytest.raises(LayoutError, match=r"must be one of labels, ids, components, got 'blobs'"):
        sets_of_instances([tmp_path])
