"""Slicer's client finds the login, uses it, and is refused with a sentence where it is wrong."""

from __future__ import annotations

import pytest
from app_room import a_label, a_volume, client_of, listening

from monailabel_app.demo.slicer_user import load_slicer_client
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


def test_slicers_own_client_logs_in_and_works(client, tmp_path):
    with listening(client.app) as url:
        slicer = load_slicer_client().MONAILabelClient(url, str(tmp_path / "slicer"), "user-xyz")
        assert slicer.auth_enabled() and not slicer.auth_valid_token()
        slicer.update_auth(slicer.auth_token("anna", TOKEN))
        assert slicer.auth_valid_token() and slicer.info()["name"] == ""
        assert slicer.next_sample("random", {})["id"] == "ct"
        label = a_label(tmp_path / "label.nii.gz")
        slicer.save_label("ct", str(label), params={"label_info": [{"name": "liver", "idx": 1}]})
        listed = slicer.datastore()  # after requests with a body: it sends their length once more
        assert listed["objects"]["ct"]["labels"]["final"]["info"]["saved_by"] == "anna"


def test_slicers_own_client_is_told_what_is_wrong_with_its_login(client, tmp_path):
    with listening(client.app) as url:
        module = load_slicer_client()
        slicer = module.MONAILabelClient(url, str(tmp_path / "slicer"), "user-xyz")
        with pytest.raises(module.MONAILabelClientException, match="no such name and password"):
            slicer.auth_token("anna", "wrong")
