"""Which image an annotator gets next."""

from __future__ import annotations

import json

import pytest
from app_room import a_label, a_volume, client_of


@pytest.fixture
def client(tmp_path):
    a_volume(tmp_path / "studies/ct.nii.gz")
    (tmp_path / "studies/._ct.nii.gz").write_bytes(b"\0\5\x16\7" + b"\0" * 300)
    with client_of(tmp_path / "studies", tmp_path / "sessions") as client:
        yield client


def ask(client, **body):
    return client.post("/activelearning/random", json=body)


def test_the_only_image_is_given_as_often_as_it_is_asked_for(client, tmp_path):
    replies = [ask(client, client_id="anna").json() for _ in range(5)]
    assert {reply["id"] for reply in replies} == {"ct"}
    assert replies[0]["path"] == str(tmp_path / "studies/ct.nii.gz")
    assert replies[0]["strategy"]["random"]["client_id"] == "anna"
    assert client.get("/datastore/image/info?image=ct").json()["strategy"]["random"]["client_id"] == "anna"


def test_what_was_given_out_lately_waits_behind_the_others(client, tmp_path):
    a_volume(tmp_path / "studies/new.nii.gz")
    assert {ask(client).json()["id"] for _ in range(30)} == {"ct", "new"}


@pytest.mark.parametrize("given", [-1e308, 1e308, None, "soon"])
def test_a_note_of_any_time_breaks_no_sample(client, tmp_path, given):
    a_volume(tmp_path / "studies/new.nii.gz")
    info = json.dumps({"strategy": {"random": {"ts": given}}})
    for image in ("ct", "new"):
        assert client.put("/datastore/image/info", params={"image": image}, data={"info": info}).status_code == 200
    assert ask(client).json()["id"] in ("ct", "new")


def test_nothing_is_left_when_all_are_labelled(client, tmp_path):
    a_label(tmp_path / "studies/labels/final/ct.nii.gz")
    assert ask(client).json() == {}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"strategy": [1]}', 200),
        ('{"client_id": {"a": [1]}}', 200),
        ('{"client_id": NaN}', 200),
        ('{"client_id": "\\ud800"}', 400),
        ("[]", 422),
        ("5", 422),
        ("{", 422),
        ('{"x": ' + "[" * 900 + "]" * 900 + "}", 400),
        ('{"x": ' + "[" * 100_000 + "}", 400),
    ],
)
def test_no_request_for_a_sample_breaks_the_next_one(client, body, status):
    reply = client.post("/activelearning/random", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == status, reply.text
    assert ask(client).json()["id"] == "ct"
    json.dumps(client.get("/datastore/?output=all").json(), allow_nan=False)


def test_an_unknown_strategy_is_named(client):
    reply = client.post("/activelearning/wisdom", json={})
    assert reply.status_code == 400 and "wisdom" in reply.json()["detail"]


def test_a_sample_is_given_even_if_it_cannot_be_noted(client, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bundle.files.os.fsync", full)
    assert ask(client).json()["id"] == "ct"
    assert "not noted" in caplog.text
