"""Sessions: a volume is uploaded for a while, and survives what breaks."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from app_room import a_volume, client_of
from monailabel.interfaces.utils.app import app_instance

from bundle.data.limits import Limits
from monailabel_app.datastore.session_folder import SessionFolder
from monailabel_app.server.images import find_image


@pytest.fixture
def client(tmp_path):
    with client_of(tmp_path / "studies", tmp_path / "sessions") as client:
        yield client


def upload(client, *files: tuple[str, bytes], **query):
    return client.put("/session/", files=[("files", file) for file in files], params=query)


def test_a_volume_is_kept_and_sent_back_and_removed(client, tmp_path):
    content = a_volume(tmp_path / "ct.nii.gz").read_bytes()
    session = upload(client, ("ct.nii.gz", content)).json()["session_id"]
    assert client.get(f"/session/{session}", params={"image": True}).content == content
    assert (tmp_path / "sessions" / session).stat().st_mode & 0o777 == 0o700
    assert client.delete(f"/session/{session}").status_code == 200
    assert client.get(f"/session/{session}").status_code == 404
    assert list((tmp_path / "sessions").iterdir()) == []


def test_a_file_without_an_ending_is_kept_as_well(client):
    session = upload(client, ("IM0001", b"x")).json()["session_id"]
    assert client.get(f"/session/{session}", params={"image": True}).content == b"x"


def test_a_series_of_files_cannot_be_sent_back_as_one(client):
    session = upload(client, ("1.dcm", b"x"), ("2.dcm", b"y")).json()["session_id"]
    reply = client.get(f"/session/{session}", params={"image": True})
    assert reply.status_code == 400 and "series of files" in reply.json()["detail"]


def test_two_files_of_one_name_are_refused_before_one_replaces_the_other(client):
    reply = upload(client, ("1.dcm", b"x"), ("other/1.dcm", b"y"))
    assert reply.status_code == 400 and "2 of 2 files are called '1.dcm'" in reply.json()["detail"]


def test_more_files_than_a_form_usually_has_are_a_series(client):
    assert upload(client, *((f"{number}.dcm", b"x") for number in range(1500))).status_code == 200


def test_nothing_stays_of_a_session_that_fails(client, tmp_path, monkeypatch):
    monkeypatch.setattr("monailabel.utils.sessions.shutil.move", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    reply = upload(client, ("ct.nii.gz", b"x"))
    assert reply.status_code == 507 and "disk is full" in reply.json()["detail"]
    assert list((tmp_path / "sessions").iterdir()) == []


@pytest.mark.parametrize("notes", ["", '{"name": "a', "[]", "null"])
def test_damaged_notes_of_a_session_neither_stop_the_server_nor_its_clean_up(tmp_path, notes):
    store = SessionFolder(str(tmp_path))
    session_id, _ = store.add_session(str(a_volume(tmp_path / "ct.nii.gz")))
    (tmp_path / session_id / "meta.info").write_text(notes)
    again = SessionFolder(str(tmp_path))
    assert again.remove_expired() == 0 and again.get_session(session_id) is None
    os.utime(tmp_path / session_id, (1, 1))
    assert again.remove_expired() == 1 and not (tmp_path / session_id).exists()


def test_a_server_that_has_just_started_knows_the_sessions_and_cleans_up(client, tmp_path):
    content = a_volume(tmp_path / "ct.nii.gz").read_bytes()
    kept, old = (upload(client, ("ct.nii.gz", content)).json()["session_id"] for _ in range(2))
    notes = tmp_path / "sessions" / old / "meta.info"
    notes.write_text(json.dumps(json.loads(notes.read_text()) | {"last_access_ts": 1}))
    with client_of(tmp_path / "studies", tmp_path / "sessions") as again:
        app_instance().cleanup_sessions()
        assert again.get(f"/session/{kept}").status_code == 200
        assert find_image(app_instance(), "", kept).read_bytes() == content
    assert not notes.exists()


def test_a_session_goes_when_nobody_used_it_for_as_long_as_it_said(tmp_path, monkeypatch):
    store = SessionFolder(str(tmp_path))
    session_id, found = store.add_session(str(a_volume(tmp_path / "ct.nii.gz")), expiry=100)
    now = time.time()
    monkeypatch.setattr("monailabel_app.datastore.session_folder.time.time", lambda: now + 90)
    assert store.get_session(session_id) and store.remove_expired() == 0
    monkeypatch.setattr("monailabel_app.datastore.session_folder.time.time", lambda: now + 180)
    assert store.remove_expired() == 0
    assert json.loads(Path(found.path, "meta.info").read_text())["last_access_ts"] == int(now + 90)
    monkeypatch.setattr("monailabel_app.datastore.session_folder.time.time", lambda: now + 300)
    assert store.remove_expired() == 1 and store.get_session(session_id) is None


def test_only_so_many_sessions_are_kept(client, monkeypatch):
    monkeypatch.setattr("monailabel_app.server.session_routes.LIMITS", Limits(sessions=2))
    first = upload(client, ("a.nii.gz", b"x")).json()["session_id"]
    assert upload(client, ("a.nii.gz", b"x")).status_code == 200
    reply = upload(client, ("a.nii.gz", b"x"))
    assert reply.status_code == 503 and "MONAI_SAM_MAX_SESSIONS" in reply.json()["detail"]
    assert client.delete(f"/session/{first}").status_code == 200
    assert upload(client, ("a.nii.gz", b"x")).status_code == 200
