"""Strokes that were painted into a label map, as Slicer's scribbles panel sends them."""

from __future__ import annotations

import numpy as np
import pytest
from session_room import SHAPE, organs
from test_automatic import AFFINE, BrightSegmenter, answered

from bundle.data.volume import Volume, write_label, write_volume
from monailabel_app.errors import RequestError
from monailabel_app.tasks.open_images import ImageSessions
from monailabel_app.tasks.scribbles import ScribblesTask
from monailabel_app.wire.painted import read_painted, stroke_points

INFO = [
    {"name": "left", "id": 1},
    {"name": "background_scribbles", "id": 2},
    {"name": "foreground_scribbles", "id": 3},
]


def test_the_points_of_a_stroke_lie_under_it_from_end_to_end():
    mask = np.zeros((20, 20, 5), bool)
    mask[3:15, 6:9, 2] = True
    points = stroke_points(mask, axis=2)
    assert len(points) == 3 and mask[tuple(points.T)].all()
    assert sorted(points[:, 0].tolist())[0] < 6 and sorted(points[:, 0].tolist())[-1] > 11


def test_each_stroke_on_each_slice_counts():
    mask = np.zeros((20, 20, 5), bool)
    mask[3:15, 6, 2] = mask[3:15, 12, 2] = mask[3, 6, 3] = True
    assert len(stroke_points(mask, axis=2)) == 3 + 3 + 1
    assert stroke_points(np.zeros((4, 4, 4), bool), axis=2).shape == (0, 3)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({}, "label_info"),
        ({"label_info": 5}, "label_info"),
        ({"label_info": [{"name": "x"}]}, "label_info"),
        ({"label_info": INFO[:2]}, "paint on the object"),
        ({"label_info": INFO}, "paint on the object"),
    ],
)
def test_strokes_that_say_nothing_are_refused(params, sentence):
    with pytest.raises(RequestError, match=sentence):
        read_painted(params, np.zeros((4, 4, 4), np.uint8), axis=2)


def test_strokes_off_an_object_alone_are_read_too():
    painted = np.zeros((8, 8, 4), np.uint8)
    painted[2:5, 3, 1] = 2
    points = read_painted({"label_info": INFO}, painted, axis=2)
    assert len(points) == 3 and not any(point.positive for point in points)


@pytest.fixture
def image(tmp_path):
    return write_volume(Volume((organs() * 100.0).astype(np.float32), AFFINE, "other"), tmp_path / "ct.nii.gz")


def test_the_answer_to_strokes_is_bounded_cleaned_and_measured_as_wanted(tmp_path):
    bright = organs()
    bright[5, 9, 5] = False
    image = write_volume(Volume((bright * 100.0).astype(np.float32), AFFINE, "other"), tmp_path / "ct.nii.gz")
    painted = np.zeros(SHAPE, np.uint8)
    painted[4, 6:12, 5] = 3
    file = write_label(painted, Volume(np.zeros(SHAPE, np.float32), AFFINE), tmp_path / "painted.nii.gz")
    wanted = {"holes_mm": 20, "limits": [3, 6], "statistics": True}
    labels, reply = answered(
        ScribblesTask(ImageSessions(BrightSegmenter())), image, painted=str(file), label_info=INFO, **wanted
    )
    assert labels[5, 9, 5] == 1 and set(np.nonzero(labels)[2].tolist()) == {3, 4, 5, 6}
    assert set(reply["statistics"]) == {"object"}


def test_strokes_are_answered_as_the_selected_segment(tmp_path, image):
    painted = np.zeros(SHAPE, np.uint8)
    painted[2:9, 4:14, 2:4] = 1  # what the segment is so far
    painted[11:16, 9, 5] = 3
    painted[4:7, 9, 5] = 2
    file = write_label(painted, Volume(np.zeros(SHAPE, np.int16), AFFINE), tmp_path / "strokes.nii.gz")
    task = ScribblesTask(ImageSessions(BrightSegmenter()))
    labels, reply = answered(task, image, painted=str(file), label_info=INFO, selected_label_name="right", roi=[])
    assert reply["label_names"] == {"right": 1} and reply["used"] == {"right": {"point": 6}}
    assert labels[13, 9, 5] == 1 and labels[5, 9, 5] == 0
    assert task.info()["type"] == "scribbles"


def test_a_request_without_strokes_is_refused(image):
    with pytest.raises(RequestError, match="multipart field label"):
        answered(ScribblesTask(ImageSessions(BrightSegmenter())), image, label_info=INFO)
