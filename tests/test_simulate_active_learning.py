"""The script that plays active learning: curves that go on where they ended, and the round at a server."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from app_room import client_of, client_over, listening
from monailabel.config import settings
from monailabel.interfaces.utils.app import apps
from session_room import SHAPE, organs
from test_automatic import NAMES, BrightSegmenter
from test_scoring import AFFINE, ScoringApp, an_image

from bundle.active import pixel_head
from bundle.active.simulation import Measured
from bundle.data.volume import Volume, write_label
from bundle.errors import OptionError, RunStateError
from monailabel_app.demo import active_round
from monailabel_app.demo.active_round import Annotator, Case, box_dsc, cases_of
from monailabel_app.tasks.interactive import SamTask
from monailabel_app.tasks.open_images import ImageSessions
from scripts import simulate_active_learning as script


class Quick(pixel_head.PixelLearner):
    """A learner that learns nothing and is better the more labels it has."""

    def train(self, labelled):
        self.count = len(labelled)

    def scores(self, name):
        return None

    def evaluate(self):
        return self.count / 100


@pytest.fixture
def played(tmp_path, monkeypatch):
    """Runs the command without a network, over a pool of names."""
    made = []

    def learner(*arguments, seed):
        made.append(seed)
        return Quick(*arguments, seed=seed)

    monkeypatch.setattr(script, "PixelLearner", learner)
    monkeypatch.setattr(script, "slices_of", lambda _: ({f"s{n}": None for n in range(20)}, [], ["organ"]))

    def run(*arguments):
        made.clear()
        code = script.main(
            ["curves", "--start", "2", "--per-round", "2", "--rounds", "2", "--output", str(tmp_path), *arguments]
        )
        return code, list(made)

    return run


def test_curves_end_in_a_result_and_a_picture(played, tmp_path):
    assert played("--seeds", "2", "--strategies", "random", "foreground_random")[0] == 0
    result = json.loads((tmp_path / "active_learning.json").read_text())
    assert [point["labels"] for point in result["curves"]["random"]] == [2, 4, 6]
    assert {gain["strategy"]: gain["mean"] for gain in result["gains"]} == {"random": 0, "foreground_random": 0}
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_what_was_played_is_not_played_again(played):
    played("--seeds", "1", "--strategies", "random", "foreground_random")
    assert played("--seeds", "2", "--strategies", "random", "foreground_random")[1] == [1, 1]
    assert played("--seeds", "2", "--strategies", "random", "foreground_random")[1] == []


def test_a_folder_of_another_run_is_not_gone_on_with(played):
    played("--seeds", "1", "--strategies", "foreground_random")
    with pytest.raises(RunStateError, match="patients"):
        played("--seeds", "1", "--strategies", "foreground_random", "--patients", "3")


def test_rows_come_back_as_they_were_written(tmp_path):
    row = Measured("random", 3, 8, 0.5)
    (tmp_path / "rows.json").write_text(json.dumps([row.to_json()]))
    assert script.read_rows(tmp_path / "rows.json") == [row] and script.read_rows(tmp_path / "none") == []


# ---- the round at a server ------------------------------------------------------------------------------------------


class RoundApp(ScoringApp):
    """The quiet app with a task to click with."""

    def init_infers(self):
        return {"sam_2d": SamTask(ImageSessions(BrightSegmenter()), dimension=2, names=NAMES)}


def test_an_annotator_at_a_server_labels_what_it_hands_out(tmp_path):
    studies = tmp_path / "studies"
    cases = {}
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:9, 4:14, 2:10] = 1
    truth = write_label(labels, Volume(np.zeros(SHAPE, np.int16), AFFINE), tmp_path / "truth.nii.gz")
    for name in ("one", "two"):
        cases[name] = Case(name, an_image(studies, name), truth, {"left": 1})
    with client_of(studies, tmp_path / "sessions") as client:
        app = RoundApp(studies, tmp_path / "sessions")
        apps[f"{settings.MONAI_LABEL_APP_DIR}{settings.MONAI_LABEL_STUDIES}"] = app
        with listening(client.app) as url:
            annotator = Annotator(url, tmp_path / "client")
            said = [annotator.round("uncertainty", cases, None) for _ in range(2)]
            with pytest.raises(OptionError, match="no image left"):
                annotator.round("uncertainty", cases, None)
            answers = annotator.answers([*cases.values()])
            assert annotator._is_training() is False  # nothing trains here: it is not waited for
        app.scorer.job.stop()
    assert said[1]["reason"].startswith("greatest doubt of")  # the server has scored while the first label was drawn
    assert {one["image"] for one in said} == {"one", "two"} == set(app.datastore().get_labeled_images())
    assert app.datastore().get_label_info("one", "final")["label_info"] == [{"name": "left", "idx": 1}]
    assert box_dsc(answers) > 0.95 and organs().any()
    assert [(one["patient"], one["prompt"]) for one in answers] == [
        (name, prompt) for name in ("one", "two") for prompt in ("box", "clicks")
    ]
    assert all(one["structure"] == "left" and one["scores"][0]["dsc"] > 0.95 for one in answers)


def test_a_round_leaves_its_report_and_no_weights_of_the_server(tmp_path, monkeypatch, capsys):
    data, asked = tmp_path / "data", {}
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:9, 4:14, 2:10] = 1
    lists = {"training": ["one", "two"], "validation": ["three"]}
    for name in (*lists["training"], *lists["validation"]):
        an_image(data, name)
        write_label(labels, Volume(np.zeros(SHAPE, np.int16), AFFINE), data / f"{name}-label.nii.gz")
    told = {
        split: [{"image": f"{n}.nii.gz", "label": f"{n}-label.nii.gz", "patient": n, "labels": [1]} for n in names]
        for split, names in lists.items()
    }
    (data / "datalist.json").write_text(json.dumps({"labels": {"0": "background", "1": "left"}, **told}))

    @contextlib.contextmanager
    def running(studies, *, log, conf, settings, timeout):
        asked.update(conf)
        app = RoundApp(studies, tmp_path / "sessions")
        with client_over(app) as client, listening(client.app) as url:
            yield url
        app.scorer.job.stop()

    monkeypatch.setattr(active_round, "running_server", running)
    command = ["server", "--strategy", "first", "--rounds", "2", "--data", str(data), "--output", str(tmp_path / "run")]
    assert script.main(command) == 0
    report = json.loads((tmp_path / "run" / "server.json").read_text())
    assert [one["image"] for one in report["rounds"]] == ["one", "two"] and report["trained"] is False
    assert report["dsc_before"] > 0.95 and "dsc" not in report["rounds"][0]
    assert [row["network"] for row in report["rows"]] == ["before"] and report["rows"][0]["objects"] == 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["server.json"]
    assert Path(asked["learning"]).is_relative_to(tmp_path / "run") and asked["labels"] == "left"
    assert asked["learn_while_annotating"] == "off"
    assert json.loads(capsys.readouterr().out) == report


def test_a_folder_without_cases_is_refused(tmp_path):
    (tmp_path / "datalist.json").write_text(
        json.dumps(
            {"labels": {"0": "background", "1": "left"}, "training": [{"image": "a.nii.gz", "label": "b.nii.gz"}]}
        )
    )
    an_image(tmp_path, "a"), an_image(tmp_path, "b")
    assert [case.name for case in cases_of(tmp_path, "training", 5)] == ["a"]
    with pytest.raises(OptionError, match="validation"):
        cases_of(tmp_path, "validation", 5)
