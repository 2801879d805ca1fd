"""No label is lost because another was saved: who, when and what stays to be had."""

from __future__ import annotations

import runpy
import stat
import sys
from pathlib import Path

import pytest
from app_room import a_label, a_volume, client_of

from bundle.data.volume import read_label
from monailabel_app.datastore import indexed_folder
from monailabel_app.datastore.label_versions import VERSIONS, LabelVersions
from monailabel_app.datastore.study_folder import StudyFolder
from monailabel_app.errors import RequestError
from monailabel_app.server.access import TOKENS

TOKEN = "0123456789abcdef0123"


@pytest.fixture
def folder(tmp_path) -> Path:
    a_volume(tmp_path / "studies" / "ct.nii.gz")
    return tmp_path / "studies"


@pytest.fixture
def labels(tmp_path) -> list[Path]:
    """A good label, another, and an empty one in another format."""
    return [a_label(tmp_path / name, value) for name, value in (("a.nii.gz", 1), ("b.nii.gz", 2), ("empty.nrrd", 0))]


def values(store: StudyFolder) -> list[int]:
    return [int(read_label(version.file).array.max()) for version in store.label_versions("ct", "final")]


def test_an_empty_label_does_not_take_a_good_one_away(folder, labels):
    store = StudyFolder(folder)
    for label, client in zip(labels, ("anna", "bob", "carl"), strict=True):
        store.save_label("ct", str(label), "final", {"client_id": client})
    assert values(store) == [1, 2]
    assert [version.told()["client_id"] for version in store.label_versions("ct", "final")] == ["anna", "bob"]
    assert read_label(store.get_label_uri("ct", "final")).array.max() == 0
    assert store.label_version("ct", "final", 1).file.read_bytes() == labels[0].read_bytes()
    assert StudyFolder(folder).list_images() == ["ct"] and store.status()["label_tags"] == {"final": 1}


def test_the_same_label_saved_again_is_no_version(folder, labels):
    store = StudyFolder(folder)
    for _ in range(3):
        store.save_label("ct", str(labels[0]), "final", {})
    assert values(store) == []


def test_a_label_that_is_removed_can_be_had_again_and_that_of_a_removed_image_cannot(folder, labels):
    store = StudyFolder(folder)
    store.save_label("ct", str(labels[0]), "final", {})
    store.remove_label("ct", "final")
    assert values(store) == [1] and store.get_label_uri("ct", "final") == ""
    store.save_label("ct", str(labels[1]), "final", {})
    store.remove_image("ct")
    assert not list((folder / VERSIONS).rglob("*.*"))


def test_a_save_that_fails_leaves_no_version(folder, labels, monkeypatch):
    store = StudyFolder(folder)
    store.save_label("ct", str(labels[0]), "final", {})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(indexed_folder, "write_index", full)
    with pytest.raises(OSError, match="No space"):
        store.save_label("ct", str(labels[1]), "final", {})
    assert values(store) == [] and Path(store.get_label_uri("ct", "final")).read_bytes() == labels[0].read_bytes()


def test_only_so_many_are_kept_and_a_number_is_never_given_twice(folder, labels):
    versions = LabelVersions(folder, most=2)
    for label in (labels[0], labels[1]) * 2:
        versions.keep(label, ".nii.gz", "ct", "final", {})
    assert [version.number for version in versions.list("ct", "final")] == [3, 4]
    with pytest.raises(RequestError, match="no version 1; it has 3, 4"):
        versions.get("ct", "final", 1)


def test_what_a_killed_server_left_of_a_version_is_in_nobodys_way(folder, labels):
    versions = LabelVersions(folder, most=5)
    versions.keep(labels[0], ".nii.gz", "ct", "final", {})
    place = folder / VERSIONS / "final" / "ct"
    (place / "000002.nii.gz").write_bytes(b"half")
    (place / "000003.json").write_text("{", encoding="utf-8")
    assert [version.number for version in versions.list("ct", "final")] == [1]
    assert versions.keep(labels[1], ".nii.gz", "ct", "final", {}) == 2
    assert versions.get("ct", "final", 2).file.read_bytes() == labels[1].read_bytes()


def test_labels_and_versions_are_for_one_user_alone(folder, labels):
    store = StudyFolder(folder)
    for label in labels:
        store.save_label("ct", str(label), "mine", {})
    for path in [*(folder / VERSIONS).rglob("*"), *(folder / "labels").rglob("*"), folder / "datastore_v2.json"]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_old_versions_are_purged_by_a_command(folder, labels, monkeypatch, capsys):
    store = StudyFolder(folder)
    for label in labels:
        store.save_label("ct", str(label), "final", {})
    assert store.purge(0) == 0 and values(store) == [1, 2]
    monkeypatch.setattr(sys, "argv", ["purge", str(folder), "--days", "0"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    runpy.run_module("monailabel_app.datastore.purge", run_name="__main__")
    assert capsys.readouterr().out.startswith("2 versions") and values(store) == []
    assert read_label(store.get_label_uri("ct", "final")).array.max() == 0


# ---- over HTTP ------------------------------------------------------------------------------------------------------


def test_a_client_sees_who_saved_what_and_fetches_it(folder, labels, tmp_path, monkeypatch):
    monkeypatch.setenv(TOKENS, f"anna annotate {TOKEN}")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    of = {"label": "ct", "tag": "final"}
    with client_of(folder, tmp_path / "sessions", headers=headers) as client:
        for label in labels:
            reply = client.put(
                "/datastore/label",
                params={"image": "ct"},
                files={"label": (label.name, label.read_bytes())},
                data={"params": '{"client_id": "slicer", "saved_by": "somebody else"}'},
            )
            assert reply.status_code == 200, reply.text
        client.put("/datastore/label/info", params=of, data={"info": '{"saved_by": "somebody else"}'})
        listed = client.get("/datastore/label/versions", params=of).json()
        assert [(one["version"], one["saved_by"], one["client_id"]) for one in listed] == [
            (1, "anna", "slicer"),
            (2, "anna", "slicer"),
        ]
        assert client.get("/datastore/label", params=of | {"version": 2}).content == labels[1].read_bytes()
        assert client.get("/datastore/label", params=of).content == labels[2].read_bytes()
        assert client.get("/datastore/label/info", params=of).json()["saved_by"] == "anna"
        for query in (of | {"version": 9}, of | {"tag": "none"}, of | {"label": "nobody"}):
            assert client.get("/datastore/label", params=query).status_code == 404
        assert client.get("/datastore/label/versions", params={"label": "../ct", "tag": "final"}).status_code == 400
