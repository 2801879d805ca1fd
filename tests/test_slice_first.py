"""The slice in view first, then the volume: the requests of docs/protocol.md, and what it says of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from click_room import PATIENCE, Clicks, HeldSam, Opener, answered, clicking
from fakes import BrightCubes, BrightRegionSam
from test_cube_network import AFFINE, BESIDE, ORGAN

from bundle.data.volume import Volume
from bundle.interactive.segmenter import Segmenter

IMAGE = Volume((ORGAN | BESIDE).astype(np.float32) * 100, AFFINE, "CT")
_REQUEST = re.compile(r"^POST /infer/(\w+)\?image=ct\n(\{.*\})$", re.MULTILINE)
Requests = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def blocks(repository) -> list[Requests]:
    """The requests of each block of the text: a click, the next one, a 3D box."""
    text = (repository / "docs" / "protocol.md").read_text(encoding="utf-8")
    section = text.split("### The slice first, then the volume\n")[1].split("\n### ")[0]
    found = [
        [(model, json.loads(params)) for model, params in _REQUEST.findall(block)] for block in section.split("```")
    ]
    return [requests for requests in found if requests]


def fakes() -> Opener:
    """Following with a network of volumes beside it, as the default does, both without weights."""
    return Opener(BrightRegionSam(), BrightCubes())


def shipped() -> Segmenter:
    return Segmenter.from_family("default")


@pytest.fixture
def clicks(tmp_path) -> Iterator[Clicks]:
    with clicking(tmp_path, fakes(), IMAGE) as clicks:
        yield clicks


def shown(clicks: Clicks, **command: Any) -> tuple[dict[str, Any], np.ndarray]:
    """All of the session, after a command or as it is."""
    return answered(clicks.post("sam_3d", {"session": True, **command}))


def test_the_text_sends_pairs_for_a_click_the_next_one_and_a_box(blocks):
    assert [[model for model, _ in requests] for requests in blocks] == [["sam_2d", "sam_3d"]] * 3


@pytest.mark.parametrize(
    ("opened", "chosen"),
    [(fakes, slice(0, 2)), (fakes, slice(2, 3)), (shipped, slice(0, 1))],
    ids=["clicks", "a box", "a click before the shipped networks"],
)
def test_the_slice_is_answered_by_one_question_and_the_volume_as_without_it(blocks, tmp_path, opened, chosen):
    opener = opened()
    asked, predict = [], opener.predictor.predict
    opener.predictor.predict = lambda view, prompt: asked.append(prompt) or predict(view, prompt)
    with clicking(tmp_path / "alone", opener, IMAGE) as alone:
        without = [answered(alone.post(*second)) for _, second in blocks[chosen]]
    with clicking(tmp_path, opener, IMAGE) as clicks:
        for ((flat, first), (deep, second)), (expected, volume) in zip(blocks[chosen], without, strict=True):
            asked.clear()
            told, labels = answered(clicks.post(flat, first))
            assert len(asked) == 1 and told["slice"] == first["slice"]
            assert {*labels.nonzero()[2]} == {first["slice"]} == {int(k) for k in told["predicted_iou"]["liver"]}
            told, labels = answered(clicks.post(deep, second))
            assert len(asked) > 1 and len({*labels.nonzero()[2]}) > 3 and np.array_equal(labels, volume)
            for name in ("predicted_iou", "warnings", "used"):
                assert told[name] == expected[name]


def test_undo_takes_the_volume_back_and_then_the_slice_of_one_click_after_the_other(blocks, clicks):
    steps = [shown(clicks)]
    for model, params in [request for requests in blocks for request in requests]:
        answered(clicks.post(model, params))
        steps.append(shown(clicks))
    for turned, order in (("undo", steps[-2::-1]), ("redo", steps[1:])):
        for expected, labels in order:
            told, now = shown(clicks, **{turned: True})
            assert np.array_equal(now, labels)
            for name in ("label_names", "predicted_iou", "warnings"):
                assert told.get(name) == expected.get(name)
            assert told["session"]["objects"] == expected["session"]["objects"]  # with their prompts
    assert told["session"]["undo"] == 6


def test_neither_takes_the_prompts_of_the_other_away(blocks, clicks):
    placed = []
    for model, params in [request for requests in blocks[:2] for request in requests]:
        answered(clicks.post(model, params))
        (one,) = shown(clicks)[0]["session"]["objects"]
        placed.append([given["voxel"] for given in one["interactions"]])
    first, second = [24, 20, 15], [22, 18, 13]
    assert placed == [[first], [first], [first, second], [first, second]]


@pytest.mark.parametrize("who", [{}, {"client_id": "my-viewer"}], ids=["nobody", "a client"])
def test_a_3d_box_asks_the_slice_in_view(blocks, clicks, who):
    (flat, first), (_, second) = blocks[2]
    assert answered(clicks.post(flat, {**first, **who}))[0]["slice"] == second["slice"]
    if not who:  # else Slicer's millimetres are meant
        assert answered(clicks.post(flat, {**second, **who}))[0]["slice"] == second["slice"]


def test_a_click_off_the_object_on_a_slice_with_nothing_on_it_is_for_the_volume_alone(blocks, clicks):
    (flat, _), (deep, params) = blocks[0]
    answered(clicks.post(deep, params))
    before = shown(clicks)
    off = {**params, "background": [[20, 16, 13]], "slice": 13}
    refused = clicks.post(flat, off)
    assert refused.status_code == 400 and "only background points" in refused.json()["detail"]
    told, labels = shown(clicks)
    assert told == before[0] and np.array_equal(labels, before[1])
    assert not answered(clicks.post(deep, off))[1][20, 16, 13]


def test_a_volume_that_is_cancelled_leaves_the_slice_and_lets_the_next_click_go_on(blocks, tmp_path):
    network = HeldSam()
    (flat, first), (deep, second) = blocks[0]
    with clicking(tmp_path, Opener(network), IMAGE) as clicks:
        network.may_answer.release()
        answered(clicks.post(flat, first))
        before = shown(clicks)
        network.is_asked()
        volume = clicks.click(deep, second)
        network.is_asked()
        clicks.cancel(clicks.jobs()[0])
        network.answers_all()
        assert volume.result(PATIENCE).status_code == 409
        told, labels = shown(clicks)
        assert told == before[0] and np.array_equal(labels, before[1]) and labels.any()
        assert answered(clicks.post(*blocks[1][0]))[0]["session"]["undo"] == 2
