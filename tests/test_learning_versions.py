"""Versions of the network on disk: published whole or not at all, and a way back."""

from __future__ import annotations

import json

import pytest

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


STEPS = ("weights", "notes", "pointer")


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_of_publishing_the_next_server_has_the_version_from_before(
    versions, tmp_path, monkeypatch, step
):
    publish(versions, tmp_path, "one")
    real = {"weights": module.write_atomically, "notes": module.write_text}

    class Killed(BaseException):
        """The process is gone."""

    def dying(path, *arguments, **options):
        of = "weights" if path.suffix == ".safetensors" else "pointer" if path.stem == "active" else "notes"
        if of == step:
            (path.parent / ".abcdefgh.part").write_bytes(b"half")
            raise Killed
        return real["weights" if of == "weights" else "notes"](path, *arguments, **options)

    monkeypatch.setattr(module, "write_atomically", dying)
    monkeypatch.setattr(module, "write_text", dying)
    with pytest.raises(Killed):
        publish(versions, tmp_path, "two")
    monkeypatch.undo()
    after = again(versions)
    assert after.active().number == 1 and after.active().checkpoint.read_text() == "one"
    assert publish(after, tmp_path, "three").number >= 2
    assert again(after).active().checkpoint.read_text() == "three"
    assert all(path.with_suffix(".json").exists() for path in after.folder.glob("0*.safetensors"))


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
    assert json.loads((versions.folder / "active.json").read_text()) == {"version": 1}
