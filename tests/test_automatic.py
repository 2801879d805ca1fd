"""The infer tasks that need no click, and the one of several structures at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes import BrightRegionSam, bright_contract
from session_room import SHAPE, organs

from bundle.active.places import mean_places, places_of
from bundle.data.volume import Volume, read_label, write_volume
from bundle.engines.cache import PreparedCache
from bundle.errors import PromptError
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_model import SlicePredictor
from monailabel_app.errors import RequestError
from monailabel_app.tasks.automatic import EVERYTHING, FIND, KNOWN, AutomaticTask, ClassTask, MultiTask, _in_values
from monailabel_app.tasks.interactive import SamTask
from monailabel_app.tasks.offered import MODELS, offered_tasks, read_models
from monailabel_app.tasks.open_images import ImageSessions

NAMES = ("spleen", "left", "right")  # "left" has the value 2
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


class BrightSegmenter:
    """Opens sessions with the network that needs no weights."""

    def __init__(self):
        self.predictor = SlicePredictor(BrightRegionSam(), bright_contract(32), store=PreparedCache())

    def open(self, volume, *, journal=None):
        return InteractiveSession(volume, self.predictor, journal=journal)


class Accepted:
    """Accepted labels that show the left organ, or what a test says."""

    def __init__(self, value=1):
        labels = np.zeros(SHAPE, np.uint8)
        labels[2:9, 4:14, 2:10] = value
        image = Volume((organs() * 100.0).astype(np.float32), AFFINE)
        self.known = mean_places([places_of(image, labels, {1: "left"})])

    def places(self, _datastore):
        return self.known


@pytest.fixture
def image(tmp_path) -> Path:
    return write_volume(Volume((organs() * 100.0).astype(np.float32), AFFINE, "other"), tmp_path / "ct.nii.gz")


@pytest.fixture
def sessions():
    return ImageSessions(BrightSegmenter())


def task_of(kind, sessions, accepted=None):
    return kind(sessions, names=NAMES, accepted=accepted or Accepted(), datastore=lambda: None)


def answered(task, image, **params):
    file, reply = task({"image": str(image), "result_extension": ".nrrd", **params})
    labels = read_label(file).array
    Path(file).unlink()
    return labels, reply


def test_known_structures_are_found_where_accepted_labels_have_them(sessions, image):
    labels, reply = answered(task_of(AutomaticTask, sessions), image)
    assert reply["label_names"] == {"left": 2}
    left = organs()
    left[9:] = False
    overlap = 2 * ((labels == 2) & left).sum() / ((labels == 2).sum() + left.sum())
    assert overlap > 0.9 and set(np.unique(labels)) == {0, 2}
    assert reply["session"]["undo"] == 1 and reply["session"]["objects"][0]["name"] == "left"


@pytest.fixture
def image_with_a_hole(tmp_path) -> Path:
    bright = organs()
    bright[5, 9, 5] = False
    return write_volume(Volume((bright * 100.0).astype(np.float32), AFFINE, "other"), tmp_path / "hole.nii.gz")


@pytest.mark.parametrize(
    ("kind", "params"), [(AutomaticTask, {}), (ClassTask, {"label_prompt": [2]}), (AutomaticTask, {"find": EVERYTHING})]
)
def test_what_is_found_is_bounded_cleaned_and_measured_as_a_click_is(sessions, image_with_a_hole, kind, params):
    labels, _ = answered(task_of(kind, sessions), image_with_a_hole, slice=5, **params)
    assert labels[4, 9, 5] and not labels[5, 9, 5]
    wanted = {"holes_mm": 20, "limits": [3, 6], "statistics": True}
    labels, reply = answered(task_of(kind, sessions), image_with_a_hole, slice=5, **params, **wanted)
    assert labels[5, 9, 5] == labels[4, 9, 5] and set(reply["statistics"]) == set(reply["label_names"]) != set()
    assert set(np.nonzero(labels)[2].tolist()) == ({5} if params.get("find") else {3, 4, 5, 6})


def test_a_structure_that_is_expected_beyond_the_limits_is_not_looked_for(sessions, image):
    labels, reply = answered(task_of(AutomaticTask, sessions), image, limits=[11, 11])
    assert not labels.any() and "nothing was found" in reply["warnings"]["accepted labels"][0]
    with pytest.raises(PromptError, match="limits must be"):
        answered(task_of(AutomaticTask, sessions), image, limits=[6, 99])


def test_what_was_found_before_goes_with_reset_state_but_not_what_somebody_worked_on(sessions, image):
    task = task_of(AutomaticTask, sessions)
    answered(task, image, find=EVERYTHING, slice=5)
    answered(SamTask(sessions, dimension=2), image, label="object 1", foreground=[[5, 9, 5]])
    _, reply = answered(task, image, reset_state=True)
    assert {one["name"] for one in reply["session"]["objects"]} == {"object 1", "left"}
    _, reply = answered(task, image, find=EVERYTHING, slice=4, reset_state=True)  # "left" goes, so it is found
    assert list(reply["label_names"]) == ["object 1", "object 2", "object 3"]


def test_what_was_found_is_taken_back_by_undo_and_refined_by_a_click(sessions, image):
    task = task_of(AutomaticTask, sessions)
    answered(task, image)
    clicked, _ = answered(SamTask(sessions, dimension=3), image, label="left", foreground=[[5, 9, 5]])
    assert clicked.any()
    labels, reply = answered(task, image, undo=True)
    assert reply["session"]["redo"] == 1 and labels.any()
    labels, _ = answered(task, image, undo=True)
    assert not labels.any()


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_background_click_alone_takes_something_off_what_was_found(sessions, image, dimension):
    task, click = SamTask(sessions, dimension=dimension), {"foreground": [], "background": [[5, 9, 5]]}
    before, _ = answered(task_of(AutomaticTask, sessions), image)
    labels, _ = answered(task, image, label="left", **click)
    assert before[5, 9, 5] and labels[5, 9, 4] == (dimension == 3) and not labels[5, 9, 5]
    with pytest.raises(PromptError, match="only background points for 'right'"):
        answered(task, image, label="right", **click)


def test_what_a_user_works_on_stays_and_the_reply_says_so(sessions, image):
    answered(SamTask(sessions, dimension=2), image, label="left", foreground=[[5, 9, 5]])
    _, reply = answered(task_of(AutomaticTask, sessions), image)
    assert "somebody has worked on it" in reply["warnings"]["accepted labels"][0]


def test_without_an_accepted_label_nothing_is_found_and_the_reply_says_why(sessions, image):
    accepted = Accepted()
    accepted.known = {}
    labels, reply = answered(task_of(AutomaticTask, sessions, accepted), image)
    assert not labels.any() and reply["label_names"] == {}
    assert "no accepted label" in reply["warnings"]["accepted labels"][0]


def test_everything_on_a_slice_is_found_once(sessions, image):
    labels, reply = answered(task_of(AutomaticTask, sessions), image, find=EVERYTHING, slice=5)
    assert reply["label_names"] == {"object 1": 4, "object 2": 5}
    assert ((labels[:, :, 5] > 0) == organs()[:, :, 5]).mean() > 0.97 and not labels[:, :, 6:].any()


def test_a_second_slice_takes_nothing_of_the_first_away_and_what_is_locked_is_not_found_again(sessions, image):
    task = task_of(AutomaticTask, sessions)
    answered(task, image, find=EVERYTHING, slice=3)
    answered(task, image, lock="object 1")
    labels, reply = answered(task, image, find=EVERYTHING, slice=5)
    assert list(reply["label_names"]) == ["object 1", "object 2", "object 3", "object 4"]
    assert set(np.nonzero(labels)[2].tolist()) == {3, 5}
    _, reply = answered(task, image, find=EVERYTHING, slice=0)
    assert "nothing was found on this slice" in reply["warnings"]["everything mode"][0]


@pytest.mark.parametrize("params", [{"find": "more"}, {"find": 5}, {"find": EVERYTHING, "slice": 99}])
def test_what_cannot_be_found_is_refused_with_what_can(sessions, image, params):
    with pytest.raises(RequestError, match="must be"):
        answered(task_of(AutomaticTask, sessions), image, **params)


def test_options_are_shown_and_a_list_that_comes_back_means_its_first(sessions, image):
    task = task_of(AutomaticTask, sessions)
    config = task.info()["config"]
    assert config[FIND] == [KNOWN, EVERYTHING] and config["undo"] is False and config["modality"][0] == ""
    _, reply = answered(task, image, **config)
    assert reply["label_names"] == {"left": 2}


def test_a_structure_is_segmented_by_its_number(sessions, image):
    labels, reply = answered(task_of(ClassTask, sessions), image, label_prompt=[2])
    assert reply["label_names"] == {"left": 2} and (labels == 2).any()


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({}, "which structures"),
        ({"label_prompt": [1]}, "no accepted label shows 'spleen'"),
        ({"label_prompt": [7]}, "1 to 3"),
        ({"label_prompt": [1.5]}, "1 to 3"),
        ({"label_prompt": ["liver"]}, "list of numbers"),
        ({"label_prompt": [1, 2], "points": [[5, 9, 5]], "point_labels": [1]}, "one structure"),
    ],
)
def test_a_class_prompt_that_cannot_be_answered_says_why(sessions, image, params, sentence):
    with pytest.raises(RequestError, match=sentence):
        answered(task_of(ClassTask, sessions), image, **params)


def test_a_point_of_a_class_is_a_click_on_it(sessions, image):
    labels, reply = answered(
        task_of(ClassTask, sessions), image, points=[[13, 9, 5]], point_labels=[1], label_prompt=[3]
    )
    assert reply["label_names"] == {"right": 3} and labels[13, 9, 5] == 3


def test_points_of_several_structures_have_the_values_of_their_labels(sessions, image):
    labels, reply = answered(MultiTask(sessions, names=NAMES), image, left=[[5, 9, 5]], right=[[13, 9, 5]])
    assert reply["label_names"] == {"left": 2, "right": 3}
    assert (labels[5, 9, 5], labels[13, 9, 5]) == (2, 3)


def test_a_request_of_several_objects_is_one_step_and_one_that_is_refused_changes_nothing(sessions, image):
    task = MultiTask(sessions, names=NAMES)
    with pytest.raises(PromptError):
        answered(task, image, left=[[5, 9, 5]], right=[[13, 9, 8]], limits=[4, 6])  # the second lies outside
    session = sessions.open(image).session()
    assert session.objects == () and session.undo_depth == 0
    _, reply = answered(task, image, left=[[5, 9, 5]], right=[[13, 9, 5]])
    assert (reply["session"]["undo"], reply["label_names"]) == (1, {"left": 2, "right": 3})
    labels, reply = answered(task, image, undo=True)
    assert not labels.any() and reply["session"]["redo"] == 1


def test_an_object_that_is_no_label_has_a_value_of_its_own(sessions, image):
    labels, reply = answered(MultiTask(sessions, names=NAMES), image, label="cyst", foreground=[[5, 9, 5]])
    assert reply["label_names"] == {"cyst": 4} and labels[5, 9, 5] == 4


def test_an_object_of_a_value_as_an_atlas_has_it_takes_no_memory_by_value():
    session = BrightSegmenter().open(Volume((organs() * 100.0).astype(np.float32), AFFINE))
    session.new_object("nucleus", label=2_000_000_000)
    session.set_mask(organs(), "nucleus")
    labels, names = _in_values(session, {"spleen": 1, "left": 2})
    assert names == {"nucleus": 3} and np.array_equal(labels == 3, organs())


def test_the_types_are_those_that_clients_list(sessions):
    kinds = {AutomaticTask: "segmentation", ClassTask: "vista3d"}
    for kind, name in kinds.items():
        info = task_of(kind, sessions).info()
        assert (info["type"], info["labels"]) == (name, {"spleen": 1, "left": 2, "right": 3})
    assert MultiTask(sessions, names=NAMES).info()["type"] == "deepedit"


def test_models_are_offered_by_name(sessions):
    assert read_models(None) == MODELS and read_models(" sam_3d, sam_2d ,sam_3d") == ("sam_3d", "sam_2d")
    tasks = offered_tasks(MODELS, sessions, names=NAMES, accepted=Accepted(), datastore=lambda: None)
    assert tuple(tasks) == MODELS and all(task.is_valid() for task in tasks.values())


@pytest.mark.parametrize("text", ["", " , ", "sam_2d,sam_4d"])
def test_a_model_that_is_none_is_refused_with_those_that_are(text):
    with pytest.raises(RequestError, match="sam_auto"):
        read_models(text)
