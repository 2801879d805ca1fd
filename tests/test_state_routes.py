"""What the server is at: how far each request is, who may cancel it, and what is left of it then."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future

import httpx
import numpy as np
import pytest
from click_room import PATIENCE, Clicks, HeldSam, Opener, answered, clicking
from fakes import BrightRegionSam
from monailabel.interfaces.utils.app import app_instance
from session_room import LEFT, RIGHT
from test_work import until
from torch import nn

from bundle.data.synthetic.phantom import make_phantom
from bundle.interactive.segmenter import Segmenter
from monailabel_app.server.access import TOKENS
from monailabel_app.tasks import open_images

POINT = {"foreground": [list(LEFT)], "label": "left"}
MORE = {**POINT, "background": [[5, 9, 8]]}
SHOWN = {"session": True}
ROI = {"roi": [1, 9, 3, 14, 2, 9], "label": "left"}
TOKEN = {name: f"{name}-0123456789abcdef" for name in ("anna", "bob", "carl", "dora")}
ROLES = {"anna": "annotate", "bob": "annotate", "carl": "view", "dora": "admin"}


@pytest.fixture
def network() -> HeldSam:
    return HeldSam()


@pytest.fixture
def clicks(tmp_path, network):
    with clicking(tmp_path, Opener(network)) as clicks:
        yield clicks
        network.answers_all()


def let_go(network: HeldSam, slices: int = 1) -> None:
    """Let it answer the slice that it is at, and wait for the next."""
    for _ in range(slices):
        network.may_answer.release()
        network.is_asked()


def by(name: str) -> dict[str, dict[str, str]]:
    return {"headers": {"Authorization": f"Bearer {TOKEN[name]}"}}


# ---- how far --------------------------------------------------------------------------------------------------------


def test_a_click_through_the_volume_tells_how_many_slices_it_has_asked(clicks, network):
    answer = clicks.click("sam_3d", POINT)
    network.is_asked()
    told = []
    for _ in range(5):
        (job,) = clicks.jobs()
        told.append((job["slices"], job["of"]))
        let_go(network)
    assert told == [(number, 12) for number in (1, 2, 3, 4, 5)]
    assert (job["model"], job["state"], job["image"], job["user"]) == ("sam_3d", "working", "ct", None)
    network.answers_all()
    assert answer.result(PATIENCE).status_code == 200 and clicks.jobs() == []


@pytest.mark.parametrize(
    ("params", "most"),
    [(POINT, 12), ({**POINT, "limits": [3, 8]}, 6), (ROI, 8), ({**ROI, "limits": [0, 6]}, 5)],
    ids=["the volume", "the limits", "the box", "the box within the limits"],
)
def test_it_may_ask_no_more_slices_than_it_says_at_first_and_a_slice_counts_once(clicks, network, params, most):
    told = told_until_answered(clicks, network, params)
    asked = [slices for slices, _ in told]
    assert {of for _, of in told} == {most} and asked == sorted(asked) and asked[0] == 1 and asked[-1] <= most
    assert len(asked) > len(set(asked)) or "roi" not in params  # in a box several slices are asked twice


def test_a_click_on_a_slice_and_one_that_waits_tell_no_slices(clicks, network):
    first = clicks.click("sam_2d", POINT)
    network.is_asked()
    second = clicks.click("sam_3d", POINT)
    until(lambda: clicks.app.state.queue.waiting == 1)
    told = [(job["model"], job["state"], job["slices"], job["of"]) for job in clicks.jobs()]
    assert told == [("sam_2d", "working", None, None), ("sam_3d", "waiting", None, None)]
    network.answers_all()
    assert first.result(PATIENCE).status_code == second.result(PATIENCE).status_code == 200


def test_of_several_objects_the_one_that_is_asked_is_told(clicks, network):
    told = told_until_answered(clicks, network, {"left": [list(LEFT)], "right": [list(RIGHT)]})
    assert [far for far in told if far[0] == 1] == [(1, 12), (1, 12)]


# ---- cancelling -----------------------------------------------------------------------------------------------------


def test_a_request_that_is_cancelled_ends_at_its_next_slice_and_leaves_its_session_as_it_was(clicks, network):
    network.may_answer.release(12)
    assert clicks.post("sam_3d", POINT).status_code == 200
    empty(network.may_answer, network.asked)
    (told, labels), files = answered(clicks.post("sam_3d", SHOWN)), clicks.files()
    answer = clicks.click("sam_3d", MORE)
    network.is_asked()
    (job,) = clicks.jobs()
    ending = clicks.cancel(job)
    assert ending.status_code == 202 and (ending.json()["id"], ending.json()["state"]) == (job["id"], "ending")
    assert clicks.jobs()[0]["state"] == "ending"
    network.answers_all()
    refused = answer.result(PATIENCE)
    assert refused.status_code == 409
    assert refused.json() == {"detail": "the request was cancelled before its step was taken"}
    assert not network.asked.acquire(blocking=False) and clicks.jobs() == []
    assert clicks.files() == files and files
    told_now, labels_now = answered(clicks.post("sam_3d", SHOWN))
    assert told_now == told and labels_now.any() and np.array_equal(labels_now, labels)


def test_after_a_cancel_the_same_clicks_are_answered_as_if_there_had_been_none(network, tmp_path):
    with clicking(tmp_path / "other", Opener(BrightRegionSam())) as other:
        expected = [answered(other.post("sam_3d", params)) for params in (POINT, MORE)]
    with clicking(tmp_path, Opener(network)) as clicks:
        answer = clicks.click("sam_3d", POINT)
        network.is_asked()
        let_go(network, 2)
        clicks.cancel(clicks.jobs()[0])
        network.answers_all()
        assert answer.result(PATIENCE).status_code == 409 and not any(clicks.files().values())
        for params, (before, others) in zip((POINT, MORE), expected, strict=True):
            told, labels = answered(clicks.post("sam_3d", params))
            assert labels.any() and np.array_equal(labels, others)
            assert told["predicted_iou"] == before["predicted_iou"] and told["session"] == before["session"]


def test_a_request_that_waits_is_cancelled_at_once(clicks, network):
    first = clicks.click("sam_3d", POINT)
    network.is_asked()
    second = clicks.click("sam_3d", MORE)
    until(lambda: clicks.app.state.queue.waiting == 1)
    clicks.cancel(clicks.jobs()[1])
    assert second.result(PATIENCE).status_code == 409 and not first.done()
    network.answers_all()
    assert first.result(PATIENCE).status_code == 200


class Held:
    """Something that a test lets go on."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()

    def before(self, do):
        """The same, held until it may go on."""

        def held(*arguments, **options):
            self.begun.set()
            assert self.may_end.wait(PATIENCE)
            return do(*arguments, **options)

        return held


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.may_end.set()


