"""Versions of the network on disk: published whole or not at all, and a way back."""

from __future__ import annotations

import json
import os

import pytest
from faults import TAKING_ROOM, disk_full, ended_at, fault_at

from monailabel_app.errors import RequestError
from monailabel_app.learning import versions as module
from monailabel_app.learning.versions import Versions


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "base.safetensors"
    path.write_bytes(b"base")
    return path


@pytest.fixture
def versions(tmp_path, base):
    return Versions(tmp_path / "versions", base)


def candidate(tmp_path, text: str):
    path = tmp_path / "candidate.safetensors"
    path.write_text(text)
    return path


def publish(versions, tmp_path, text: str):
    return versions.publish(candidate(tmp_path, text), {"job": text})


def again(versions) -> Versions:
    """As the next server finds them."""
    return Versions(versions.folder, versions.base)


def test_version_0_is_what_the_server_was_started_with(versions, base):
    assert (versions.active().number, versions.active().checkpoint) == (0, base)
    assert [version.number for version in versions.all()] == [0]


def test_a_published_version_is_served_here_and_by_the_next_server(versions, tmp_path):
    publish(versions, tmp_path, "one")
    for each in (versions, again(versions)):
        assert each.active().number == 1
        assert each.active().checkpoint.read_text() == "one"
        assert each.active().notes["job"] == "one"


def test_another_server_of_the_folder_sees_it_too(versions, tmp_path):
    other = again(versions)
    assert other.active().number == 0
    publish(versions, tmp_path, "one")
    assert other.active().number == 1


def test_one_can_go_back_and_forth(versions, tmp_path):
    publish(versions, tmp_path, "one")
    publish(versions, tmp_path, "two")
    assert versions.activate(1).number == 1 and again(versions).active().number == 1
    assert versions.activate(0).number == 0 and again(versions).active().number == 0
    assert versions.activate(2).number == 2
    with pytest.raises(RequestError, match="there is no version 7; there are 0, 1, 2") as caught:
        versions.activate(7)
    assert caught.value.status == 404


def test_killed_at_any_stage_of_publishing_the_next_server_has_one_of_both_whole(tmp_path, base):
    def opened(name: str) -> Versions:
        found = Versions(tmp_path / name, base)
        publish(found, tmp_path, "one")
        return found

    whole, found = opened("whole"), []
    with fault_at(0, disk_full) as called:
        publish(whole, tmp_path, "two")
    for stage in range(1, len(called) + 1):
        versions = opened(str(stage))
        assert ended_at(stage, lambda versions=versions: publish(versions, tmp_path, "two")), stage
        after = again(versions)
        found.append(after.active().checkpoint.read_text())
        assert after.active().notes["job"] == found[-1], stage
        assert publish(after, tmp_path, "two").checkpoint.read_text() == "two", stage
        assert again(after).active().notes["job"] == "two" and len(after.all()) == 3, stage
        assert all(path.with_suffix(".json").exists() for path in after.folder.glob("0*.safetensors")), stage
    assert len(found) > 10 and set(found) == {"one", "two"} and found == sorted(found)


def test_on_a_full_disk_the_version_from_before_is_served_and_the_error_is_said(tmp_path, base):
    whole = Versions(tmp_path / "whole", base)
    with fault_at(0, disk_full, TAKING_ROOM) as called:
        publish(whole, tmp_path, "one")
    found = []
    for stage in range(1, len(called) + 1):
        versions = Versions(tmp_path / str(stage), base)
        said = False
        with fault_at(stage, disk_full, TAKING_ROOM):
            try:
                publish(versions, tmp_path, "one")
            except OSError:
                said = True
        assert again(versions).active().number == (0 if said else 1), stage
        found.append(said)
    assert found.count(True) > 5


def test_what_somebody_has_gone_back_from_is_not_served_again_by_the_job_that_made_it(versions, tmp_path):
    publish(versions, tmp_path, "one")
    versions.activate(0)
    assert publish(again(versions), tmp_path, "one").number == 1
    assert again(versions).active().number == 0
    assert publish(versions, tmp_path, "two").number == again(versions).active().number == 2


def test_half_written_files_go_when_nobody_can_be_writing_them_any_more(versions, tmp_path):
    old, young = versions.folder / ".abcdefgh.part", versions.folder / ".ijklmnop.part"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    again(versions)
    assert young.exists() and not old.exists()


def test_a_damaged_version_is_not_served_and_is_said(versions, tmp_path, caplog):
    publish(versions, tmp_path, "one")
    publish(versions, tmp_path, "two").checkpoint.write_bytes(b"tw")
    assert again(versions).active().number == 1
    assert "Version 2 is missing or damaged; version 1 is served" in caplog.text
    with pytest.raises(RequestError, match="weights of version 2 are damaged"):
        versions.activate(2)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": "x"}'])
def test_a_damaged_pointer_means_the_newest(versions, tmp_path, content, caplog):
    publish(versions, tmp_path, "one")
    (versions.folder / "active.json").write_bytes(content)
    assert again(versions).active().number == 1
    assert "is damaged" in caplog.text


def test_the_oldest_go_and_numbers_are_not_given_twice(versions, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 2)
    for text in ("one", "two", "three"):
        publish(versions, tmp_path, text)
    assert [version.number for version in versions.all()] == [0, 2, 3]
    assert publish(versions, tmp_path, "four").number == 4
    assert sorted(path.name for path in versions.folder.iterdir()) == [
        *("000003.json", "000003.safetensors", "000004.json", "000004.safetensors", "active.json")
    ]


def test_the_files_are_this_users_alone(versions, tmp_path):
    publish(versions, tmp_path, "one")
    assert {path.stat().st_mode & 0o777 for path in versions.folder.iterdir()} == {0o600}
    assert json.loads((versions.folder / "active.json").read_text()) == {"version": 1, "newest": 1}
