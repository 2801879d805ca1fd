"""What the app knows of learning: when it trains, what comes of it, and which network is served."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from app_room import a_label, a_volume
from evaluation_room import write_weights
from faults import disk_full, ended_at, fault_at
from learning_room import write_small_family

from bundle.engines.cache import PreparedCache
from bundle.files import read_json, sha256_of
from monailabel_app.datastore.study_folder import StudyFolder
from monailabel_app.errors import RequestError
from monailabel_app.learning import learner as module
from monailabel_app.learning.accepted import accepted_labels
from monailabel_app.learning.learner import Learner
from monailabel_app.learning.settings import LearningSettings
from monailabel_app.learning.task import FinetuneTask
from monailabel_app.learning.versions import Versions

PATIENCE = 60.0  # seconds; only a broken test waits for them
SCORES = {"before": 0.7, "after": 0.8}
RESULT = {
    **{"accepted": True, "reasons": [], "share": 1.0, "before": [], "after": [], "dsc": SCORES, "nsd": SCORES},
    **{"held_out": "patients", "labels": 1, "patients": 1, "structures": ["liver"], "steps": 20, "seconds": 9.0},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small family, and two networks of it."""
    folder = tmp_path_factory.mktemp("weights")
    family = write_small_family(folder)
    names = enumerate(("base", "trained"))
    return {
        "family": family,
        **{name: write_weights(family, folder / f"{name}.safetensors", seed=seed) for seed, name in names},
    }


class Room:
    """A learner over a folder of studies, whose jobs are done by the test."""

    def __init__(self, folder, weights) -> None:
        self.folder, self.weights, self.studies = folder, weights, folder / "studies"
        self.store = StudyFolder(str(self.studies))
        self.settings = LearningSettings(
            folder / "learning", family=str(weights["family"]), checkpoint=str(weights["base"]), device="cpu"
        )
        self.served, self.learner = [], None

    def open(self, prepared: PreparedCache | None = None) -> Learner:
        """A server that starts; its runner does nothing by itself."""
        self.learner = Learner(self.settings, lambda: self.store, prepared=prepared, served=self.served.append)
        self.learner._runner.start = lambda: None
        self.learner.start(busy=lambda: False)
        return self.learner

    def accept(self, *names: str, tag: str = "final", **info) -> None:
        for name in names:
            if not self.store.get_image_uri(name):
                self.store.add_image(name, str(a_volume(self.studies.parent / f"{name}.nii.gz")), {})
            label = a_label(self.studies.parent / "label.nii.gz")
            self.store.save_label(name, str(label), tag, {"label_info": [{"name": "liver", "idx": 1}], **info})

    def finished(self, job, **result) -> None:
        """What the process of a job does."""
        self.learner._prepare(job)
        (job.folder / "result.json").write_text(json.dumps({**RESULT, **result}))
        shutil.copyfile(self.weights["trained"], job.folder / "candidate.safetensors")

    def do(self, job, **result):
        """What the process of a job does, and then the runner."""
        self.finished(job, **result)
        return self.learner._finish(job).changed(state="DONE")

    def close(self) -> None:
        if self.learner is not None:
            self.learner.close()


@pytest.fixture
def room(tmp_path, weights):
    here = Room(tmp_path / "room", weights)
    yield here
    here.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def identity(learner: Learner) -> str:
    return learner.segmenter.predictor.identity


# ---- what is accepted ------------------------------------------------------------------------------------------------


def test_only_labels_that_were_submitted_are_trained_on(room):
    room.accept("a")
    room.accept("b", tag="original")
    room.accept("c", tag="draft")
    assert [(label.patient, label.names) for label in accepted_labels(room.store)] == [("a", {"liver": 1})]


def test_the_patient_is_dicoms_where_it_is_known_and_else_the_image(room):
    room.accept("a", "b", "c")
    room.store.update_image_info("a", {"PatientID": "P7"})
    room.accept("b", PatientID="UNK")
    assert [label.patient for label in accepted_labels(room.store)] == ["P7", "b", "c"]


