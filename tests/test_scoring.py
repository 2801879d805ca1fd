"""Scores are made behind the clicks, kept in the index, and read by strategies at once."""

from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
from app_room import QuietApp, client_of
from fakes import BrightRegionSam, bright_contract
from monailabel.config import settings
from monailabel.interfaces.utils.app import apps
from pacs_room import FakeClient, store_of, write_series
from session_room import SHAPE, organs

from bundle.active.selection import RULES
from bundle.data.volume import Volume, write_label, write_volume
from bundle.engines.cache import PreparedCache
from bundle.interactive.slice_model import SlicePredictor
from monailabel_app.learning.accepted import accepted_labels
from monailabel_app.main import MonaiSam
from monailabel_app.strategies import places as places_module
from monailabel_app.strategies.places import AcceptedPlaces
from monailabel_app.strategies.pool import SCORES, Images
from monailabel_app.strategies.scoring import METHOD, PredictionScores, Scorer
from monailabel_app.strategies.strategies import all_strategies
from monailabel_app.work import WorkQueue

PATIENCE = 60.0
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def an_image(folder, name, mask=None):
    """A volume with the two bright organs, or with others."""
    voxels = (organs() if mask is None else mask) * 100.0
    return write_volume(Volume(voxels.astype(np.float32), AFFINE, "other"), folder / f"{name}.nii.gz")


def a_predictor(weight: float = 1.0) -> SlicePredictor:
    network = BrightRegionSam()
    network.weight.data.fill_(weight)
    return SlicePredictor(network, bright_contract(32), store=PreparedCache())


class ScoringApp(QuietApp):
    """The quiet app with a model to score with."""

    def __init__(self, studies, sessions):
        self.predictor = a_predictor()
        self.scorer = Scorer(lambda: self.predictor, AcceptedPlaces())
        super().__init__(studies, sessions)

    def init_strategies(self):
        return all_strategies(Images(self.assignments, lambda: self.predictor.identity))

    def init_scoring_methods(self):
        return {METHOD: PredictionScores(self.scorer)}


@pytest.fixture
def served(tmp_path):
    """A client and the app behind it, over two images: one with organs, one without."""
    studies = tmp_path / "studies"
    an_image(studies, "organs")
    an_image(studies, "nothing", np.zeros(SHAPE, bool))
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(client_of(studies, tmp_path / "sessions"))
        app = ScoringApp(studies, tmp_path / "sessions")
        apps[f"{settings.MONAI_LABEL_APP_DIR}{settings.MONAI_LABEL_STUDIES}"] = app
        yield client, app
        app.scorer.job.stop()


def accept(client, app, image="organs"):
    """Save a final label of the left organ."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:9, 4:14, 2:10] = 1
    grid = Volume(np.zeros(SHAPE, np.int16), AFFINE)
    path = write_label(labels, grid, app.datastore()._folder.root.parent / "label.nii.gz")
    app.datastore().save_label(image, str(path), "final", {"label_info": [{"name": "left", "idx": 1}]})


def scores(app, image):
    return app.datastore().get_image_info(image).get(SCORES)


def test_the_first_next_sample_waits_for_no_score_and_the_later_ones_read_them(served):
    client, app = served
    first = client.post("/activelearning/uncertainty", json={"client_id": "anna"}).json()
    assert first["id"] in ("organs", "nothing")
    app.scorer.job.wait(PATIENCE)
    assert scores(app, "organs")["model"] == app.predictor.identity
    app.assignments._seconds = 0.0  # nobody works on any of them any more
    later = client.post("/activelearning/uncertainty", json={"client_id": "bert"}).json()
    assert later["id"] == "organs" and "greatest doubt" in later["reason"] and later["slice"] is not None


def test_the_jobs_of_the_server_name_the_image_that_is_scored(served, monkeypatch):
    client, app = served
    told, score = [], app.scorer.score

    def listed(image, datastore):
        told.extend((job["model"], job["image"]) for job in client.get("/jobs/").json())
        return score(image, datastore)

    monkeypatch.setattr(app.scorer, "score", listed)
    client.post("/scoring/")
    app.scorer.job.wait(PATIENCE)
    assert sorted(told) == [("scoring", "nothing"), ("scoring", "organs")]


def test_a_dicomweb_server_sends_its_series_to_be_scored_only_where_that_is_asked(served, tmp_path, monkeypatch):
    client, app = served
    pacs = store_of(FakeClient(write_series(tmp_path / "ct", "1.2.4")), tmp_path / "cache")
    monkeypatch.setattr(app, "datastore", lambda: pacs)
    woken = []
    app.scorer.wake = lambda queue, store: woken.append(store)
    client.post("/activelearning/uncertainty", json={})
    assert woken == []
    client.post("/scoring/")
    assert woken == [pacs]


def save(client, folder, tag) -> None:
    """Save a label of the left organ as a client does."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:9, 4:14, 2:10] = 1
    path = write_label(labels, Volume(np.zeros(SHAPE, np.int16), AFFINE), folder / "sent.nii.gz")
    params = json.dumps({"label_info": [{"name": "left", "idx": 1}]})
    files = {"label": (path.name, path.read_bytes()), "params": (None, params)}
    assert client.put(f"/datastore/label?image=organs&tag={tag}", files=files).status_code == 200


