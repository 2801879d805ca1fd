"""The folder of studies: what is listed, and that nothing is lost whatever breaks."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from app_room import a_label, a_volume
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException

from monailabel_app.datastore.study_folder import StudyFolder
from monailabel_app.errors import RequestError


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of studies with one image, and beside it what is sent to it."""
    a_volume(tmp_path / "studies/ct.nii.gz")
    return tmp_path / "studies"


@pytest.fixture
def first(tmp_path) -> Path:
    return a_label(tmp_path / "first.nii.gz", 1)


@pytest.fixture
def second(tmp_path) -> Path:
    return a_label(tmp_path / "second.nii.gz", 2)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


LISTED = [".lock", "ct.nii.gz", "datastore_v2.json"]


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


def full_disk(*_) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def half_a_copy(source, target) -> None:
    Path(target).write_bytes(Path(source).read_bytes()[:10])
    full_disk()


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        ("monailabel_app.datastore.file_changes.shutil.copyfile", half_a_copy),
        ("bundle.files.os.fsync", full_disk),
        ("bundle.files.os.replace", full_disk),
    ],
)
def test_a_full_disk_leaves_the_folder_as_it_was(folder, tmp_path, first, second, monkeypatch, place, fault):
    store = StudyFolder(folder)
    store.save_label("ct", str(first), "final", {})
    new = a_volume(tmp_path / "new.nii.gz")
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    monkeypatch.setattr(place, fault)
    for change in (
        lambda: store.save_label("ct", str(second), "final", {}),
        lambda: store.save_label("ct", str(second), "another", {}),
        lambda: store.add_image("new", str(new), {}),
    ):
        with pytest.raises(OSError, match="No space"):
            change()
    monkeypatch.undo()
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before
    assert store.status() == {"total": 1, "completed": 1, "label_tags": {"final": 1}}


def test_on_a_disk_that_is_full_the_server_still_starts(folder, monkeypatch, caplog):
    StudyFolder(folder)
    (folder / "datastore_v2.json").write_text("")
    monkeypatch.setattr("bundle.files.os.fsync", full_disk)
    monkeypatch.setattr("monailabel_app.datastore.study_index.shutil.copyfile", full_disk)
    assert StudyFolder(folder).list_images() == ["ct"]
    assert "could not be brought up to date" in caplog.text


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small disk needs root on Linux")
def test_a_disk_that_is_really_full_leaves_the_folder_as_it_was(tmp_path, first):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a disk")
    try:
        a_volume(disk / "ct.nii.gz")
        store = StudyFolder(disk)
        store.save_label("ct", str(first), "final", {})
        large = tmp_path / "large.nii.gz"
        large.write_bytes(os.urandom(100_000))
        with pytest.raises(OSError, match="No space"):
            store.save_label("ct", str(large), "final", {})
        with pytest.raises(OSError, match="No space"):
            store.add_image("new", str(large), {})
        (disk / "fill").write_bytes(b"0" * (shutil.disk_usage(disk).free))
        with pytest.raises(OSError, match="No space"):
            store.update_image_info("ct", {"note": "x" * 10_000})
        again = StudyFolder(disk)
        assert again.status() == {"total": 1, "completed": 1, "label_tags": {"final": 1}}
        assert Path(again.get_label_uri("ct", "final")).read_bytes() == first.read_bytes()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def save_and_be_killed(folder: Path, label: Path, place: str) -> None:
    """Runs in a child: save a label, and die at that place."""
    replace = os.replace

    def die(*_) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def half(source, target) -> None:
        Path(target).write_bytes(Path(source).read_bytes()[:10])
        die()

    def rename(source, target) -> None:
        if place == f"before rename of {Path(target).name}":
            die()
        replace(source, target)
        if place == f"after rename of {Path(target).name}":
            die()

    store = StudyFolder(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bundle.files.os.replace", rename)
        if place == "copy":
            patch.setattr("monailabel_app.datastore.file_changes.shutil.copyfile", half)
        store.save_label("ct", str(label), "final", {"by": "second"})


@pytest.mark.parametrize(
    ("place", "saved"),
    [
        ("copy", False),
        ("before rename of ct.nii.gz", False),
        ("after rename of ct.nii.gz", True),
        ("before rename of datastore_v2.json", True),
        ("after rename of datastore_v2.json", True),
    ],
)
def test_a_kill_while_a_label_is_saved_leaves_the_one_or_the_other(folder, first, second, place, saved):
    StudyFolder(folder).save_label("ct", str(first), "final", {"by": "first"})
    child = os.fork()
    if child == 0:
        try:
            save_and_be_killed(folder, second, place)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    store = StudyFolder(folder)
    kept = Path(store.get_label_uri("ct", "final"))
    assert kept.read_bytes() == (second if saved else first).read_bytes()
    versions = [".versions/final/ct/000001.json", ".versions/final/ct/000001.nii.gz"]
    assert names(folder) == [".lock", *versions, "ct.nii.gz", "datastore_v2.json", "labels/final/ct.nii.gz"]
    assert (folder / versions[1]).read_bytes() == first.read_bytes()
    third = a_label(folder.parent / "third.nii.gz", 3)
    store.save_label("ct", str(third), "final", {})
    assert kept.read_bytes() == third.read_bytes()
    assert len(store.label_versions("ct", "final")) == (2 if saved else 1)


def test_the_label_that_an_earlier_version_kept_is_named_and_stays(folder, caplog):
    store = StudyFolder(folder)
    kept = folder / "labels/final/.ct.nii.gz.previous"
    kept.write_bytes(b"the good one")
    store = StudyFolder(folder)
    store.save_label("ct", str(a_label(folder.parent / "label.nii.gz")), "final", {})
    assert "label from before" in caplog.text and kept.read_bytes() == b"the good one"


# ---- many at once ---------------------------------------------------------------------------------------------------


def test_requests_at_once_neither_fail_nor_lose_anything(folder, tmp_path, first):
    store, errors = StudyFolder(folder), []

    def work(number: int) -> None:
        source = a_volume(tmp_path / f"{number}.nii.gz", number)
        try:
            for _ in range(3):
                store.add_image(f"case{number}", str(source), {})
                store.save_label(f"case{number}", str(first), "final", {"by": number})
                store.status(), store.json(), store.refresh()
                store.remove_image(f"case{number}")
            store.add_image(f"case{number}", str(source), {})
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(store.list_images()) == [*(f"case{number}" for number in range(6)), "ct"]
    assert store.status()["completed"] == 0


def test_of_two_uploads_of_one_id_one_is_refused(folder, tmp_path):
    store, outcomes = StudyFolder(folder), []
    sources = [str(a_volume(tmp_path / f"{number}.nrrd", number)) for number in range(4)]

    def add(source: str) -> None:
        try:
            outcomes.append(store.add_image("same", source, {}))
        except RequestError as error:
            outcomes.append(error.status)

    threads = [threading.Thread(target=add, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["409", "409", "409", "same"]