def read_by_another(clicks, held, monkeypatch) -> Future:
    monkeypatch.setattr(open_images, "_read_image", held.before(open_images._read_image))
    return clicks.click("sam_2d", POINT)


def opened_before_another_network(clicks, held, monkeypatch) -> Future:
    assert clicks.post("sam_2d", POINT).status_code == 200
    opener = Opener(BrightRegionSam())
    opener.open = held.before(opener.open)
    app_instance()._open.switch(opener)
    return clicks.click("sam_2d", MORE)


def answered_by_the_network_before(clicks, held, monkeypatch) -> Future:
    assert clicks.post("sam_2d", POINT).status_code == 200
    network = app_instance()._open._segmenter.predictor.network
    monkeypatch.setattr(network, "predict", held.before(network.predict))
    first = clicks.click("sam_3d", MORE)
    assert held.begun.wait(PATIENCE)
    app_instance()._open.switch(Opener(BrightRegionSam()))
    return first


@pytest.mark.parametrize(
    "begin",
    [read_by_another, opened_before_another_network, answered_by_the_network_before],
    ids=lambda one: one.__name__,
)
def test_a_request_that_waits_for_the_image_of_another_is_cancelled_at_once(clicks, network, held, monkeypatch, begin):
    network.answers_all()
    first = begin(clicks, held, monkeypatch)
    assert held.begun.wait(PATIENCE)
    second = clicks.click("sam_2d", POINT)
    until(lambda: len(clicks.jobs()) == 2)
    job = clicks.jobs()[1]
    assert job["state"] == "waiting" and clicks.cancel(job).status_code == 202
    assert second.result(PATIENCE).status_code == 409 and not first.done()
    held.may_end.set()
    assert first.result(PATIENCE).status_code == 200


