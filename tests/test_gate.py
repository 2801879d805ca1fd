"""Without accounts the server is for its own machine, whatever it listens to."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from monailabel_app.server.access import Account, Accounts, Role
from monailabel_app.server.gate import Gate, account_of

TOKEN = "0123456789abcdef0123"


def client_at(host: str, accounts: Accounts | None) -> TestClient:
    async def socket(websocket) -> None:
        await websocket.accept()

    routes = [
        Route("/info/", lambda request: PlainTextResponse(account_of(request.scope).name)),
        Route("/healthz", lambda request: PlainTextResponse(str(account_of(request.scope)))),
        WebSocketRoute("/info/", socket),
    ]
    return TestClient(Gate(Starlette(routes=routes), accounts=accounts), client=(host, 5))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"])
def test_programs_of_this_machine_may_do_everything(host):
    assert client_at(host, None).get("/info/").text == "local"


@pytest.mark.parametrize("host", ["192.0.2.7", "::ffff:192.0.2.7", "fe80::1%eth0", "testclient", ""])
def test_others_are_refused_with_a_sentence(host):
    reply = client_at(host, None).get("/info/", headers={"Authorization": f"Bearer {TOKEN}"})
    assert reply.status_code == 403 and "its own machine only" in reply.json()["detail"]
    assert client_at(host, None).get("/healthz").text == "None"


def test_with_accounts_this_machine_needs_a_token_too():
    client = client_at("127.0.0.1", Accounts([f"anna view {TOKEN}"]))
    assert client.get("/info/").status_code == 401
    headers = {"Authorization": f"bearer {TOKEN}"}
    assert client.get("/info/", headers=headers).text == "anna"
    assert client.get("/healthz", headers=headers).text == str(Account("anna", Role.view))


def test_a_web_socket_is_closed():
    with pytest.raises(WebSocketDisconnect), client_at("127.0.0.1", None).websocket_connect("/info/"):
        pass