def test_the_background_is_no_structure_and_entries_without_a_number_count_from_1(room):
    room.accept("a", label_info=[{"name": "background", "idx": 0}, {"name": "liver", "idx": 2}])
    room.accept("b", label_info=[{"name": "spleen"}, {"name": "liver"}])
    assert [label.names for label in accepted_labels(room.store)] == [{"liver": 2}, {"spleen": 1, "liver": 2}]


def test_a_label_whose_names_cannot_be_read_is_left_out_and_stops_nobody(room, monkeypatch, caplog):
    room.accept("a", "b")
    told = room.store.get_label_info
    wrong = {"label_info": [{"name": "liver", "idx": 1.5}]}
    monkeypatch.setattr(room.store, "get_label_info", lambda name, tag: wrong if name == "a" else told(name, tag))
    assert [label.patient for label in accepted_labels(room.store)] == ["b"]
    assert "The label of the image 'a' is not trained on: idx in label_info of a.nii.gz" in caplog.text


def test_trainings_read_images_as_the_server_was_told(room):
    room.settings = replace(room.settings, modality="CT")
    room.accept("a")
    room.open()._prepare(job := room.learner.submit({}))
    assert [one["read_as"] for one in read_json(job.folder / "request.json")["accepted"]] == ["CT"]
    assert LearningSettings.of({"modality": "CT"}, "/studies/a").modality == "CT"


# ---- asking ----------------------------------------------------------------------------------------------------------


def test_without_an_accepted_label_there_is_nothing_to_train_on(room):
    room.accept("a", tag="original")
    with pytest.raises(RequestError, match="no label is accepted yet"):
        room.open().submit({})


def test_a_training_that_was_asked_for_is_a_job_with_its_options_and_who_asked(room):
    room.accept("a")
    room.open()
    with ThreadPoolExecutor(1) as pool:  # as a server does
        job = pool.submit(room.learner.submit, {"tuning": "norms", "steps": "7"}, by="anna").result()
    assert (job.kind, job.by, job.labels, job.options["tuning"], job.options["steps"]) == (
        "asked",
        "anna",
        1,
        "norms",
        7,
    )
    told = room.learner.status()
    assert told["status"] == "SUBMITTED" and told["request"]["model"] == "finetune" and told["id"] == job.id
    with pytest.raises(RequestError, match="a training runs already") as caught:
        room.learner.submit({})
    assert caught.value.status == 429
    room.learner.submit({}, enqueue=True)
    assert len(room.learner.status(everything=True)) == 2
    assert room.learner.stop().state == "STOPPED"
    with pytest.raises(RequestError, match="no training runs"):
        room.learner.status(only_running=True)


def test_a_training_that_was_stopped_goes_on_with_the_options_that_it_had(room):
    room.accept("a")
    with pytest.raises(RequestError, match="no training was stopped"):
        room.open().submit({"resume": True})
    job = room.learner.submit({"steps": 9})
    room.learner.stop()
    resumed = room.learner.submit({"resume": True, "steps": 3})
    assert (resumed.id, resumed.state, resumed.options["steps"]) == (job.id, "SUBMITTED", 9)


def test_what_a_job_needs_is_written_once_and_names_no_value_of_a_request_but_checked_options(room):
    room.accept("a", "b")
    job = room.open().submit({})
    room.learner._prepare(job)
    request = read_json(job.folder / "request.json")
    assert request["sides"] == {"a": "training", "b": "validation"} and request["options"] == job.options
    assert [label["names"] for label in request["accepted"]] == [{"liver": 1}] * 2
    room.accept("c")
    room.learner._prepare(job)
    assert read_json(job.folder / "request.json") == request


def test_one_server_of_a_folder_trains(room, weights):
    room.accept("a")
    room.open()
    other = Learner(room.settings, lambda: room.store)
    other.start(busy=lambda: False)
    for refused in (lambda: other.submit({}), other.stop):
        with pytest.raises(RequestError, match="another server trains these studies") as caught:
            refused()
        assert caught.value.status == 409
    other.close()


