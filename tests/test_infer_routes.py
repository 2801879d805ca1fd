"""A click over HTTP: refused when the queue is full, ended when its client leaves, and in nobody's way."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from types import SimpleNamespace

import pytest
from app_room import QuietApp, a_volume, client_of, listening
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from monailabel_app.errors import RequestError
from monailabel_app.server.access import Account, Accounts, Role
from monailabel_app.server.app import create_app
from monailabel_app.server.gate import ACCOUNT
from monailabel_app.server.infer_routes import _as_asked, cancelled_when_left
from monailabel_app.work import WorkQueue, checkpoint, turn

PATIENCE = 60.0


class SlowTask(InferTask):
    """Computes until its request is cancelled, or once if it is told so."""

    def __init__(self) -> None:
        super().__init__(InferType.DEEPGROW, [], 3, "slow")
        self.begun, self.ended, self.is_quick = threading.Event(), threading.Event(), False

    def is_valid(self) -> bool:
        return True

    def __call__(self, request):
        try:
            with turn(request["image"]):
                self.begun.set()
                while not self.is_quick:
                    checkpoint()
        finally:
            self.ended.set()
        raise ValueError("it was told to be quick")


@pytest.fixture
def task(monkeypatch) -> SlowTask:
    task = SlowTask()
    monkeypatch.setattr(QuietApp, "init_infers", lambda self: {"slow": task})
    return task


@pytest.fixture
def client(tmp_path, task):
    a_volume(tmp_path / "studies" / "ct.nii.gz")
    with client_of(tmp_path / "studies", tmp_path / "sessions") as client:
        yield client


async def click(app, leaves: asyncio.Event) -> list[dict]:
    """A request to the app as a server hands it over; its client leaves when the event says so."""
    form = b'--x\r\nContent-Disposition: form-data; name="params"\r\n\r\n{}\r\n--x--\r\n'
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"multipart/form-data; boundary=x")]
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"}
    scope |= {"path": "/infer/slow", "raw_path": b"/infer/slow", "query_string": b"image=ct", "root_path": ""}
    scope |= {"headers": headers, "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8000), "state": {}}
    body = [{"type": "http.request", "body": form, "more_body": False}]
    sent: list[dict] = []

    async def receive() -> dict:
        if body:
            return body.pop()
        await leaves.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def test_a_client_that_leaves_ends_what_was_computed_for_it(client, task):
    async def leave_when_it_computes() -> list[dict]:
        leaves = asyncio.Event()
        answered = asyncio.create_task(click(client.app, leaves))
        assert await asyncio.to_thread(task.begun.wait, PATIENCE)
        assert client.app.state.queue.jobs()[0][0].what == "slow"
        leaves.set()
        return await asyncio.wait_for(answered, PATIENCE)

    sent = asyncio.run(leave_when_it_computes())
    assert task.ended.is_set() and sent[0]["status"] == 499
    assert len(client.app.state.queue) == 0


def test_information_is_answered_while_a_click_computes(client, task):
    async def ask_meanwhile() -> list[int]:
        leaves = asyncio.Event()
        answered = asyncio.create_task(click(client.app, leaves))
        assert await asyncio.to_thread(task.begun.wait, PATIENCE)
        addresses = ("/healthz", "/info/", "/jobs/", "/metrics", "/train/?check_if_running=true")
        replies = [await asyncio.to_thread(client.get, address) for address in addresses]
        assert not task.ended.is_set()
        jobs = replies[2].json()
        assert [(job["model"], job["state"], job["user"]) for job in jobs] == [("slow", "working", None)]
        leaves.set()
        await answered
        return [reply.status_code for reply in replies]

    assert asyncio.run(ask_meanwhile()) == [200, 200, 200, 200, 404]


def test_a_full_queue_says_when_to_come_again(client):
    client.app.state.queue = WorkQueue(places=1)
    with client.app.state.queue.admitted("somebody", "slow"):
        reply = client.post("/infer/slow?image=ct", data={"params": "{}"})
    assert reply.status_code == 503 and int(reply.headers["retry-after"]) > 0
    assert "try again" in reply.json()["detail"]


def test_whose_turn_a_click_takes_is_the_programs_that_sent_it(client, task, monkeypatch):
    users = []
    task.is_quick = True

    def noted(self, work, image):
        users.append(work.user)
        raise RequestError("that is all that was wanted")

    monkeypatch.setattr(WorkQueue, "turn", noted)
    for params in ({"client_id": "user-xyz"}, {}, {"client_id": ["x"]}, {"client_id": "u" * 999}):
        client.post("/infer/slow?image=ct", data={"params": json.dumps(params)})
    assert users == ["user-xyz", "127.0.0.1", "127.0.0.1", "u" * 200]


def test_nothing_watches_a_client_that_was_answered():
    class Client:
        asked = 0

        async def receive(self) -> dict:
            self.asked += 1
            await asyncio.sleep(PATIENCE)
            return {"type": "http.disconnect"}

    async def answer() -> int:
        client, queue = Client(), WorkQueue()
        with queue.admitted("anna", "m") as work:
            async with cancelled_when_left(client, work):
                await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert asyncio.run(answer()) == 1


def test_the_app_has_a_queue_of_its_own():
    assert create_app().state.queue is not create_app().state.queue


def test_a_connection_that_is_closed_ends_the_click(client, task):
    form = b'--x\r\nContent-Disposition: form-data; name="params"\r\n\r\n{}\r\n--x--\r\n'
    with listening(client.app) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE)
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        connection.request("POST", "/infer/slow?image=ct", body=form, headers=headers)
        assert task.begun.wait(PATIENCE) and not task.ended.is_set()
        connection.close()
        assert task.ended.wait(PATIENCE)


@pytest.mark.parametrize(
    ("accounts", "expected"),
    [(Accounts([f"ann annotate {'t' * 20}"]), {"foreground": [], "user": "ann"}), (None, {"foreground": []})],
)
def test_no_client_says_who_is_logged_in_or_which_upload_it_is(accounts, expected):
    state, ann = SimpleNamespace(accounts=accounts), Account("ann", Role.annotate)
    request = SimpleNamespace(app=SimpleNamespace(state=state), scope={ACCOUNT: ann})
    assert _as_asked(request, {"user": "eve", "image_key": "another", "foreground": []}) == expected
