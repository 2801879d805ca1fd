"""The folder of studies: what is listed, and that nothing is lost whatever breaks."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import pytest
from app_room import a_label, a_volume
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException
from study_room import LISTED, names
from study_room import first as first
from study_room import folder as folder
from study_room import second as second

from monailabel_app.datastore.image_notes import notes_file
from monailabel_app.datastore.study_folder import StudyFolder
from monailabel_app.errors import RequestError

# ---- what is listed -------------------------------------------------------------------------------------------------


def test_only_images_that_can_be_read_and_named_are_listed(folder, caplog):
    for name in ("._ct.nii.gz", ".hidden.nii.gz", "Thumbs.db", "DICOMDIR", "notes.txt", "x.py", "x.tar.gz", "a\nb.nii"):
        (folder / name).write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.nii.gz")).write_bytes(b"x")
    (folder / "dir.nii.gz").mkdir()
    for name in ("MR.NRRD", "scan.mha", "photo.JPG", "drawn.seg.nrrd", "slice1.dcm"):
        (folder / name).write_bytes(b"x")
    store = StudyFolder(folder)
    assert sorted(store.list_images()) == ["MR", "ct", "photo", "scan"]
    assert store.get_image_uri("MR").endswith("MR.NRRD")
    json.dumps(store.json(), ensure_ascii=False).encode()
    assert caplog.text.count("DICOM files") == 1 and "send a series as session" in caplog.text


def test_patterns_narrow_what_is_listed(folder):
    (folder / "scan.mha").write_bytes(b"x")
    assert StudyFolder(folder, patterns=["*.nii.gz"]).list_images() == ["ct"]


def test_two_files_with_one_id_are_named_and_neither_is_served(folder, first, caplog):
    a_volume(folder / "ct.nrrd")
    a_volume(folder / "mr.nrrd")
    with caplog.at_level(logging.WARNING):
        store = StudyFolder(folder)
    assert store.list_images() == ["mr"] and store.get_unlabeled_images() == ["mr"]
    assert "ct.nii.gz, ct.nrrd have one id" in caplog.text
    with pytest.raises(RequestError, match=r"ct\.nii\.gz, ct\.nrrd have one id") as caught:
        store.get_image_uri("ct")
    assert caught.value.status == 409
    with pytest.raises(ImageNotFoundException):
        store.save_label("ct", str(first), "final", {})
    (folder / "ct.nrrd").rename(folder / "ct2.nrrd")
    assert store.list_images() == ["ct", "ct2", "mr"] and store.get_image_uri("ct").endswith("ct.nii.gz")


def test_a_file_that_comes_later_does_not_take_an_images_place(folder, caplog):
    store = StudyFolder(folder)
    a_volume(folder / "ct.nrrd")
    with caplog.at_level(logging.WARNING):
        assert store.get_image_uri("ct").endswith("ct.nii.gz")
    assert "ct.nii.gz is used, ct.nrrd not" in caplog.text
    assert StudyFolder(folder).get_image_uri("ct").endswith("ct.nii.gz")  # the index knows it


def test_an_image_whose_file_is_replaced_by_one_of_another_format_is_the_new_one(folder):
    store = StudyFolder(folder)
    a_volume(folder / "ct.nrrd")
    assert store.get_image_uri("ct").endswith("ct.nii.gz")
    (folder / "ct.nii.gz").unlink()
    assert store.get_image_uri("ct").endswith("ct.nrrd")


def test_files_that_come_and_go_are_noticed_at_once(folder, first):
    store = StudyFolder(folder)
    a_volume(folder / "mr.nrrd")
    shutil.copy(first, folder / "labels/final/ct.nii.gz")
    assert store.status() == {"total": 2, "completed": 1, "label_tags": {"final": 1}}
    (folder / "mr.nrrd").unlink()
    (folder / "labels/final/ct.nii.gz").unlink()
    assert store.status() == {"total": 1, "completed": 0, "label_tags": {}}


def test_a_folder_that_does_not_change_is_not_listed_again(folder, monkeypatch):
    store = StudyFolder(folder)
    for path in (folder, folder / "labels", *(folder / "labels").iterdir(), folder / "datastore_v2.json"):
        os.utime(path, (1e9, 1e9))
    assert store.list_images() == ["ct"]
    monkeypatch.setattr("monailabel_app.datastore.indexed_folder.find_images", None)
    assert store.list_images() == ["ct"]


def test_slicers_segmentation_belongs_to_its_image(folder, tmp_path):
    store = StudyFolder(folder)
    segmentation = tmp_path / "Segmentation.seg.nrrd"
    segmentation.write_bytes(b"x")
    store.save_label("ct", str(segmentation), "final", {})
    assert store.get_label_uri("ct", "final").endswith("labels/final/ct.seg.nrrd")
    assert StudyFolder(folder).get_label_uri("ct", "final").endswith("labels/final/ct.seg.nrrd")


def test_monai_labels_own_server_goes_on_with_the_folder(folder, first):
    StudyFolder(folder).save_label("ct", str(first), "final", {"label_info": [{"name": "liver", "idx": 1}]})
    theirs = LocalDatastore(str(folder), extensions=["*.nii.gz"])
    assert theirs.get_label_info("ct", "final")["label_info"] == [{"name": "liver", "idx": 1}]
    theirs.update_label_info("ct", "final", {"checked": True})
    assert StudyFolder(folder).get_label_info("ct", "final")["checked"] is True


def test_two_servers_on_one_folder_see_what_the_other_did(folder, first):
    one, other = StudyFolder(folder), StudyFolder(folder)
    one.save_label("ct", str(first), "final", {"by": "one"})
    other.update_image_info("ct", {"by": "other"})
    assert other.get_label_info("ct", "final")["by"] == "one"
    assert one.get_image_info("ct")["by"] == "other"


# ---- what stays -----------------------------------------------------------------------------------------------------


def test_an_image_is_never_replaced(folder, tmp_path):
    store, before = StudyFolder(folder), (folder / "ct.nii.gz").read_bytes()
    for name in ("new.nii.gz", "new.nrrd"):
        with pytest.raises(RequestError, match="stays") as refusal:
            store.add_image("ct", str(a_volume(tmp_path / name, 5)), {})
        assert refusal.value.status == 409
    assert (folder / "ct.nii.gz").read_bytes() == before and names(folder) == LISTED


@pytest.mark.parametrize(
    "name", [".lock", "datastore_v2.json", "x.py", "x.html", "x.tar.gz", "nothing", "x.seg.nrrd", "x.dcm"]
)
def test_what_is_no_image_is_not_taken_in(folder, tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(RequestError, match="no image"):
        StudyFolder(folder).add_image("", str(tmp_path / name), {})
    assert names(folder) == LISTED


def test_links_are_read_but_never_written_through(folder, tmp_path, first):
    master, master_label = a_volume(tmp_path / "archive/master.nrrd"), a_label(tmp_path / "archive/label.nii.gz", 7)
    content = [path.read_bytes() for path in (master, master_label)]
    (folder / "linked.nrrd").symlink_to(master)
    (folder / "dangling.nrrd").symlink_to(tmp_path / "archive/new.nrrd")
    store = StudyFolder(folder)
    (folder / "labels/final/linked.nii.gz").symlink_to(master_label)
    assert sorted(store.list_images()) == ["ct", "linked"]
    for name in ("linked", "dangling"):
        with pytest.raises(RequestError, match="stays"):
            store.add_image(name, str(a_volume(tmp_path / "new.nrrd", 5)), {})
    store.save_label("linked", str(first), "final", {})
    assert Path(store.get_label_uri("linked", "final")).read_bytes() == first.read_bytes()
    store.remove_image("linked")
    assert [path.read_bytes() for path in (master, master_label)] == content
    assert not (tmp_path / "archive/new.nrrd").exists()


def test_a_folder_of_labels_that_is_a_link_out_is_not_written_to(folder, tmp_path, first):
    (tmp_path / "elsewhere").mkdir()
    (folder / "labels").symlink_to(tmp_path / "elsewhere")
    store = StudyFolder(folder)
    with pytest.raises(RequestError, match="leads out"):
        store.save_label("ct", str(first), "final", {})
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_label_of_another_format_takes_the_place_of_the_one_before(folder, tmp_path, first):
    store = StudyFolder(folder)
    store.save_label("ct", str(first), "final", {})
    store.save_label("ct", str(a_label(tmp_path / "label.nrrd", 3)), "final", {})
    assert names(folder / "labels") == ["final/ct.nrrd"] and store.get_label_uri("ct", "final").endswith("ct.nrrd")


def test_a_read_only_folder_is_served_and_not_changed(folder, first):
    store = StudyFolder(folder, read_only=True)
    assert store.list_images() == ["ct"] and names(folder) == ["ct.nii.gz"]
    with pytest.raises(RequestError, match="read only"):
        store.save_label("ct", str(first), "final", {})


def test_what_the_server_notes_of_a_read_only_folder_outlasts_it_and_lies_elsewhere(folder):
    StudyFolder(folder, read_only=True).note_image("ct", {"scores": {"model": "a"}})
    store = StudyFolder(folder, read_only=True)
    store.note_image("ct", {"strategy": {"first": {"ts": 1}}})
    info = store.get_image_info("ct")
    assert (info["scores"], info["strategy"], info["name"]) == ({"model": "a"}, {"first": {"ts": 1}}, "ct.nii.gz")
    assert names(folder) == ["ct.nii.gz"] and "scores" not in StudyFolder(folder).get_image_info("ct")
    with pytest.raises(ImageNotFoundException):
        store.note_image("nobody", {})
    with pytest.raises(RequestError, match="read only"):
        store.update_image_info("ct", {"reader": "a client"})


@pytest.mark.parametrize("content", ["", "[]", '{"ct": 5}', '{"ct": {"scores": '])
def test_notes_that_are_damaged_begin_anew(folder, content):
    path = notes_file(folder)
    store = StudyFolder(folder, read_only=True)
    store.note_image("ct", {"scores": 1})
    path.write_text(content)
    assert "scores" not in StudyFolder(folder, read_only=True).get_image_info("ct")
    store.note_image("ct", {"scores": 2})
    assert StudyFolder(folder, read_only=True).get_image_info("ct")["scores"] == 2


def test_notes_that_cannot_be_written_are_kept_until_the_server_ends(folder, monkeypatch, caplog):
    monkeypatch.setenv("XDG_STATE_HOME", os.devnull)
    store = StudyFolder(folder, read_only=True)
    store.note_image("ct", {"scores": 1})
    assert store.get_image_info("ct")["scores"] == 1 and "end with the server" in caplog.text


def test_what_does_not_exist_is_not_found(folder, first):
    store = StudyFolder(folder)
    with pytest.raises(ImageNotFoundException):
        store.save_label("nobody", str(first), "final", {})
    with pytest.raises(ImageNotFoundException):
        store.remove_image("nobody")
    with pytest.raises(LabelNotFoundException):
        store.remove_label("ct", "final")
    assert store.get_image_uri("nobody") == store.get_label_uri("ct", "final") == ""
    assert store.get_image_info("nobody") == store.get_label_info("ct", "final") == {}


# ---- the index ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", '{"name": "new-dataset", "descr', "[]", '{"objects": 5}', "[" * 5000])
def test_a_damaged_index_is_rebuilt_from_the_folder_and_kept_as_a_copy(folder, first, content, caplog):
    StudyFolder(folder).save_label("ct", str(first), "final", {})
    (folder / "datastore_v2.json").write_text(content)
    with caplog.at_level(logging.WARNING):
        store = StudyFolder(folder)
    assert store.status() == {"total": 1, "completed": 1, "label_tags": {"final": 1}}
    assert (folder / "datastore_v2.damaged-1.json").read_text() == content
    assert "was repaired" in caplog.text and "damaged-1" in caplog.text
    assert json.loads((folder / "datastore_v2.json").read_text())["objects"]["ct"]["labels"]["final"]
    StudyFolder(folder)
    assert not (folder / "datastore_v2.damaged-2.json").exists()


def test_values_of_an_older_server_that_break_replies_are_taken_out_of_the_index(folder, first, caplog):
    StudyFolder(folder).save_label("ct", str(first), "final", {"good": 1})
    index = json.loads((folder / "datastore_v2.json").read_text())
    index["objects"]["ct"]["image"]["info"] |= {
        "bad": float("nan"),
        "strategy": 5,
        "text": "\ud800",
        "kept": [{"a": 2}],
    }
    index["objects"]["ct"]["labels"]["final"]["info"]["score"] = float("inf")
    (folder / "datastore_v2.json").write_text(json.dumps(index))
    with caplog.at_level(logging.WARNING):
        store = StudyFolder(folder)
    assert "bad, strategy, text of image 'ct'; score of label 'ct' of 'final'" in caplog.text
    assert store.get_image_info("ct")["kept"] == [{"a": 2}] and store.get_label_info("ct", "final")["good"] == 1
    json.dumps(store.json(), allow_nan=False, ensure_ascii=False).encode()


def test_an_index_that_is_damaged_or_removed_while_the_server_runs_is_written_again(folder):
    store = StudyFolder(folder)
    store.update_image_info("ct", {"note": "kept"})
    for break_it in (lambda path: path.write_text("{"), lambda path: path.unlink()):
        break_it(folder / "datastore_v2.json")
        assert store.get_image_info("ct")["note"] == "kept"
        written = json.loads((folder / "datastore_v2.json").read_text())
        assert written["objects"]["ct"]["image"]["info"]["note"] == "kept"


@pytest.mark.parametrize("info", [{"x": float("nan")}, {"strategy": 5}, {"strategy": {"random": 1}}, {"x": 2**70}])
def test_what_would_break_the_index_is_not_kept(folder, first, info):
    store = StudyFolder(folder)
    for change in (
        lambda: store.update_image_info("ct", info),
        lambda: store.save_label("ct", str(first), "final", info),
    ):
        with pytest.raises(RequestError):
            change()
    assert store.status()["label_tags"] == {} and set(store.get_image_info("ct")) == {"ts", "name", "path"}


# ---- faults ---------------------------------------------------------------------------------------------------------


def test_the_label_that_an_earlier_version_kept_is_named_and_stays(folder, caplog):
    store = StudyFolder(folder)
    kept = folder / "labels/final/.ct.nii.gz.previous"
    kept.write_bytes(b"the good one")
    store = StudyFolder(folder)
    store.save_label("ct", str(a_label(folder.parent / "label.nii.gz")), "final", {})
    assert "label from before" in caplog.text and kept.read_bytes() == b"the good one"