def test_once_a_strategy_reads_them_scores_follow_final_labels_images_and_versions(served, tmp_path):
    client, app = served
    save(client, tmp_path, "final")
    assert client.get("/scoring/").status_code == 404  # nobody has asked for scores yet
    client.delete("/datastore/label?id=organs&tag=final")
    client.post("/activelearning/uncertainty", json={})
    app.scorer.job.wait(PATIENCE)
    assert set(scores(app, "nothing")["structures"]) <= {"object"}
    save(client, tmp_path, "final")
    app.scorer.job.wait(PATIENCE)
    assert set(scores(app, "nothing")["structures"]) == {"left"}
    new = an_image(tmp_path, "new")
    client.put("/datastore/image", files={"file": (new.name, new.read_bytes())})
    app.scorer.job.wait(PATIENCE)
    assert set(scores(app, "new")["structures"]) == {"left"}
    app.predictor = a_predictor(2.0)
    app._images = SimpleNamespace(switch=lambda segmenter: None)
    MonaiSam._serve(app, SimpleNamespace())
    app.scorer.job.wait(PATIENCE)
    assert scores(app, "organs")["model"] == app.predictor.identity


def test_scoring_that_was_stopped_and_a_draft_start_nothing(served, tmp_path, monkeypatch):
    client, app = served
    client.post("/activelearning/uncertainty", json={})
    app.scorer.job.wait(PATIENCE)
    woken = []
    monkeypatch.setattr(app.scorer, "wake", lambda queue, store: woken.append(store))
    save(client, tmp_path, "draft")
    assert woken == []
    client.delete("/scoring/")
    save(client, tmp_path, "final")
    assert woken == []
    client.post("/activelearning/uncertainty", json={})
    client.delete("/datastore/label?id=organs&tag=final")
    assert len(woken) == 2


def test_a_strategy_without_scores_says_so(served, caplog):
    client, app = served
    app.scorer.wake = lambda *_, **__: None
    reply = client.post("/activelearning/clasp_pe", json={}).json()
    assert "no image is scored yet" in reply["reason"] and "no image is scored yet" in caplog.text


def test_scores_are_made_on_demand_with_progress(served):
    client, app = served
    assert client.get("/scoring/").status_code == 404
    assert client.post("/scoring/").json()["status"] in ("RUNNING", "DONE")
    app.scorer.job.wait(PATIENCE)
    status = client.get("/scoring/").json()
    assert (status["status"], status["done"], status["total"], status["failed"]) == ("DONE", 2, 2, {})
    assert client.get("/scoring/", params={"check_if_running": True}).status_code == 404
    assert client.post(f"/scoring/{METHOD}").status_code == 200
    assert client.post("/scoring/wisdom").status_code == 404
    assert client.delete("/scoring/").status_code == 200


def test_an_accepted_label_says_what_to_ask_for_and_all_is_scored_anew(served):
    client, app = served
    app.scorer.wake(WorkQueue(), app.datastore())
    app.scorer.job.wait(PATIENCE)
    assert set(scores(app, "organs")["structures"]) == {"object"}
    accept(client, app)
    assert len(app.scorer.missing(app.datastore())) == 2
    app.scorer.wake(WorkQueue(), app.datastore())
    app.scorer.job.wait(PATIENCE)
    assert set(scores(app, "nothing")["structures"]) == {"left"}
    assert app.scorer.missing(app.datastore()) == []


def test_another_model_scores_anew_and_until_then_the_old_scores_count_with_a_line(served):
    client, app = served
    app.scorer.wake(WorkQueue(), app.datastore())
    app.scorer.job.wait(PATIENCE)
    app.predictor = a_predictor(2.0)
    assert len(app.scorer.missing(app.datastore())) == 2
    app.scorer.wake = lambda *_, **__: None
    reply = client.post("/activelearning/uncertainty", json={}).json()
    assert reply["id"] == "organs" and "earlier model" in reply["reason"]


def test_scores_of_other_structures_are_not_compared(served):
    _, app = served
    store, images = app.datastore(), Images(app.assignments, lambda: app.predictor.identity)
    app.scorer.wake(WorkQueue(), store)
    app.scorer.job.wait(PATIENCE)
    liver = {"liver": {"entropy": 0.5, "disagreement": 0.5, "predicted_iou": 0.5, "foreground": 0.5}}
    store.update_image_info("organs", {SCORES: {**scores(app, "organs"), "structures": liver}})
    an_image(store._folder.root, "third")
    store.update_image_info("third", {SCORES: {**scores(app, "organs"), "structures": liver}})
    pool = images.pool(store, "anna")
    assert {one.name for one in pool.unlabelled if one.scores is not None} == {"organs", "third"}


def test_an_image_that_cannot_be_read_fails_alone(served):
    _, app = served
    (app.datastore()._folder.root / "broken.nii.gz").write_bytes(b"\x1f\x8b no image")
    app.scorer.wake(WorkQueue(), app.datastore())
    app.scorer.job.wait(PATIENCE)
    status = app.scorer.job.status()
    assert set(status["failed"]) == {"broken"} and status["done"] == 2


