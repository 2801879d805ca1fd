"""The audit log: who did what when, with nothing in it that names a patient."""

from __future__ import annotations

import json
import stat

import pytest
from app_room import a_label, a_volume, client_of

from monailabel_app.server.access import TOKENS, SettingsError
from monailabel_app.server.audit_log import AUDIT_LOG, AuditLog

TOKEN = "0123456789abcdef0123"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def log(tmp_path, monkeypatch):
    path = tmp_path / "audit" / "log.jsonl"
    monkeypatch.setenv(AUDIT_LOG, str(path))
    monkeypatch.setenv(TOKENS, f"anna annotate {TOKEN}")
    return path


@pytest.fixture
def client(tmp_path, log):
    a_volume(tmp_path / "studies" / "Mueller_1950.nii.gz")
    with client_of(tmp_path / "studies", tmp_path / "sessions") as client:
        yield client


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_request_leaves_one_line_refusals_too(client, log, tmp_path):
    label = a_label(tmp_path / "Mueller.nii.gz").read_bytes()
    files = {"label": ("Mueller.nii.gz", label)}
    client.put("/datastore/label?image=Mueller_1950", files=files, headers=HEADERS)
    client.get("/datastore/label?label=Mueller_1950&tag=final")
    client.delete("/datastore/label?id=Mueller_1950&tag=final", headers=HEADERS)
    client.get("/healthz")
    found = [(line["who"], line["role"], line["method"], line["route"], line["status"]) for line in lines(log)]
    assert found == [
        ("anna", "annotate", "PUT", "/datastore/label", 200),
        (None, None, "GET", "/datastore/label", 401),
        ("anna", "annotate", "DELETE", "/datastore/label", 403),
    ]
    assert len({line["image"] for line in lines(log)}) == 1 and all("T" in line["time"] for line in lines(log))


def test_no_patients_name_and_no_token_stands_in_it(client, log):
    client.get("/datastore/image?image=Mueller_1950", headers=HEADERS)
    client.get("/session/Mueller_1950", headers=HEADERS)
    client.get(f"/Mueller_1950?token={TOKEN}", headers=HEADERS)
    text = log.read_text(encoding="utf-8")
    assert text.count("\n") == 3 and "Mueller" not in text and TOKEN not in text


def test_whoever_has_the_key_finds_the_lines_of_an_image(client, log):
    client.get("/datastore/image?image=Mueller_1950", headers=HEADERS)
    assert AuditLog(log).hashed("Mueller_1950") == lines(log)[0]["image"]
    assert AuditLog(log.with_name("another")).hashed("Mueller_1950") != lines(log)[0]["image"]


def test_log_and_key_are_for_one_user_alone(client, log):
    for path in (log, log.with_name("log.jsonl.key")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_log_that_cannot_be_written_stops_the_start(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be written"):
        AuditLog(tmp_path / "file" / "log")
    assert AuditLog.from_environment({}) is None
