"""The walk of docs/walkthrough.md: what it stores, shows and keeps; the clients themselves where they are there."""

from __future__ import annotations

import json

import numpy as np
import pydicom
import pytest
import walk_room
from dicomweb_client import DICOMwebClient
from nninteractive_room import ball, balls, bright_opener, running
from pacs_room import orthanc
from PIL import Image

from bundle.data.volume import Volume, read_volume, write_label, write_volume
from bundle.errors import RunStateError
from bundle.evaluation.learning_table import shown_table
from monailabel_app.demo.active_round import Case
from scripts import walkthrough


@pytest.fixture
def case(tmp_path):
    """Two bright balls, and the first of them as label; stored in RAS, as MSD's volumes are."""
    array, truth = (np.ascontiguousarray(one.T[::-1, ::-1]) for one in (balls(), ball(0)))
    volume = Volume(array.astype(np.int16), np.diag([2.0, 2.0, 3.0, 1.0]))
    image = write_volume(volume, tmp_path / "image.nii.gz")
    label = write_label(truth.astype(np.uint8), volume, tmp_path / "label.nii.gz")
    return Case("patient 1", image, label, {"ball": 1})


# ---- the script -----------------------------------------------------------------------------------------------------


@pytest.fixture
def walk(tmp_path, monkeypatch):
    """Runs the script with ways that do nothing; the first has no client here. Gives its code and what was walked."""
    walked = []

    def without_client(options, work):
        pytest.skip("needs Orthanc")

    def with_client(options, work):
        walked.append(work)
        (work / "file").write_text("")
        return {"rounds": []}

    monkeypatch.setattr(walkthrough, "WAYS", {"orthanc": without_client, "folder": with_client})

    def run(*arguments):
        walked.clear()
        return walkthrough.main(["--output", str(tmp_path / "walk"), *arguments]), len(walked)

    return run


def test_a_way_without_its_clients_is_left_out_and_said_and_the_other_is_walked_once(walk, tmp_path, capsys):
    assert walk() == (1, 1)
    assert "orthanc: left out, needs Orthanc" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "walk").iterdir()) == ["folder.json", "settings.json"]
    assert json.loads((tmp_path / "walk/folder.json").read_text())["minutes"] == 2.0
    assert walk("--ways", "folder") == (0, 0)


def test_a_folder_of_another_walk_is_not_gone_on_with(walk):
    walk("--ways", "folder")
    with pytest.raises(RunStateError, match="minutes"):
        walk("--ways", "folder", "--minutes", "9")


def test_the_image_that_is_shown_last_is_one_that_was_not_labelled(case):
    cases = [case, Case("patient 2", case.image, case.label, case.names)]
    assert walkthrough.unlabelled(cases, {"rounds": [{"image": "patient 1"}]}).name == "patient 2"


# ---- what is stored and shown ---------------------------------------------------------------------------------------


def test_an_image_is_sent_as_a_series_that_lies_where_it_lies(case, tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr(walk_room, "DICOMwebClient", lambda address: type("To", (), {"store_instances": sent.extend}))
    walk_room.store("http://pacs", case, tmp_path / "dicom")
    for number, dataset in enumerate(sent):
        (tmp_path / "got").mkdir(exist_ok=True)
        dataset.save_as(tmp_path / f"got/{number}.dcm", write_like_original=False)
    got, image = read_volume(tmp_path / "got"), read_volume(case.image)
    places = np.linalg.inv(got.affine) @ image.affine @ [[5], [9], [11], [1]]
    assert got.array[tuple(places[:3, 0].round().astype(int))] == image.array[5, 9, 11]
    assert got.array.sum() == image.array.sum() and sorted(got.spacing) == sorted(image.spacing)
    assert {one.PatientID for one in sent} == {"patient 1"} and {one.Modality for one in sent} == {"MR"}
    assert {one.StudyInstanceUID for one in sent} == {walk_room.uid_of(case, "study")}
    assert all(pydicom.uid.UID(walk_room.uid_of(case, what)).is_valid for what in ("study", "series", "frame"))


def test_pictures_stand_side_by_side_with_a_white_line_between(tmp_path):
    for name, colour in (("left", "black"), ("right", "red")):
        Image.new("RGB", (10, 6), colour).save(tmp_path / f"{name}.png")
    walk_room.save_picture(tmp_path / "both.png", tmp_path / "left.png", tmp_path / "right.png")
    with Image.open(tmp_path / "both.png") as both:
        assert both.size == (28, 6) and both.mode == "P"
        assert [both.convert("RGB").getpixel((x, 3)) for x in (0, 14, 27)] == [(0, 0, 0), (255,) * 3, (255, 0, 0)]


def test_the_table_of_the_pictures_says_which_network_answered_what():
    shown = {"client": "OHIF", "prompt": "a click", "network": 1, "patient": "a", "structure": "anterior", "dsc": 0.71}
    assert shown_table({"shown": [shown]}).rows == [["OHIF", "a click", "1", "a", "anterior", "0.710"]]


# ---- with the clients -----------------------------------------------------------------------------------------------


@pytest.mark.clients
def test_an_empty_orthanc_takes_a_study_over_dicomweb(case, tmp_path):
    with orthanc(tmp_path / "orthanc") as pacs:
        assert DICOMwebClient(pacs).search_for_studies() == []
        walk_room.store(pacs, case, tmp_path / "dicom")
        (study,) = DICOMwebClient(pacs).search_for_studies()
    assert study["0020000D"]["Value"] == [walk_room.uid_of(case, "study")]


@pytest.mark.clients
def test_a_box_a_wrong_click_and_undo_in_napari_are_shown_with_their_overlap(case, tmp_path):
    with running(bright_opener()) as url:
        shown = walk_room.draw_in_napari(url, case, 3, tmp_path / "napari")
    assert [(one["prompt"], one["network"]) for one in shown] == [("a box", 3), ("a click beside it", 3), ("undo", 3)]
    assert shown[0]["dsc"] == shown[2]["dsc"] > 0.9
    names = {f"{part}-{number}.png" for part in ("window", "canvas") for number in (1, 2, 3)}
    assert names == {path.name for path in (tmp_path / "napari").glob("*.png") if path.stat().st_size > 1000}
