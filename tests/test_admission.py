"""Only so many files come at once, and none of them compressed twice."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest
from app_room import a_volume, client_of
from starlette.responses import PlainTextResponse

from monailabel_app.server.access import ROUTES
from monailabel_app.server.admission import WITH_FILES, Admission


@pytest.fixture
def client(tmp_path):
    a_volume(tmp_path / "studies/ct.nii.gz")
    with client_of(tmp_path / "studies", tmp_path / "sessions") as client:
        yield client


def bomb(size: int = 2**26) -> bytes:
    """Zeros, a thousand times smaller."""
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(2**20)
    return b"".join([*(pack.compress(zeros) for _ in range(size // 2**20)), pack.flush()])


@pytest.mark.parametrize(
    ("method", "address"),
    [("POST", "/activelearning/random"), ("PUT", "/session/"), ("POST", "/infer/sam_2d?image=ct")],
)
@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "gzip, identity"])
def test_a_compressed_body_is_refused_unread(client, method, address, encoding):
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    reply = client.request(method, address, content=gzip.compress(b"{}"), headers=headers)
    assert reply.status_code == 415 and "must not be compressed" in reply.json()["detail"]


def test_a_bomb_is_taken_as_the_bytes_it_is(client):
    headers = {"Content-Type": "application/json"}
    reply = client.post("/activelearning/random", content=bomb(), headers=headers)
    assert reply.status_code in (400, 413, 422) and "traceback" not in reply.text.lower()


def test_a_further_upload_is_told_when_to_come_again():
    async def ask() -> list[int]:
        leave, statuses, headers = asyncio.Event(), [], []

        async def slow(scope, receive, send) -> None:
            await leave.wait()
            await PlainTextResponse("done")(scope, receive, send)

        app = Admission(slow, most=2)

        async def put(path: str = "/session/", method: str = "PUT") -> None:
            async def send(message) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])
                    headers.append(dict(message["headers"]))

            await app({"type": "http", "method": method, "path": path, "headers": []}, None, send)

        tasks = [asyncio.create_task(put()) for _ in range(2)]
        await asyncio.sleep(0)
        await put("/datastore/label")
        assert statuses == [503] and int(headers[0][b"retry-after"]) > 0
        tasks.append(asyncio.create_task(put("/info/", "GET")))
        leave.set()
        await asyncio.gather(*tasks)
        await put()
        return statuses

    assert asyncio.run(ask()) == [503, 200, 200, 200, 200]


def test_the_routes_with_files_are_routes():
    assert set(ROUTES) >= WITH_FILES
