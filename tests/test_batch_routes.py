"""A batch: a model that needs no click over many images, behind the clicks."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from app_room import client_of
from monailabel.config import settings
from monailabel.interfaces.utils.app import apps
from session_room import SHAPE
from test_automatic import NAMES, BrightSegmenter
from test_scoring import AFFINE, PATIENCE, ScoringApp, accept, an_image

from bundle.data.volume import Volume, read_label, write_label
from monailabel_app.jobs import Job
from monailabel_app.strategies.places import AcceptedPlaces
from monailabel_app.tasks.automatic import AutomaticTask
from monailabel_app.tasks.interactive import SamTask
from monailabel_app.tasks.open_images import ImageSessions


class BatchApp(ScoringApp):
    """The quiet app with tasks and a batch."""

    def __init__(self, studies, sessions):
        self.batch = Job("batch")
        super().__init__(studies, sessions)

    def init_infers(self):
        sessions, accepted = ImageSessions(BrightSegmenter()), AcceptedPlaces()
        automatic = AutomaticTask(sessions, names=NAMES, accepted=accepted, datastore=self.datastore)
        return {"sam_3d": SamTask(sessions, dimension=3), "sam_auto": automatic}


@pytest.fixture
def served(tmp_path):
    """A client and the app behind it, over three images, of which the first has a label of the left organ."""
    studies = tmp_path / "studies"
    for name in ("organs", "second", "third"):
        an_image(studies, name)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(client_of(studies, tmp_path / "sessions"))
        app = BatchApp(studies, tmp_path / "sessions")
        apps[f"{settings.MONAI_LABEL_APP_DIR}{settings.MONAI_LABEL_STUDIES}"] = app
        accept(client, app)
        yield client, app
        app.batch.stop()


def run(client, app, **params):
    reply = client.post("/batch/infer/sam_auto", json=params)
    assert reply.status_code == 200, reply.text
    app.batch.wait(PATIENCE)
    return client.get("/batch/infer").json()


def test_images_without_a_label_get_one_to_review(served):
    client, app = served
    status = run(client, app)
    assert (status["status"], status["done"], status["failed"]) == ("DONE", 2, {})
    store = app.datastore()
    assert store.get_label_info("second", "original")["label_info"] == [{"name": "left", "idx": 2}]
    assert set(np.unique(read_label(store.get_label_uri("third", "original")).array)) == {0, 2}
    assert store.get_labeled_images() == ["organs"]


def test_a_batch_that_goes_on_leaves_out_what_is_done(served):
    client, app = served
    assert run(client, app, max_batch_size=1)["done"] == 1
    assert run(client, app)["done"] == 1
    assert run(client, app)["total"] == 0


def test_the_jobs_of_the_server_name_the_image_that_a_batch_is_at(served, monkeypatch):
    client, app = served
    told, infer = [], app.infer

    def listed(request, *arguments, **options):
        told.extend((job["model"], job["image"]) for job in client.get("/jobs/").json())
        return infer(request, *arguments, **options)

    monkeypatch.setattr(app, "infer", listed)
    run(client, app)
    assert told == [("batch", "second"), ("batch", "third")]


@pytest.mark.parametrize("image", ["second", "third"])
def test_a_label_that_a_person_saves_meanwhile_stays(served, monkeypatch, image):
    client, app = served
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, 0, 0] = 9
    file = write_label(
        labels, Volume(np.zeros(SHAPE, np.float32), AFFINE), app.datastore()._folder.root / "../mine.nii.gz"
    )
    asked, infer = [], app.infer

    def slow(request, *arguments, **options):
        if not asked:  # the batch is at the image "second"
            files = {"label": ("mine.nii.gz", file.read_bytes()), "params": (None, "{}")}
            assert client.put(f"/datastore/label?image={image}&tag=draft", files=files).status_code == 200
        asked.append(request["image"])
        return infer(request, *arguments, **options)

    monkeypatch.setattr(app, "infer", slow)
    status = run(client, app, label_tag="draft")
    store = app.datastore()
    assert (status["status"], status["failed"], len(asked)) == ("DONE", {}, 2 if image == "second" else 1)
    assert np.unique(read_label(store.get_label_uri(image, "draft")).array).tolist() == [0, 9]
    assert len(store.label_versions(image, "draft")) == 0


@pytest.mark.parametrize(
    ("model", "params", "sentence"),
    [
        ("sam_3d", {}, "not clicked"),
        ("wisdom", {}, "not clicked"),
        ("sam_class", {}, "not clicked"),  # this server does not have it
        ("sam_auto", {"label_tag": "final"}, "people do"),
        ("sam_auto", {"label_tag": "../up"}, "plain name"),
        ("sam_auto", {"max_batch_size": -1}, "whole number"),
        ("sam_auto", {"max_batch_size": "many"}, "whole number"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(served, model, params, sentence):
    client, app = served
    reply = client.post(f"/batch/infer/{model}", json=params)
    assert reply.status_code == 400 and sentence in reply.json()["detail"]
    assert not app.batch.is_running


def test_a_second_batch_is_refused_while_one_runs(served):
    client, app = served
    app.batch.start = lambda *_: False
    assert client.post("/batch/infer/sam_auto", json={}).status_code == 409


def test_nothing_is_said_of_a_batch_that_never_was(served):
    client, _ = served
    assert client.get("/batch/infer").status_code == 404
    assert client.delete("/batch/infer").status_code == 404


def test_params_that_ask_wrongly_fail_image_by_image(served):
    client, app = served
    status = run(client, app, find="wisdom")
    assert set(status["failed"]) == {"second", "third"} and "must be" in status["failed"]["second"]
