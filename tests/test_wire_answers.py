"""Options of a request and measures in its reply."""

from __future__ import annotations

import numpy as np
import pytest
from session_room import LEFT, SHAPE, open_session, organs, point

from bundle.errors import PromptError, SessionError
from bundle.interactive.answer_options import NO_OPTIONS, AnswerOptions
from monailabel_app.errors import RequestError
from monailabel_app.tasks.interactive import _commanded
from monailabel_app.wire.answers import NO_LENGTHS, read_options, statistics
from monailabel_app.wire.commands import read_commands, session_params


def read(params: dict) -> AnswerOptions:
    return read_options(params, SHAPE, axis=2)


@pytest.mark.parametrize("params", [{}, NO_LENGTHS, {"limits": None, "islands_mm": "", "holes_mm": "0"}])
def test_a_request_without_options_asks_for_none(params):
    assert read(params) == NO_OPTIONS


def test_options_come_as_numbers_or_as_the_text_of_an_option_table():
    expected = AnswerOptions((2, 9), islands_mm=3.0, holes_mm=2.5, smoothing_mm=1.0)
    assert read({"limits": [2, 9], "islands_mm": 3, "holes_mm": 2.5, "smoothing_mm": 1.0}) == expected
    assert read({"limits": "[2, 9]", "islands_mm": "3", "holes_mm": "2.5", "smoothing_mm": "1.0"}) == expected


@pytest.mark.parametrize(
    "params",
    [
        {"limits": [1]},
        {"limits": "2 to 9"},
        {"limits": [9, 2]},
        {"limits": [0, 12]},
        {"limits": [0.5, 3]},
        {"limits": {"first": 1}},
        {"holes_mm": [1, 2]},
        {"holes_mm": -1},
        {"smoothing_mm": "a lot"},
        {"islands_mm": 1e9},
    ],
)
def test_options_that_cannot_be_used_are_refused(params):
    with pytest.raises((RequestError, PromptError), match=next(iter(params))):
        read(params)


def test_slices_are_confirmed_and_filled_by_commands():
    session = open_session()
    mask = organs()
    mask[:, :, 5] = False
    session.set_mask(mask, "left")
    read_commands({"confirm": {"left": [4, 6]}}).run(session, axis=2)
    assert session_params(session, axis=2)["objects"][0]["confirmed"] == [4, 6]
    read_commands({"fill_between": "left"}).run(session, axis=2)
    assert np.array_equal(session.mask("left"), organs())
    read_commands({"unconfirm": '{"left": 4}'}).run(session, axis=2)
    assert session_params(session, axis=2)["objects"][0]["confirmed"] == [6]
    with pytest.raises(SessionError, match="1 confirmed"):
        read_commands({"fill_between": ["left"]}).run(session, axis=2)


def test_what_a_command_warns_of_is_told_in_the_reply():
    session = open_session()
    mask = np.zeros_like(organs())
    mask[2:5, 4:14, 3] = mask[14:17, 4:14, 8] = True
    session.set_mask(mask, "left")
    asked = read_commands({"confirm": {"left": [3, 8]}, "fill_between": "left"})
    _, params = _commanded(session, asked, 2, False)
    assert ["nothing is filled on slices [4, 5, 6, 7]" in said for said in params["warnings"]["left"]] == [True]
    _, params = _commanded(session, read_commands({"session": True}), 2, False)
    assert "left" not in params["warnings"]


@pytest.mark.parametrize("value", [["left"], {"left": [1.5]}, {"left": "first"}, {"left": [True]}, "left", 3])
def test_slices_that_are_none_are_refused(value):
    with pytest.raises(RequestError, match="confirm"):
        read_commands({"confirm": value})


def test_no_slices_are_no_command():
    assert read_commands({"confirm": {}, "unconfirm": None, "fill_between": []}) is None


def test_a_reply_measures_objects_as_they_are_shown():
    session = open_session()
    session.add(point(LEFT), "left")
    found = statistics(session, ["left"], axis=2)["left"]
    assert found["ml"] == round(7 * 10 * 8 * 12 / 1000, 3) and found["mean"] == 100 and found["predicted_iou"] == 0.9
    assert (found["slice"], found["long_axis_mm"]) == (
        2,
        23.32,
    )  # 7 x 10 pixels of 2 mm
