"""The routes of trainings: what Slicer's and OHIF's buttons send, and what they are told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from app_room import QuietApp, client_of
from monailabel.config import settings
from monailabel.interfaces.utils.app import apps

from monailabel_app.errors import RequestError
from monailabel_app.learning.options import read_options
from monailabel_app.learning.versions import Version

TOKENS = "rita train 0123456789abcdef0123;ada admin 1123456789abcdef0123"


class FakeLearner:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.asked, self.version = [], 1
        self.versions = SimpleNamespace(all=lambda: [Version(0, None), Version(1, None, {"labels": 5, "job": "j"})])

    def submit(self, request, *, by=None, enqueue=False):
        self.asked.append((read_options(request), by, enqueue))
        return SimpleNamespace(told=lambda: {"id": "j", "status": "SUBMITTED"})

    def status(self, *, everything=False, only_running=False):
        if only_running:
            raise RequestError("no training runs", status=404)
        return [{"id": "j"}] if everything else {"id": "j"}

    def stop(self):
        return SimpleNamespace(told=lambda: {"id": "j", "status": "STOPPED"})

    def activate(self, number):
        self.version = number
        return Version(number, None)


@pytest.fixture
def learner(monkeypatch):
    found = FakeLearner()
    monkeypatch.setattr(QuietApp, "learner", found, raising=False)
    return found


@pytest.fixture
def client(tmp_path, learner):
    with client_of(tmp_path / "studies", tmp_path / "sessions") as client:
        yield client


def test_slicers_button_starts_a_training_with_the_table_as_it_was_typed(client, learner):
    reply = client.post("/train/finetune", json={"tuning": "norms", "minutes": "3", "resume": False})
    assert reply.status_code == 200 and reply.json() == {"id": "j", "status": "SUBMITTED"}
    ((options, by, enqueue),) = learner.asked
    assert (options["tuning"], options["minutes"], by, enqueue) == ("norms", 3.0, None, False)


@pytest.mark.parametrize("body", [{}, {"finetune": {"steps": 4}}, {"steps": 4}])
def test_ohifs_button_starts_all_trainers_of_which_there_is_one(client, learner, body):
    reply = client.post("/train/", json=body)
    assert reply.json()["finetune"]["result"]["status"] == "SUBMITTED"
    assert learner.asked[0][0]["steps"] == (4 if body else 2000)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/train/finetune", {"max_epochs": "$__import__('os').system('x')"}, 400),
        ("/train/finetune", {"steps": "$1"}, 400),
        ("/train/", {"finetune": "$1"}, 400),
        ("/train/finetune", [1], 422),
        ("/train/sam_2d", {}, 404),
        ("/train/finetune", {"tuning": {"lora": {"a": [[[[[[["b"]]]]]]]}}}, 400),
    ],
)
def test_what_is_no_option_reaches_no_training(client, learner, path, body, status):
    reply = client.post(path, json=body)
    assert reply.status_code == status and reply.json()["detail"]
    assert not learner.asked


def test_clients_see_the_last_training_all_of_them_or_that_none_runs(client):
    assert client.get("/train/").json() == {"id": "j"}
    assert client.get("/train/?all=true").json() == [{"id": "j"}]
    reply = client.get("/train/?check_if_running=true")
    assert (reply.status_code, reply.json()["detail"]) == (404, "no training runs")
    assert client.delete("/train/").json()["status"] == "STOPPED"


def test_versions_are_listed_and_an_admin_goes_back(client, learner):
    listed = client.get("/train/versions").json()
    assert [(one["version"], one["active"], one["labels"]) for one in listed] == [(0, False, None), (1, True, 5)]
    assert client.put("/train/versions/0").json()["active"] is True and learner.version == 0


def test_who_asked_is_noted_and_going_back_is_for_admins(tmp_path, learner, monkeypatch):
    monkeypatch.setenv("MONAI_SAM_TOKENS", TOKENS)
    with client_of(tmp_path / "studies", tmp_path / "sessions") as client:
        rita, ada = ({"Authorization": f"Bearer {number}123456789abcdef0123"} for number in (0, 1))
        assert client.post("/train/finetune", json={}, headers=rita).status_code == 200
        assert learner.asked[0][1] == "rita"
        assert client.put("/train/versions/0", headers=rita).status_code == 403
        assert client.put("/train/versions/0", headers=ada).status_code == 200


def test_a_server_that_does_not_learn_says_so(tmp_path):
    with client_of(tmp_path / "studies", tmp_path / "sessions") as client:
        app = apps[f"{settings.MONAI_LABEL_APP_DIR}{settings.MONAI_LABEL_STUDIES}"]
        assert not hasattr(app, "learner")
        for method, path in (("GET", "/train/"), ("POST", "/train/finetune"), ("GET", "/train/versions")):
            reply = client.request(method, path)
            assert reply.status_code == 404 and "does not learn" in reply.json()["detail"]