def test_a_server_beside_the_one_that_trains_follows_it_and_trains_after_it(room, monkeypatch):
    monkeypatch.setattr(module, "_FOLLOW", 0.01)
    room.accept("a")
    learner, trains = room.open(), threading.Event()
    other = Learner(room.settings, lambda: room.store)
    other._runner.start = trains.set
    other.start(busy=lambda: False)
    room.do(learner.submit({}))
    until(lambda: other.version == 1)
    assert not trains.is_set()
    room.close()
    assert trains.wait(PATIENCE) and other.submit({}).state == "SUBMITTED"
    other.close()


def test_a_training_that_goes_on_is_judged_against_what_is_served_now(room):
    room.accept("a", "b")
    learner = room.open()
    job = learner.submit({})
    learner._prepare(job)
    learner.stop()
    before = job.folder / "before.json"
    before.write_text("[]")
    first = read_json(job.folder / "request.json")
    room.do(learner.submit({}))
    learner._prepare(learner.submit({"resume": True}))
    request = read_json(job.folder / "request.json")
    assert request == {**first, "active": str(learner.versions.active().checkpoint)} and not before.is_file()


def test_a_training_that_another_network_began_begins_anew(room, caplog):
    room.accept("a")
    job = room.open().submit({})
    room.learner._prepare(job)
    (job.folder / "before.json").write_text("[]")
    (job.folder / "training").mkdir()
    room.close()
    room.accept("b")
    changed = {**vars(room.settings), "checkpoint": str(room.weights["trained"])}
    room.settings = LearningSettings(**changed)
    room.open()._prepare(room.learner.jobs.get(job.id))
    request = read_json(job.folder / "request.json")
    assert request["base"] == str(room.weights["trained"]) and set(request["sides"]) == {"a", "b"}
    assert not (job.folder / "before.json").exists() and not (job.folder / "training").exists()
    assert "was begun with another network, and begins anew" in caplog.text


def test_a_version_that_is_chosen_while_another_one_is_loaded_is_served_next(room, monkeypatch):
    room.accept("a")
    learner = room.open()
    real, chosen = learner._load, []

    def load(checkpoint):
        if not chosen:  # another server goes back meanwhile
            chosen.append(0)
            Versions(learner.versions.folder, learner.base).activate(0)
        return real(checkpoint)

    first = identity(learner)
    monkeypatch.setattr(learner, "_load", load)
    room.do(learner.submit({}))
    learner._idle()
    assert (learner.version, identity(learner)) == (0, first)


# ---- what comes of it ------------------------------------------------------------------------------------------------


def test_a_good_network_is_published_and_served(room, weights):
    room.accept("a")
    learner = room.open(store := PreparedCache())
    before = identity(learner)
    assert learner.segmenter.predictor.store is store
    job = room.do(learner.submit({}))
    assert (job.version, learner.version) == (1, 1)
    assert identity(learner) != before and room.served == [learner.segmenter]
    assert learner.segmenter.predictor.store is store
    assert not (job.folder / "data").exists() and not (job.folder / "request.json").exists()


def test_a_bad_network_is_refused_and_the_one_from_before_stays(room):
    room.accept("a")
    learner = room.open()
    before = identity(learner)
    job = room.do(learner.submit({}), accepted=False, reasons=["DSC of aorta fell"])
    assert (job.version, learner.version, room.served) == (None, 0, [])
    assert identity(learner) == before and len(learner.versions.all()) == 1
    stats = FinetuneTask(learner).stats()
    assert stats["accepted"] is False and stats["reasons"] == ["DSC of aorta fell"]


def test_the_next_server_starts_with_the_version_that_was_served_last(room):
    room.accept("a")
    learner = room.open()
    room.do(learner.submit({}))
    served = identity(learner)
    room.close()
    assert identity(room.open()) == served and room.learner.version == 1


