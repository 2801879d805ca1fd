"""What the dialects' servers note, and what they close of their own accord."""

from __future__ import annotations

import json
import threading
import time

import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from nninteractive_room import bright_opener

from bundle.engines.cache import PreparedCache
from bundle.networks.interface import Prepared
from monailabel_app.nninteractive.desks import Desks
from monailabel_app.nninteractive.leases import Leases
from monailabel_app.nninteractive.reaping import reaping
from monailabel_app.nninteractive.serving import make_app
from monailabel_app.server.access import Accounts
from monailabel_app.server.audit_log import AuditLog

TOKEN, WATCHER = "0123456789abcdef0123", "9876543210abcdef0123"
ADDRESS = {"base_url": "http://127.0.0.1:1527", "client": ("127.0.0.1", 50000)}


@pytest.fixture(params=["nninteractive", "slicer", "itksnap"])
def dialect(request):
    return request.param


def client_of(dialect, **options) -> TestClient:
    return TestClient(
        make_app(dialect, bright_opener(), options.pop("accounts", None), "Apache-2.0", **options), **ADDRESS
    )


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_requests_are_counted_by_their_route_and_never_by_their_address(dialect, tmp_path):
    store = PreparedCache(folder=tmp_path)
    store.get("a", lambda: Prepared({"embedding": torch.zeros(3)}))
    client = client_of(dialect, prepared=store)
    client.get("/Mueller_1950")
    client.get("/u/Mueller_1950/upload_image")
    text = client.get("/metrics").text
    assert 'method="OTHER",route="unknown",status="404"' in text
    assert "monai_sam_cache_bytes 12.0" in text and "monai_sam_open_images 0.0" in text
    assert f"monai_sam_prepared_disk_bytes {(tmp_path / 'a.prepared').stat().st_size}.0" in text
    assert "Mueller" not in text


def test_the_audit_log_says_who_did_what_refusals_too(tmp_path):
    accounts = Accounts.from_environment({"MONAI_SAM_TOKENS": f"anna annotate {TOKEN};prom view {WATCHER}"})
    client = client_of("nninteractive", accounts=accounts, audit=AuditLog(tmp_path / "log"))
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers=bearer(WATCHER)).status_code == 200
    assert client.post("/claim", headers=bearer(WATCHER)).status_code == 403
    assert client.post("/claim", headers=bearer(TOKEN)).status_code == 200
    client.post("/heartbeat", headers=bearer(TOKEN))
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(line["who"], line["route"], line["status"]) for line in lines] == [
        ("prom", "/claim", 403),
        ("anna", "/claim", 200),
    ]


def test_a_work_is_done_again_and_again_although_it_fails():
    times, enough = [], threading.Event()

    def work() -> None:
        times.append(time.monotonic())
        if len(times) == 3:
            enough.set()
        raise OSError("not now")

    with TestClient(FastAPI(lifespan=reaping(work, every=0.001))):
        assert enough.wait(60)
    count = len(times)
    assert len(times) == count  # it ends with the server


def test_an_idle_lease_is_closed_although_nobody_asks():
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    clock, closed = Clock(), threading.Event()
    leases = Leases(places=1, on_loss=lambda lease: closed.set(), clock=clock)
    leases.claim("ann")
    with TestClient(FastAPI(lifespan=reaping(leases.drop_expired, every=0.001))):
        clock.now = 61.0
        assert closed.wait(60)


def test_an_idle_work_without_a_lease_is_closed_but_not_one_that_is_being_answered():
    now = [0.0]
    desks = Desks(bright_opener(), idle_seconds=10, clock=lambda: now[0])
    desks.begin("ann", "ann")
    desks.begin("ben", "ben")
    now[0] = 9.0
    with desks.at("ben"):
        now[0] = 11.0
        desks.drop_idle()
    with desks.at("ann") as ann, desks.at("ben") as ben:
        assert ann is None and ben is not None and len(desks) == 1
    now[0] = 30.0
    held, done = threading.Event(), threading.Event()

    def answer() -> None:
        with desks.at("ben"):
            now[0] = 60.0
            held.set()
            done.wait(60)

    thread = threading.Thread(target=answer)
    thread.start()
    held.wait(60)
    desks.drop_idle()
    assert len(desks) == 1
    done.set()
    thread.join()
    desks.drop_idle()
    assert len(desks) == 0
