"""Slicer's client finds the login, uses it, and is refused with a sentence where it is wrong."""

from __future__ import annotations

import pytest
from app_room import a_volume, client_of

from monailabel_app.server.access import TOKENS

TOKEN = "0123456789abcdef0123"


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.setenv(TOKENS, f"anna annotate {TOKEN}")
    a_volume(tmp_path / "studies" / "ct.nii.gz")
    with client_of(tmp_path / "studies", tmp_path / "sessions") as client:
        yield client


def test_a_name_and_its_token_are_answered_with_the_token_to_send(client):
    assert client.get("/auth/").json() == {"enabled": True}
    form = {"username": "anna", "password": TOKEN, "grant_type": "password"}  # as Slicer sends it
    reply = client.post("/auth/token", data=form).json()
    headers = {"Authorization": f"{reply['token_type']} {reply['access_token']}"}
    assert client.get("/auth/token/valid", headers=headers).json() == {"username": "anna", "role": "annotate"}
    assert client.get("/info/", headers=headers).status_code == 200


@pytest.mark.parametrize("form", [{}, {"username": "anna", "password": "x"}, {"username": "bob", "password": TOKEN}])
def test_another_name_or_token_gets_nothing(client, form):
    reply = client.post("/auth/token", data=form)
    assert reply.status_code == 401 and TOKEN not in reply.text
    assert client.get("/auth/token/valid").status_code == 401


def test_without_accounts_there_is_no_login(tmp_path):
    a_volume(tmp_path / "studies" / "ct.nii.gz")
    with client_of(tmp_path / "studies", tmp_path / "sessions") as client:
        assert client.get("/auth/").json() == {"enabled": False}
        assert client.post("/auth/token", data={"username": "anna", "password": TOKEN}).status_code == 404
