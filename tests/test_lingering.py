"""A client that is refused while it sends gets the answer, on a raw socket, and no broken connection."""

from __future__ import annotations

import logging
import socket

import pytest
from app_room import listening
from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from monailabel_app.server import lingering

BODY = b"x" * 2**22  # more than the buffers of both ends
POST = b"POST /%s HTTP/1.%d\r\nHost: a\r\n"
APP = FastAPI()


@APP.post("/refused")
async def refused() -> Response:
    return Response("too large", status_code=413)


@APP.post("/read")
async def read(request: Request) -> Response:
    try:
        return Response(str(len(await request.body())))
    except ClientDisconnect:
        logging.getLogger(__name__).warning("the client has left")
        return Response(status_code=499)


@pytest.fixture(scope="module")
def port():
    with listening(APP) as address:
        yield int(address.rpartition(":")[2])


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """A busy machine is not a failure."""
    monkeypatch.setattr(lingering, "MOST_SECONDS", 600.0)


def exchange(port: int, *parts: bytes) -> bytes:
    """Send parts, then read to the end; a reset or a broken pipe is raised."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        for part in parts:
            client.sendall(part)
        client.shutdown(socket.SHUT_WR)
        found = b""
        while part := client.recv(2**16):
            found += part
        return found


NO_HTTP = {
    "a negative length": POST % (b"read", 1) + b"Content-Length: -5\r\n\r\n",
    "two lengths": POST % (b"read", 1) + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\n",
    "a broken header": POST % (b"read", 1) + b"no colon\r\n\r\n",
    "a broken chunk": POST % (b"read", 1) + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a header without end": POST % (b"read", 1) + b"X: ",
}


@pytest.mark.parametrize("request_", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_is_answered_however_much_follows(port, request_):
    answer = exchange(port, request_, BODY)
    assert answer.startswith(b"HTTP/1.1 400 ") and b"Invalid HTTP request" in answer


@pytest.mark.parametrize(("version", "header"), [(1, b""), (1, b"Connection: close\r\n"), (0, b"")])
def test_a_refusal_before_the_body_was_read_arrives(port, version, header):
    answer = exchange(port, POST % (b"refused", version) + header + b"Content-Length: %d\r\n\r\n" % len(BODY), BODY)
    assert answer.startswith(b"HTTP/1.1 413 ") and answer.endswith(b"too large")


def test_a_body_that_is_read_is_answered_as_before(port):
    close = b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    assert exchange(port, POST % (b"read", 1) + close, BODY).endswith(b"\r\n\r\n%d" % len(BODY))


def test_a_route_that_waits_for_a_broken_body_hears_that_its_client_has_left_and_its_answer_is_no_error(port, caplog):
    assert b"400" in exchange(port, NO_HTTP["a broken chunk"])
    assert exchange(port, POST % (b"read", 1) + b"Connection: close\r\nContent-Length: 2\r\n\r\nab").endswith(b"2")
    assert "the client has left" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_what_is_thrown_away_has_an_end(port, monkeypatch):
    monkeypatch.setattr(lingering, "MOST_BYTES", 2**16)
    with pytest.raises(OSError):  # reset, or a broken pipe
        exchange(port, NO_HTTP["a negative length"], *[BODY] * 20)


def test_a_client_that_stays_is_left_after_a_while(port, monkeypatch):
    monkeypatch.setattr(lingering, "MOST_SECONDS", 0.05)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(NO_HTTP["a negative length"])
        while client.recv(2**16):
            continue
        with pytest.raises(OSError):
            for _ in range(1000):
                client.sendall(BODY)
