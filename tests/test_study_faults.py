"""A folder of studies on a full disk, where a server is killed, and with many requests at once."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from app_room import a_label, a_volume
from study_room import first as first
from study_room import folder as folder
from study_room import names
from study_room import second as second

from monailabel_app.datastore.study_folder import StudyFolder
from monailabel_app.errors import RequestError


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