def test_killed_between_publishing_and_noting_it_a_job_publishes_once(room):
    room.accept("a")
    learner = room.open()
    job = learner.submit({})
    room.do(job)
    room.close()
    shutil.copyfile(room.weights["trained"], job.folder / "candidate.safetensors")
    assert room.open()._finish(job).version == 1
    assert [version.number for version in room.learner.versions.all()] == [0, 1]


def test_killed_at_any_stage_of_publishing_the_next_server_has_one_of_both_whole_and_ends_with_the_new_one(
    room, weights, monkeypatch
):
    load, loaded = Learner._load, {}

    def load_once(learner, checkpoint):
        """Each network once: what a server serves is told by the bytes of the file."""
        content = sha256_of(checkpoint)
        if content not in loaded:
            loaded[content] = load(learner, checkpoint)
        return loaded[content]

    monkeypatch.setattr(Learner, "_load", load_once)
    room.accept("a")
    job = room.open().submit({})
    base = identity(room.learner)
    room.finished(job)
    room.close()

    def copy(name: str) -> Room:
        return Room(shutil.copytree(room.folder, room.folder.parent / name), weights)

    def finish(here: Room) -> object:
        return here.learner._finish(here.learner.jobs.get(job.id))

    whole = copy("whole")
    whole.open()
    with fault_at(0, disk_full) as called:
        finish(whole)
    trained, served = identity(whole.learner), []
    whole.close()
    assert len(called) > 10 and trained != base
    for stage in range(1, len(called) + 1):
        here = copy(str(stage))
        here.open()
        assert ended_at(stage, lambda here=here: finish(here)), stage
        here.close()
        learner = here.open()
        served.append(learner.version)
        assert identity(learner) == (trained if learner.version else base), stage
        assert finish(here).version == learner.version > 0 and identity(learner) == trained, stage
        assert len(learner.versions.all()) == 2 and len(list(learner.versions.folder.glob("*.safetensors"))) == 1, stage
        assert not list(here.learner.jobs.folder.rglob("*.part")), stage
        here.close()
    assert set(served) == {0, 1} and served == sorted(served)


def test_one_goes_back_and_the_first_network_answers_again(room):
    room.accept("a")
    learner = room.open()
    first = identity(learner)
    room.do(learner.submit({}))
    learner.activate(0)
    assert (learner.version, identity(learner)) == (0, first)
    assert len(room.served) == 2


def test_a_version_that_cannot_be_loaded_leaves_the_network_that_the_server_was_started_with(room, caplog):
    room.accept("a")
    learner = room.open()
    broken = room.studies.parent / "broken.safetensors"
    broken.write_bytes(b"no weights")
    learner.versions.publish(broken, {"job": "broken"})
    room.close()
    assert room.open().version == 0
    assert "Version 1 cannot be served, version 0 is" in caplog.text


def test_another_server_follows_what_the_first_one_publishes(room):
    room.accept("a")
    learner = room.open()
    other = Learner(room.settings, lambda: room.store)
    room.do(learner.submit({}))
    other._idle()
    assert (other.version, identity(other)) == (1, identity(learner))


# ---- by itself -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("studies", "again"),
    [
        ("http://pacs/dicom-web", "http://pacs/dicom-web/"),
        ("/studies/a", "/studies/a/"),
        ("/studies/a", "/studies/b/../a"),
    ],
)
def test_the_same_studies_learn_in_one_folder_however_they_are_spelt(studies, again):
    assert LearningSettings.of({}, studies).folder == LearningSettings.of({}, again).folder


def test_it_trains_by_itself_after_the_first_label_the_fifth_and_each_fifth_from_there(room):
    learner, trained = room.open(), []
    for count in range(1, 12):
        room.accept(f"image-{count}")
        job = learner.learn_if_due()
        if job is not None:
            assert (job.kind, job.options["minutes"], job.options["tuning"]) == ("background", 2.0, "lora_only")
            trained.append(count)
            job.changed(state="DONE")
    assert trained == [1, 5, 10]


