"""The OHIF viewer is served, and speaks to this server alone."""

from __future__ import annotations

import json

import pytest
from app_room import client_of

from monailabel_app.server import viewer


@pytest.fixture
def client(tmp_path):
    (tmp_path / "studies").mkdir()
    with client_of(tmp_path / "studies", tmp_path / "sessions") as client:
        yield client


def policy_of(reply) -> dict[str, str]:
    parts = (part.strip().partition(" ") for part in reply.headers["content-security-policy"].split(";"))
    return {name: value for name, _, value in parts}


@pytest.mark.parametrize("path", ["", "viewer", "viewer/dicomjson?url=http://evil.example/x", "index.html", "no.js"])
def test_every_page_of_the_viewer_may_connect_to_this_server_alone(client, path):
    reply = client.get(f"/ohif/{path}")
    assert reply.status_code == 200 and "OHIF" in reply.text
    policy = policy_of(reply)
    assert policy["connect-src"] == "'self' blob: data:" and policy["default-src"] == "'none'"
    assert "unsafe-inline" not in policy["script-src"] and "'unsafe-eval'" not in policy["script-src"]
    assert policy["script-src"].count("sha256-") == reply.text.count("<script>")
    assert not any("http" in value or "*" in value for value in policy.values())


def test_the_viewer_has_this_servers_data_source_and_no_other(client):
    reply = client.get("/ohif/app-config.js")
    assert reply.headers["content-type"].startswith("text/javascript")
    config, _ = json.JSONDecoder().raw_decode(reply.text.removeprefix("window.config = "))
    (source,) = config["dataSources"]
    assert source["namespace"].endswith(".dicomweb") and source["configuration"]["dicomUploadEnabled"] is False
    roots = [source["configuration"][name] for name in ("qidoRoot", "wadoRoot", "wadoUriRoot")]
    assert all(root.startswith("/proxy/dicom/") for root in roots)


def test_its_panel_connects_to_the_server_that_the_page_came_from(client):
    script = client.get("/ohif/app-config.js").text
    assert "MONAILABEL_SERVER_URL" in script and "location.origin" in script  # its own default is port 8000


def test_its_scripts_bring_the_policy_that_their_workers_keep_to(client):
    script = next(viewer._FOLDER.glob("*.bundle.*.js")).name
    reply = client.get(f"/ohif/{script}")
    assert reply.content == (viewer._FOLDER / script).read_bytes()
    assert "'self'" in policy_of(reply)["script-src"] and policy_of(reply)["connect-src"].startswith("'self'")
    assert "no-store" not in reply.headers["cache-control"]


def test_a_file_in_a_folder_of_the_viewer_is_itself_and_not_the_page(client):
    asset = next(path for path in (viewer._FOLDER / "assets").iterdir() if path.suffix == ".png")
    assert client.get(f"/ohif/assets/{asset.name}").content == asset.read_bytes()


@pytest.mark.parametrize("path", ["%2e%2e/%2e%2e/ohif.py", "..%2f..%2fohif.py", "%2e%2e%2fohif.py", "/etc/passwd"])
def test_no_address_leads_out_of_its_folder(client, path):
    assert "root:" not in client.get(f"/ohif/{path}").text and "APIRouter" not in client.get(f"/ohif/{path}").text
