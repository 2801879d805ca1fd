"""Replies let a browser run nothing, but for the scripts of our own page as they are."""

from __future__ import annotations

import base64
import hashlib

import pytest
from app_room import a_volume, client_of

from monailabel_app.server.safe_headers import page_policy


@pytest.fixture
def client(tmp_path):
    a_volume(tmp_path / "studies" / "ct.nii.gz")
    with client_of(tmp_path / "studies", tmp_path / "sessions") as client:
        yield client


@pytest.mark.parametrize("address", ["/info/", "/datastore/image?image=ct", "/nothing", "/session/x", "/auth/token"])
def test_answers_and_refusals_run_nothing_and_are_kept_nowhere(client, address):
    headers = client.get(address).headers
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store" and headers["referrer-policy"] == "no-referrer"


def test_a_page_may_run_the_scripts_it_has_and_no_others():
    page = '<script>one()</script><script src="/two.js"></script><script type="module">\r\nthree()</script>'
    script = page_policy(page).split("script-src ")[1].split(";")[0].split()
    digests = [base64.b64encode(hashlib.sha256(text).digest()).decode() for text in (b"one()", b"\nthree()")]
    assert script == ["'self'", *(f"'sha256-{digest}'" for digest in digests)]


def test_the_home_page_loads_nothing_from_elsewhere(client):
    reply = client.get("/")
    assert reply.status_code == 200 and "<script>" in reply.text
    policy = reply.headers["content-security-policy"]
    assert "unsafe" not in policy and "http" not in policy and policy.count("sha256-") == 2
    assert "http://" not in reply.text.replace("http://www.w3.org", "") and "https://" not in reply.text
    assert "onclick=" not in reply.text and "style=" not in reply.text  # the policy would stop them
    assert client.get("/docs").status_code == 404
