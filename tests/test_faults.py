"""A full disk, and kill -9, at every call to the file system of every change: what was good before is served after.

The table of docs/deploy.md names what these tests show.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from app_room import a_label, a_volume
from faults import CALLS, TAKING_ROOM, disk_full, ended_at, fault_at, killed_at
from session_room import LEFT, RIGHT, open_session, point, volume

from bundle.interactive.journal import Journal
from monailabel_app.datastore.session_folder import SessionFolder
from monailabel_app.datastore.study_folder import StudyFolder


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder of studies whose image ``ct`` has a label, and the files that the changes bring."""
    made = tmp_path_factory.mktemp("made")
    a_volume(made / "studies/ct.nii.gz")
    first = a_label(made / "first.nii.gz", 1)
    a_label(made / "second.nii.gz", 2)
    a_label(made / "second.nrrd", 3)
    a_volume(made / "new.nii.gz", 5)
    store = StudyFolder(made / "studies")
    store.save_label("ct", str(first), "final", {"by": "first"})
    store.update_image_info("ct", {"note": "before"})
    return made


def change(name: str, made: Path, folder: Path) -> None:
    """One change of a folder of studies."""
    store = StudyFolder(folder)
    {
        "save a label": lambda: store.save_label("ct", str(made / "second.nii.gz"), "final", {"by": "second"}),
        "save one of another format": lambda: store.save_label("ct", str(made / "second.nrrd"), "final", {}),
        "add an image": lambda: store.add_image("new", str(made / "new.nii.gz"), {}),
        "write the index": lambda: store.update_image_info("ct", {"note": "after"}),
        "remove a label": lambda: store.remove_label("ct", "final"),
        "remove an image": lambda: store.remove_image("ct"),
    }[name]()


CHANGES = [
    *("save a label", "save one of another format"),
    *("add an image", "write the index", "remove a label", "remove an image"),
]


def content(store: StudyFolder) -> dict[str, object]:
    """All that clients see, whatever the files are called."""
    images = {name: Path(store.get_image_uri(name)).read_bytes() for name in store.list_images()}
    labels = {
        (name, tag): Path(store.get_label_uri(name, tag)).read_bytes()
        for name in images
        for tag in store.get_labels_by_image_id(name)
    }
    return {"images": images, "labels": labels, "note": store.get_image_info("ct").get("note")}


def stages(work, tmp_path, calls=CALLS) -> int:
    """How many calls to the file system a work makes."""
    with fault_at(0, disk_full, calls) as called:
        work(tmp_path)
    return len(called)


@pytest.mark.parametrize("name", CHANGES)
def test_a_kill_at_any_stage_of_a_change_leaves_the_state_before_or_after(made, tmp_path, name):
    def work(folder: Path) -> None:
        change(name, made, folder)

    copies = (tmp_path / str(number) for number in range(1000))
    shutil.copytree(made / "studies", whole := next(copies))
    before = content(StudyFolder(whole))
    count = stages(work, whole)
    after = content(StudyFolder(whole))
    assert before != after and count > 5
    for stage in range(1, count + 1):
        shutil.copytree(made / "studies", folder := next(copies))
        assert ended_at(stage, lambda folder=folder: work(folder)), stage
        store = StudyFolder(folder)
        found = content(store)
        assert found["images"] in (before["images"], after["images"]), (stage, "images")
        assert found["labels"] in (before["labels"], after["labels"]), (stage, "labels")
        assert found["note"] in (before["note"], after["note"]), stage
        assert not list(folder.rglob("*.part")), stage
        kept = [version.file.read_bytes() for version in store.label_versions("ct", "final")]
        lost = set(before["labels"].values()) - set(found["labels"].values()) - set(kept)
        assert not lost or name == "remove an image", (stage, "the label that was replaced is gone")
        if "ct" in store.list_images():
            store.save_label("ct", str(made / "first.nii.gz"), "final", {})  # and it goes on
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", CHANGES)
def test_a_full_disk_at_any_stage_of_a_change_leaves_the_state_before_or_after(made, tmp_path, name):
    copies = (tmp_path / str(number) for number in range(1000))
    shutil.copytree(made / "studies", whole := next(copies))
    before = content(StudyFolder(whole))
    count = stages(lambda folder: change(name, made, folder), whole, TAKING_ROOM)
    after = content(StudyFolder(whole))
    for stage in range(1, count + 1):
        shutil.copytree(made / "studies", folder := next(copies))
        said = False
        with fault_at(stage, disk_full, TAKING_ROOM) as called:
            try:
                change(name, made, folder)
            except OSError:
                said = True
        found = content(StudyFolder(folder))
        assert found == (before if said else after), (stage, called[-1], said)
        assert not list(folder.rglob("*.part")), (stage, called[-1])
        shutil.rmtree(folder)


