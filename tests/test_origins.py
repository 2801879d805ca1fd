"""A web page of another site cannot make a browser change something here."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from monailabel_app.server.origins import OwnPagesOnly

LISTED = "http://viewer.example:3000"


@pytest.fixture
def client() -> TestClient:
    route = Route("/", lambda request: PlainTextResponse("done"), methods=["GET", "POST", "PUT", "DELETE"])
    return TestClient(OwnPagesOnly(Starlette(routes=[route]), origins=[LISTED]), base_url="http://localhost:8000")


@pytest.mark.parametrize(
    "headers",
    [
        {},  # Slicer, MITK, a script
        {"Origin": "http://localhost:8000"},
        {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://localhost:8000", "Sec-Fetch-Site": "same-origin"},  # behind a proxy that speaks TLS
        {"Sec-Fetch-Site": "none"},  # typed by the user
        {"Origin": LISTED},
        {"Origin": LISTED, "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_own_pages_listed_pages_and_programs_may_change_something(client, headers):
    for method in ("POST", "PUT", "DELETE"):
        assert client.request(method, "/", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "http://127.0.0.1:8000"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost:9999", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_pages_of_other_origins_may_not(client, headers):
    for method in ("POST", "PUT", "DELETE"):
        reply = client.request(method, "/", headers=headers)
        assert reply.status_code == 403 and "MONAI_LABEL_CORS_ORIGINS" in reply.json()["detail"]
    assert client.get("/", headers=headers).status_code == 200
