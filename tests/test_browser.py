"""What a real browser lets pages do with the server: its own, those of a listed origin, and those of others."""

from __future__ import annotations

import html
import json
import re
from types import SimpleNamespace

import pytest
from app_room import QuietApp, a_volume, listening
from browser_room import page_of, serving_page
from click_room import PATIENCE, HeldSam, Opener, clicking
from monailabel.config import settings
from monailabel.interfaces.utils.app import apps
from ohif_room import chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import text_to_be_present_in_element
from selenium.webdriver.support.ui import WebDriverWait
from session_room import LEFT

from monailabel_app.learning.versions import Version
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


def test_the_page_for_people_shows_the_networks_that_trainings_made(app, tmp_path, monkeypatch):
    told = {"status": "DONE", "labels": 6, "version": None, "error": None, "progress": None, "training": None}
    notes = {"published_at": 1.8e9, "labels": 5, "structures": ["liver"], "dsc": {"before": 0.75, "after": 0.81}}
    learner = SimpleNamespace(
        version=1,
        versions=SimpleNamespace(all=lambda: [Version(0, None), Version(1, None, notes)]),
        status=lambda **_: told,
    )
    monkeypatch.setattr(QuietApp, "learner", learner, raising=False)
    monkeypatch.setattr(QuietApp, "info", lambda self: {"train_stats": {"finetune": {"reasons": ["liver fell"]}}})
    with listening(create_app()) as server:
        text = html.unescape(re.sub(r"<[^>]*>", " ", page_of(f"{server}/", tmp_path / "profile")))
    assert "the last training, on 6 labels, was refused: liver fell" in text
    assert re.search(r"\b1 .*5 +liver +0\.750 to 0\.810 +answers", text) and "Let it answer" in text


def test_the_page_for_people_asks_again_for_networks_only_while_they_are_seen(app, tmp_path, monkeypatch):
    asked = []
    versions = SimpleNamespace(all=lambda: asked.append(1) or [Version(0, None)] * 200)
    learner = SimpleNamespace(version=0, versions=versions, status=lambda **_: {"status": "RUNNING"})
    monkeypatch.setattr(QuietApp, "learner", learner, raising=False)
    monkeypatch.setattr(app, "info", lambda: {"models": {f"model {n}": {} for n in range(200)}, "labels": []})
    with listening(create_app()) as server:
        page_of(f"{server}/", tmp_path / "profile")
        unseen = len(asked)
        page_of(f"{server}/#learning", tmp_path / "profile")
    assert unseen == 1 and len(asked) > 2


def test_the_page_for_people_says_so_where_nothing_learns(app, tmp_path):
    with listening(create_app()) as server:
        text = page_of(f"{server}/", tmp_path / "profile")
    assert "this server does not learn" in text and 'id="learns" hidden' in text


def test_the_page_for_people_shows_how_far_a_click_is_and_cancels_it(tmp_path):
    network, place = HeldSam(), (By.ID, "jobs")
    with clicking(tmp_path, Opener(network)) as clicks, chrome(tmp_path / "profile", size=(1000, 1600)) as page:
        answer = clicks.click("sam_3d", {"foreground": [list(LEFT)]})
        network.is_asked()
        page.get(f"{clicks.url}/")
        waits = WebDriverWait(page, PATIENCE)
        waits.until(text_to_be_present_in_element(place, "asked 1 of at most 12 slices"))
        assert "sam_3d ct working" in page.find_element(*place).text
        page.execute_script("document.querySelector('#jobs button').click()")  # the table is made anew again and again
        waits.until(text_to_be_present_in_element(place, "ending"))
        network.answers_all()
        assert answer.result(PATIENCE).status_code == 409
        waits.until(text_to_be_present_in_element(place, "nothing waits or is computed"))
        assert page.find_element(By.ID, "cancelled").text == ""


def test_the_page_for_people_says_why_a_click_is_not_cancelled(tmp_path):
    network = HeldSam()
    with clicking(tmp_path, Opener(network)) as clicks, chrome(tmp_path / "profile", size=(1000, 1600)) as page:
        answer = clicks.click("sam_3d", {"foreground": [list(LEFT)]})
        network.is_asked()
        page.get(f"{clicks.url}/")
        waits = WebDriverWait(page, PATIENCE)
        waits.until(text_to_be_present_in_element((By.ID, "jobs"), "Cancel"))
        page.execute_script("cancel({id: 'nobody'})")
        waits.until(text_to_be_present_in_element((By.ID, "cancelled"), "404: no request 'nobody' waits"))
        network.answers_all()
        assert answer.result(PATIENCE).status_code == 200