def test_a_label_that_cannot_be_read_says_nothing_about_places(served, caplog):
    client, app = served
    accept(client, app)
    (app.datastore()._folder.root / "labels/final/organs.nii.gz").write_bytes(b"\x1f\x8b no label")
    assert AcceptedPlaces().places(app.datastore()) == {}
    assert "says nothing about places" in caplog.text


@pytest.mark.parametrize(
    "sent", [[], [{"name": "spleen"}], [{"name": "background", "idx": 0}, {"name": "liver", "idx": 1}]]
)
def test_structures_are_looked_for_by_the_names_that_are_trained_on(served, sent):
    client, app = served
    accept(client, app)
    places = AcceptedPlaces()
    assert set(places.places(app.datastore())) == {"left"}
    app.datastore().update_label_info("organs", "final", {"label_info": sent})
    (trained,) = accepted_labels(app.datastore())
    assert set(places.places(app.datastore())) == set(trained.names) and len(trained.names) == 1


def test_a_structure_that_only_the_last_of_many_labels_shows_is_looked_for_and_few_images_are_read(
    served, tmp_path, monkeypatch
):
    """Slicer names every segment of its list, also those in which nothing was drawn."""
    monkeypatch.setattr(places_module, "MOST", 2)
    read, read_stored = [], places_module.read_stored
    monkeypatch.setattr(
        places_module,
        "read_stored",
        lambda store, image, **told: read.append(image) or read_stored(store, image, **told),
    )
    _, app = served
    named = {"label_info": [{"name": "liver", "idx": 1}, {"name": "tumour", "idx": 2}]}
    for number in range(5):
        an_image(tmp_path / "studies", name := f"case{number}")
        labels = np.zeros(SHAPE, np.uint8)
        labels[2:9, 4:14, 2:10] = 2 if number == 4 else 1
        path = write_label(labels, Volume(np.zeros(SHAPE, np.int16), AFFINE), tmp_path / "label.nii.gz")
        app.datastore().save_label(name, str(path), "final", named)
    places = AcceptedPlaces()
    assert [set(places.places(app.datastore())) for _ in range(2)] == [{"liver", "tumour"}] * 2
    assert read == ["case0", "case1", "case4"]


def test_no_more_than_some_labels_are_read_for_a_structure_that_none_shows(served, tmp_path, monkeypatch):
    monkeypatch.setattr(places_module, "MOST", 1)
    monkeypatch.setattr(places_module, "_MOST_READ", 3)
    read, read_label = [], places_module.read_label
    monkeypatch.setattr(places_module, "read_label", lambda path: read.append(path.name) or read_label(path))
    _, app = served
    named = {
        "label_info": [{"name": "background", "idx": 0}, {"name": "liver", "idx": 1}, {"name": "tumour", "idx": 2}]
    }
    for number in range(5):
        an_image(tmp_path / "studies", name := f"case{number}")
        labels = np.zeros(SHAPE, np.uint8)
        labels[2:9, 4:14, 2:10] = 1
        path = write_label(labels, Volume(np.zeros(SHAPE, np.int16), AFFINE), tmp_path / "label.nii.gz")
        app.datastore().save_label(name, str(path), "final", named)
    assert set(AcceptedPlaces().places(app.datastore())) == {"liver"} and len(read) == 3


def test_two_users_are_given_two_images_and_a_third_none(served):
    client, _ = served
    given = [client.post("/activelearning/first", json={"client_id": name}).json() for name in ("anna", "bert", "carl")]
    assert [one.get("id") for one in given] == ["nothing", "organs", None]


def test_a_user_who_skips_an_image_is_given_another(served):
    client, _ = served
    given = [client.post("/activelearning/first", json={"client_id": "anna"}).json()["id"] for _ in range(2)]
    assert given == ["nothing", "organs"]


@pytest.mark.parametrize("rule", RULES)
def test_a_user_who_asks_again_is_given_every_image_before_one_comes_again(served, rule):
    client, app = served
    studies = app.datastore()._folder.root
    for number in range(2):
        mask = organs()
        mask[:, : number + 4] = False
        an_image(studies, f"case{number}", mask)
    app.scorer.wake(WorkQueue(), app.datastore())
    app.scorer.job.wait(PATIENCE)
    given = [client.post(f"/activelearning/{rule}", json={"client_id": "anna"}).json()["id"] for _ in range(8)]
    assert len(set(given[:4])) == 4 and given[4:] == given[:4]


def test_what_somebody_clicks_on_is_not_given_to_others(served):
    client, app = served
    app.assignments.work("nothing", "bert")
    assert client.post("/activelearning/first", json={"client_id": "anna"}).json()["id"] == "organs"


def test_the_strategies_and_the_scoring_method_are_offered(served):
    client, _ = served
    info = client.get("/info/").json()
    assert next(iter(info["strategies"])) == "random" and "clasp_pe" in info["strategies"]
    assert list(info["scoring"]) == [METHOD]