def test_who_reads_an_image_is_told_of_the_cancel_once_it_is_read_and_others_find_it_open(
    clicks, network, held, monkeypatch
):
    network.answers_all()
    first = read_by_another(clicks, held, monkeypatch)
    assert held.begun.wait(PATIENCE)
    clicks.cancel(clicks.jobs()[0])
    second = clicks.click("sam_2d", POINT)
    until(lambda: len(clicks.jobs()) == 2)
    assert clicks.jobs()[0]["state"] == "ending" and not first.done()
    held.begun.clear()
    held.may_end.set()
    assert first.result(PATIENCE).status_code == 409 and second.result(PATIENCE).status_code == 200
    assert clicks.post("sam_2d", POINT).status_code == 200 and not held.begun.is_set()  # it was read once


def test_the_default_model_ends_within_a_layer(tmp_path):
    image, truth, values = make_phantom(shape=(48, 40, 12), spacing=(8.0, 8.0, 12.0), seed=1)
    liver = np.argwhere(truth.array == values["liver"])
    params = {"foreground": [liver[len(liver) // 2].tolist()], "label": "liver"}
    segmenter = Segmenter.from_family("default")
    network, entered, goes_on = segmenter.predictor.network, threading.Semaphore(0), threading.Event()
    layers: list[nn.Module] = []

    def hold(layer: nn.Module, _arguments: object) -> None:
        layers.append(layer)
        entered.release()
        assert goes_on.wait(PATIENCE)

    held = [layer for layer in network.modules() if next(layer.parameters(recurse=False), None) is not None]
    for layer in held:
        layer.register_forward_pre_hook(hold)
    with clicking(tmp_path, segmenter, image) as clicks:
        answer = clicks.click("sam_3d", params)
        assert entered.acquire(timeout=PATIENCE)
        (job,) = clicks.jobs()
        assert (job["slices"], job["of"]) == (1, 12)
        assert clicks.cancel(job).status_code == 202
        goes_on.set()
        assert answer.result(PATIENCE).status_code == 409 and len(layers) == 1
        assert not any(clicks.files().values())
        assert clicks.post("sam_3d", params).status_code == 200 and len(layers) > 100


def test_an_unknown_request_is_a_404(clicks, network):
    answer = clicks.click("sam_2d", POINT)
    network.is_asked()
    (job,) = clicks.jobs()
    network.answers_all()
    assert answer.result(PATIENCE).status_code == 200
    for id in (job["id"], "0" * 32, "nobody", "x" * 300):
        refused = clicks.cancel(id)
        assert refused.status_code == 404 and "GET /jobs/ lists" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("what", "sentence"),
    [("batch", "DELETE /batch/infer"), ("scoring", "DELETE /scoring/"), ("precompute", "gives way to every request")],
)
def test_what_the_server_does_of_its_own_accord_is_ended_elsewhere(clicks, what, sentence):
    queue = clicks.app.state.queue
    with queue.in_background(queue.background(what, "ct")) as work:
        (job,) = clicks.jobs()
        assert (job["model"], job["image"], job["may_cancel"]) == (what, "ct", False)
        refused = clicks.cancel(job)
        assert refused.status_code == 409 and sentence in refused.json()["detail"] and not work.is_ending


# ---- whose ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(tmp_path, network, monkeypatch):
    """A server with accounts."""
    monkeypatch.setenv(TOKENS, ";".join(f"{name} {role} {TOKEN[name]}" for name, role in ROLES.items()))
    with clicking(tmp_path, Opener(network)) as clicks:
        yield clicks
        network.answers_all()


@pytest.mark.parametrize("who", ["anna", "dora"])
def test_an_account_cancels_its_own_requests_and_an_admin_those_of_all(shared, network, who):
    answer = shared.click("sam_3d", POINT, **by("anna"))
    network.is_asked()
    told = {name: shared.jobs(**by(name))[0] for name in ROLES}
    assert {name: (job["user"], job["may_cancel"]) for name, job in told.items()} == {
        "anna": ("anna", True),
        "bob": ("anna", False),
        "carl": ("anna", False),
        "dora": ("anna", True),
    }
    refused = shared.cancel(told["bob"], **by("bob"))
    assert refused.status_code == 403 and "another account's" in refused.json()["detail"]
    assert shared.cancel(told["carl"], **by("carl")).status_code == 403
    assert shared.cancel(told["anna"]).status_code == 401
    assert shared.jobs(**by("anna"))[0]["state"] == "working"
    assert shared.cancel(told[who], **by(who)).status_code == 202
    network.answers_all()
    assert answer.result(PATIENCE).status_code == 409


def test_without_accounts_every_program_of_the_machine_cancels_and_nobody_is_named(clicks, network):
    answer = clicks.click("sam_3d", {**POINT, "client_id": "slicer"})
    network.is_asked()
    (job,) = clicks.jobs()
    assert (job["user"], job["is_yours"], job["may_cancel"]) == (None, False, True)
    assert clicks.cancel(job).status_code == 202
    network.answers_all()
    assert answer.result(PATIENCE).status_code == 409


def test_only_an_image_of_the_datastore_is_named(shared, network):
    """Every role may list those; the id of an upload opens it to whoever knows it."""
    content = (shared.kept.parent / "studies" / "ct.nii.gz").read_bytes()
    put = httpx.put(f"{shared.url}/session/", files={"files": ("a.nii.gz", content)}, timeout=PATIENCE, **by("anna"))
    session = put.json()["session_id"]
    for image, files, told in (
        ("image=ct", None, "ct"),
        (f"session_id={session}", None, None),
        (f"session_id={session}&image=ct", None, None),
        ("image=ct", {"file": ("a.nii.gz", content)}, None),
    ):
        answer = shared.click("sam_2d", POINT, image, files=files, **by("anna"))
        network.is_asked()
        assert [job["image"] for job in shared.jobs(**by("carl"))] == [told]
        network.may_answer.release()
        assert answer.result(PATIENCE).status_code == 200
        shared.post("sam_2d", {"undo": True}, image, files=files, **by("anna"))  # the next one is asked, too
    with shared.app.state.queue.admitted("anna", "sam_3d"):
        assert shared.jobs(**by("carl"))[0]["image"] is None  # nobody has looked for it yet
    assert shared.post("sam_2d", POINT, "image=somebody", **by("anna")).status_code == 404


def test_ids_are_of_128_bits_that_say_nothing(clicks):
    queue = clicks.app.state.queue
    ids = {queue.background("scoring").id for _ in range(1000)}
    assert len(ids) == 1000 and all(len(id) == 32 and int(id, 16) >= 0 for id in ids)


# ---- parts ----------------------------------------------------------------------------------------------------------


def told_until_answered(clicks: Clicks, network: HeldSam, params: dict) -> list[tuple[int, int]]:
    """``slices`` and ``of`` of a click through the volume, each time that it asks a slice."""
    told = []
    answer = clicks.click("sam_3d", params)
    answer.add_done_callback(lambda _: network.asked.release())
    network.is_asked()
    while not answer.done():
        told += [(job["slices"], job["of"]) for job in clicks.jobs()]
        let_go(network)
    assert answer.result().status_code == 200
    return told


def empty(*semaphores: threading.Semaphore) -> None:
    for semaphore in semaphores:
        while semaphore.acquire(blocking=False):
            pass
