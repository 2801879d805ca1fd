"""Accounts, roles, and that no route was forgotten."""

from __future__ import annotations

import base64
import hashlib

import pytest
from app_room import a_volume, client_of
from fastapi.routing import iter_route_contexts

from monailabel_app.server.access import (
    ROUTES,
    TOKENS,
    TOKENS_FILE,
    Account,
    Accounts,
    Role,
    SettingsError,
    role_needed,
)
from monailabel_app.server.app import create_app

TOKEN = {role: f"{role.name}-0123456789abcdef" for role in Role}
LINES = [f"{role.name}-person {role.name} {token}" for role, token in TOKEN.items()]
OPEN = {("GET", "/healthz"), ("GET", "/auth/"), ("POST", "/auth/token")}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("access")
    a_volume(folder / "studies" / "ct.nii.gz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TOKENS, ";".join(LINES))
        opened = client_of(folder / "studies", folder / "sessions", client=("192.0.2.7", 5))
        client = opened.__enter__()
    yield client
    opened.__exit__(None, None, None)


def as_role(role: Role) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKEN[role]}"}


def routes_there_are() -> set[tuple[str, str]]:
    app = create_app()
    found = {(method, route.path) for route in iter_route_contexts(app.routes) for method in route.methods or ()}
    return {(method, path) for method, path in found if method != "HEAD" or ("GET", path) not in found} | {
        (method, path) for method, path in found if (method, path) in ROUTES
    }


def test_every_route_has_a_role_and_every_role_its_route():
    assert routes_there_are() == set(ROUTES)


def test_only_these_routes_are_open_to_everybody():
    assert {route for route, role in ROUTES.items() if role is None} == OPEN


@pytest.mark.parametrize(("method", "path"), sorted(set(ROUTES) - OPEN))
def test_no_route_answers_without_a_token(client, method, path):
    address = path.replace("{path:path}", "x").replace("{", "").replace("}", "")
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic eDp5"},
        {"Authorization": "Bearer"},
    ):
        reply = client.request(method, address, headers=headers)
        assert reply.status_code == 401, (headers, reply.text)
        assert "www-authenticate" in reply.headers


@pytest.mark.parametrize(("method", "path"), sorted(set(ROUTES) - OPEN))
def test_a_role_below_the_one_needed_is_refused_and_the_one_needed_is_not(client, method, path):
    needed = ROUTES[method, path]
    address = path.replace("{path:path}", "x").replace("{", "").replace("}", "")
    for role in Role:
        if method == "HEAD" or address.startswith("/proxy"):
            continue
        status = client.request(method, address, headers=as_role(role)).status_code
        assert (status == 403) == (role < needed), (role, status)


@pytest.mark.parametrize("path", ["/static/ohif/index.html", "/docs", "/logs/", "/train/sam_2d", "/info/x"])
def test_an_address_without_a_route_is_closed(client, path):
    assert client.get(path).status_code == 401
    assert client.get(path, headers=as_role(Role.view)).status_code == 403
    assert client.get(path, headers=as_role(Role.admin)).status_code in (404, 405)
    assert role_needed("PATCH", "/info/") is Role.admin


def test_two_headers_of_authorization_are_nobody(client):
    headers = [("Authorization", f"Bearer {TOKEN[Role.admin]}"), ("Authorization", f"Bearer {TOKEN[Role.admin]}")]
    assert client.get("/info/", headers=headers).status_code == 401


def test_a_browsers_name_and_token_are_a_login(client):
    for name, status in (("view-person", 200), ("admin-person", 401), ("", 401)):
        text = base64.b64encode(f"{name}:{TOKEN[Role.view]}".encode()).decode()
        assert client.get("/info/", headers={"Authorization": f"Basic {text}"}).status_code == status


# ---- accounts -------------------------------------------------------------------------------------------------------


def test_a_token_may_stand_as_its_digest():
    digest = hashlib.sha256(b"a-long-secret-that-nobody-knows").hexdigest()
    accounts = Accounts([f"anna annotate sha256:{digest}"])
    assert accounts.of_token("a-long-secret-that-nobody-knows") == Account("anna", Role.annotate)
    assert accounts.of_token(f"sha256:{digest}") is None
    assert accounts.of_token("") is None and accounts.of_token("\ud800é") is None


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("anna annotate", "got 2 words"),
        ("anna boss 0123456789abcdef0123", "must be one of view, annotate, train, admin"),
        ("anna view secret", "at least 20"),
        ("an/na view 0123456789abcdef0123", "name of account 1"),
        ("# nobody", "no account"),
        ("anna view 0123456789abcdef0123\nanna admin 0123456789abcdef0124", "twice"),
    ],
)
def test_accounts_that_cannot_be_used_are_refused_without_showing_a_token(line, sentence):
    with pytest.raises(SettingsError, match=sentence) as caught:
        Accounts(line.splitlines())
    assert "0123456789" not in str(caught.value) and "secret" not in str(caught.value)


def test_a_file_of_accounts_is_for_one_user_alone(tmp_path):
    path = tmp_path / "tokens"
    path.write_text("# who may\n\nanna view 0123456789abcdef0123\n", encoding="utf-8")
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        Accounts.from_environment({TOKENS_FILE: str(path)})
    path.chmod(0o600)
    accounts = Accounts.from_environment({TOKENS_FILE: str(path)})
    assert accounts.of_token("0123456789abcdef0123") == Account("anna", Role.view)


@pytest.mark.parametrize("setting", [{TOKENS: ""}, {TOKENS_FILE: "/nowhere/tokens"}, {TOKENS: "x", TOKENS_FILE: "y"}])
def test_accounts_that_are_asked_for_and_not_there_never_mean_none(setting):
    with pytest.raises(SettingsError):
        Accounts.from_environment(setting)
    assert Accounts.from_environment({}) is None