def test_of_many_labels_it_trains_only_when_asked(room, monkeypatch):
    learner = room.open()
    monkeypatch.setattr(module, "count_accepted", lambda store: 51)
    assert learner.learn_if_due() is None
    assert learner.submit({}).labels == 51


def test_a_label_is_learnt_from_when_nothing_was_saved_for_a_while(room, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    learner = room.open()
    room.accept("a")
    learner.accepted()
    learner._idle()
    assert not learner.jobs.all()
    now[0] += module.SETTLED + 1
    learner._idle()
    assert len(learner.jobs.all()) == 1


def test_labels_that_cannot_be_counted_now_are_counted_a_minute_later(room, monkeypatch, caplog):
    now, real = [1000.0], module.count_accepted
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    learner = room.open()
    room.accept("a")

    def away(store):
        raise RequestError("the DICOMweb server gives no answer", status=502)

    for count, jobs in ((away, 0), (real, 1)):
        monkeypatch.setattr(module, "count_accepted", count)
        now[0] += module.SETTLED + 1
        learner._idle()
        assert len(learner.jobs.all()) == jobs
    assert "how many labels are accepted: the DICOMweb server gives no answer" in caplog.text


def test_it_can_be_switched_off(room):
    off = LearningSettings(**{**vars(room.settings), "automatic": False})
    learner = Learner(off, lambda: room.store)
    room.accept("a")
    learner._saved_at = -1e9
    learner._idle()
    assert not learner.jobs.all()


# ---- settings --------------------------------------------------------------------------------------------------------


def test_each_folder_of_studies_learns_for_itself(tmp_path):
    first, second = (LearningSettings.of({}, name) for name in ("/studies/a", "/studies/b"))
    assert first.folder != second.folder
    assert LearningSettings.of({"learning": "off"}, "/studies/a") is None
    chosen = LearningSettings.of({"learning": str(tmp_path / "x"), "learn_while_annotating": "off"}, "/studies/a")
    assert chosen.folder == tmp_path / "x" and not chosen.automatic


@pytest.mark.parametrize(
    ("studies", "option", "automatic"),
    [
        ("/studies/a", {}, True),
        ("/studies/a", {"learn_while_annotating": "off"}, False),
        ("http://127.0.0.1:8042/dicom-web", {}, False),
        ("https://pacs/dicom-web", {}, False),
        ("http://127.0.0.1:8042/dicom-web", {"learn_while_annotating": "on"}, True),
    ],
)
def test_it_trains_by_itself_on_a_folder_and_on_a_pacs_when_asked(tmp_path, studies, option, automatic):
    assert LearningSettings.of({"learning": str(tmp_path), **option}, studies).automatic == automatic


@pytest.mark.parametrize(
    ("conf", "sentence"),
    [
        ({"learn_while_annotating": "sometimes"}, "learn_while_annotating must be on or off"),
        ({"learning": "here"}, "learning must be the full path of a folder"),
        ({"learning": "/proc/nowhere"}, "learning: nothing can be written in /proc/nowhere"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(conf, sentence):
    with pytest.raises(RequestError, match=sentence):
        LearningSettings.of(conf, "/studies")


def test_clients_are_shown_the_options_and_the_last_scores(room):
    room.accept("a")
    task = FinetuneTask(room.open())
    info = task.info()
    assert info["config"]["tuning"][0] == "lora_only" and info["options"]["steps"]["high"] == 100_000
    assert info["version"] == 0
    assert task.stats() == {}
    job = room.learner.submit({}).changed(state="RUNNING")
    (job.folder / "training").mkdir()
    (job.folder / "training" / "progress.json").write_text('{"share": 0.25}')
    assert task.stats() == {"epoch": 25, "total_epochs": 100}
    room.do(job)
    stats = task.stats()
    assert (stats["best_metric"], stats["dsc"], stats["version"], stats["epoch"]) == (0.8, SCORES, 1, 100)
    assert stats["total_time"].endswith(" s")