def _voxels(path: Path) -> bytes:
    """The content of what is the same in every run: times stand in the others."""
    return path.read_bytes() if path.name.endswith(".nii.gz") else b""


def test_a_real_kill_leaves_what_the_end_of_all_calls_leaves(made, tmp_path):
    for stage in range(3, 40, 9):
        folders = [tmp_path / f"{way} {stage}" for way in ("ended", "killed")]
        for folder, stop in zip(folders, (ended_at, killed_at), strict=True):
            shutil.copytree(made / "studies", folder)
            assert stop(stage, lambda folder=folder: change("save a label", made, folder))
        first, second = (
            sorted((path.parent.relative_to(folder), path.suffix, _voxels(path)) for path in folder.rglob("*.*"))
            for folder in folders
        )
        assert first == second, stage


def session_in(folder: Path):
    image = volume()
    return open_session(image, Journal.of(folder, image))


@pytest.fixture(scope="module")
def journalled(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("journal")
    session_in(folder).add(point(LEFT), "left", dimension=2)
    return folder


def test_a_kill_at_any_stage_of_a_click_leaves_the_session_before_or_after_it(journalled, tmp_path):
    def work(folder: Path) -> None:
        session_in(folder).add(point(RIGHT), "right", dimension=2)

    shutil.copytree(journalled, whole := tmp_path / "whole")
    count = stages(work, whole)
    assert count >= 3
    for stage in range(1, count + 1):
        shutil.copytree(journalled, folder := tmp_path / str(stage))
        assert ended_at(stage, lambda folder=folder: work(folder)), stage
        again = session_in(folder)
        assert [one.name for one in again.objects] in (["left"], ["left", "right"]), stage
        assert again.mask("left").any()
        again.add(point(RIGHT), "right", dimension=2)
        assert again.mask("right").any()


def test_a_full_disk_at_any_stage_of_a_click_leaves_the_session_before_or_after_it(journalled, tmp_path):
    def work(folder: Path) -> None:
        session_in(folder).add(point(RIGHT), "right", dimension=2)

    shutil.copytree(journalled, whole := tmp_path / "whole")
    for stage in range(1, stages(work, whole, TAKING_ROOM) + 1):
        shutil.copytree(journalled, folder := tmp_path / str(stage))
        said = False
        with fault_at(stage, disk_full, TAKING_ROOM) as called:
            try:
                work(folder)
            except OSError:
                said = True
        names = [one.name for one in session_in(folder).objects]
        assert names == (["left"] if said else ["left", "right"]), (stage, called[-1])


def test_a_kill_at_any_stage_of_an_upload_leaves_no_session_that_cannot_be_used(made, tmp_path):
    def work(folder: Path) -> None:
        shutil.copyfile(made / "new.nii.gz", upload := tmp_path / "upload.nii.gz")
        SessionFolder(str(folder), 60).add_session(str(upload), 60)

    count = stages(work, tmp_path / "whole")
    for stage in range(1, count + 1):
        folder = tmp_path / str(stage)
        assert ended_at(stage, lambda folder=folder: work(folder)), stage
        again = SessionFolder(str(folder), 60)
        for one in folder.glob("*/"):
            found = again.get_session(one.name)
            assert found is None or Path(found.image).read_bytes() == (made / "new.nii.gz").read_bytes(), stage
        again.remove_expired()
