"""What a real browser lets pages do with the server: its own, those of a listed origin, and those of others."""

from __future__ import annotations

import html
import json
import re

import pytest
from app_room import QuietApp, a_volume, listening
from browser_room import page_of, serving_page
from monailabel.config import settings
from monailabel.interfaces.utils.app import apps

from monailabel_app.server.access import TOKENS
from monailabel_app.server.app import create_app

pytestmark = pytest.mark.clients

TOKEN = "0123456789abcdef0123"
# Asks the server in the ways that a page can, and writes down what it got; the other page tells its findings to this.
PAGE = """<!doctype html><title>elsewhere</title><pre id="found"></pre>%FRAME%<script>
const server = "%SERVER%", found = {};
async function attempt(name, work) { try { found[name] = await work(); } catch (error) { found[name] = error.name; } }
async function ask() {
  await attempt("read", async () => (await (await fetch(server + "/datastore/")).json()).total);
  await attempt("post", async () => (await fetch(server + "/activelearning/random",
    {method: "POST", headers: {"Content-Type": "application/json"}, body: "{}"})).status);
  const form = () => { const data = new FormData(); data.append("info", '{"%NAME%": 1}'); return data; };
  await attempt("put", async () => (await fetch(server + "/datastore/image/info?image=ct",
    {method: "PUT", body: form()})).status);
  await attempt("blind", async () => (await fetch(server + "/activelearning/first",
    {method: "POST", mode: "no-cors", body: form()})).type);
  return found;
}
function tell(name, found) {
  const all = JSON.parse(document.getElementById("found").textContent || "{}");
  document.getElementById("found").textContent = JSON.stringify({...all, [name]: found});
}
addEventListener("message", event => tell("other", event.data));
ask().then(found => parent === window ? tell("page", found) : parent.postMessage(found, "*"));
</script>"""


@pytest.fixture
def studies(tmp_path):
    a_volume(tmp_path / "studies/ct.nii.gz")
    return tmp_path / "studies"


@pytest.fixture
def app(studies, tmp_path):
    key = f"{settings.MONAI_LABEL_APP_DIR}{settings.MONAI_LABEL_STUDIES}"
    apps[key] = QuietApp(studies, tmp_path / "sessions")
    yield apps[key]
    apps.pop(key, None)


def page(server: str, name: str, frame: str = "") -> str:
    return PAGE.replace("%SERVER%", server).replace("%NAME%", name).replace("%FRAME%", frame)


def test_a_listed_origin_may_use_the_server_and_another_may_not(app, tmp_path, monkeypatch):
    with serving_page() as listed, serving_page() as other:
        monkeypatch.setattr(settings, "MONAI_LABEL_CORS_ORIGINS", [listed.address])
        with listening(create_app()) as server:
            other.html = page(server, "other")
            listed.html = page(server, "listed", f'<iframe src="{other.address}"></iframe>')
            text = page_of(listed.address, tmp_path / "profile")
    found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', text, re.S)[1]))
    assert found["page"] == {"read": 1, "post": 200, "put": 200, "blind": "opaque"}
    assert found["other"] == {"read": "TypeError", "post": "TypeError", "put": "TypeError", "blind": "opaque"}
    info = app.datastore().get_image_info("ct")
    assert info["listed"] == 1 and "other" not in info
    assert set(info["strategy"]) == {"random"}


def test_a_browser_logs_in_with_name_and_token(app, tmp_path, monkeypatch):
    monkeypatch.setenv(TOKENS, f"anna annotate {TOKEN}")
    with listening(create_app()) as server:
        address = server.replace("http://", f"http://anna:{TOKEN}@")
        text = page_of(f"{address}/", tmp_path / "profile")
        refused = page_of(f"{server.replace('http://', 'http://anna:wrong@')}/info/", tmp_path / "other")
    assert "monai-sam" in text and "sam" in text
    assert "monai-sam" not in refused or "wants a token" in refused
