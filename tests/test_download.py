"""Weights are fetched once, checked before they appear, and every failure says what to do."""

from __future__ import annotations

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import gdown
import pytest
from click.testing import CliRunner

from bundle.commands.download import download
from bundle.families.download import (
    SOURCES,
    DownloadError,
    check_weights,
    fetch_weights,
    hash_status,
    published,
    registered,
)
from bundle.families.family import Family, load_family

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT, with or without ranges, whole or broken off."""

    ranges = True
    break_off = False
    requests: ClassVar[list[str | None]] = []

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.requests.append(wanted)
        start = int(re.match(r"bytes=(\d+)-", wanted)[1]) if wanted and self.ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if wanted and self.ranges else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : start + 100_000] if self.break_off else CONTENT[start:])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    """The handler class of a server on this machine, and its address."""
    handler = type("Handler", (Server,), {"requests": []})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler.url = f"http://127.0.0.1:{http.server_port}/weights.pth"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield handler
    http.shutdown()
    http.server_close()


def family(url: str | None, **changes: object) -> Family:
    checkpoint = {"file": "models/downloads/weights.pth", "url": url, "size": len(CONTENT), "sha256": SHA256, **changes}
    return Family("mine", "", {}, {}, checkpoint=checkpoint)


def test_a_file_is_fetched_and_checked(server, tmp_path):
    path = fetch_weights(family(server.url), folder=tmp_path, progress=False)
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["weights.pth"]


def test_a_file_that_is_here_is_not_fetched_again(server, tmp_path):
    for _ in range(2):
        fetch_weights(family(server.url), folder=tmp_path, progress=False)
    assert len(server.requests) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on(server, tmp_path, ranges):
    server.ranges, server.break_off = ranges, True
    with pytest.raises(DownloadError, match="put the file at"):
        fetch_weights(family(server.url), folder=tmp_path, progress=False)
    assert not (tmp_path / "models/downloads/weights.pth").exists()
    server.break_off = False
    assert fetch_weights(family(server.url), folder=tmp_path, progress=False).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=65536-"]


def test_a_complete_partial_file_is_only_checked(server, tmp_path):
    partial = tmp_path / "models/downloads/weights.pth.part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT)
    fetch_weights(family(server.url, size=None), folder=tmp_path, progress=False)
    assert not partial.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "must have the sha256 000"),
        ({"sha256": None, "md5": "0" * 32}, "must have the md5 000"),
        ({"size": 5}, "must have 5 bytes"),
    ],
)
def test_another_file_than_the_published_one_never_appears(server, tmp_path, changes, message):
    with pytest.raises(DownloadError, match=message):
        fetch_weights(family(server.url, **changes), folder=tmp_path, progress=False)
    assert not any((tmp_path / "models" / "downloads").iterdir())


def test_without_a_published_hash_the_first_download_pins_one(server, tmp_path):
    unhashed = family(server.url, sha256=None, size=None)
    assert hash_status(unhashed, folder=tmp_path) == "at first download"
    path = fetch_weights(unhashed, folder=tmp_path, progress=False)
    assert path.with_name("weights.pth.sha256").read_text() == f"{SHA256}  weights.pth\n"
    assert hash_status(unhashed, folder=tmp_path) == "pinned"
    path.write_bytes(b"something else")
    with pytest.raises(DownloadError, match="sha256"):
        fetch_weights(unhashed, folder=tmp_path, progress=False)


def test_without_internet_the_message_says_where_to_put_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(DownloadError, match=r"HTTPS_PROXY.*put the file at .*models/downloads/weights\.pth"):
        fetch_weights(family("http://127.0.0.1:9/weights.pth"), folder=tmp_path, progress=False)


def test_the_proxy_of_the_environment_is_asked(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/weights.pth"))
    fetch_weights(family("http://weights.invalid/weights.pth"), folder=tmp_path, progress=False)
    assert server.requests == [None]


def test_a_missing_page_is_no_file(server, tmp_path):
    server.do_GET = lambda self: self.send_error(404)
    with pytest.raises(DownloadError, match="404"):
        fetch_weights(family(server.url), folder=tmp_path, progress=False)


def test_google_drive_is_left_to_gdown(tmp_path, monkeypatch):
    def download(url, output, **options):
        with open(output, "wb") as file:
            file.write(CONTENT)

    monkeypatch.setattr(gdown, "download", download)
    path = fetch_weights(family("https://drive.google.com/uc?id=1"), folder=tmp_path, progress=False)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (family(None, page="https://example.org/page"), r"see https://example\.org/page and put the file at"),
        (Family("none", "", {}, {}, start="sam_vit_b"), "its training starts from sam_vit_b"),
    ],
)
def test_weights_without_an_address_say_what_to_do(tmp_path, wish, message):
    with pytest.raises(DownloadError, match=message):
        fetch_weights(wish, folder=tmp_path)


@pytest.mark.parametrize("entry", registered(), ids=lambda family: family.name)
def test_every_entry_says_what_its_weights_are_and_who_says_so(entry):
    checkpoint, sources = entry.checkpoint, entry.checkpoint["sources"]
    assert checkpoint["licence"] and checkpoint["citation"]
    assert set(sources) == set(SOURCES) and all(len(text) >= 13 for text in sources.values())
    for name, length in (("sha256", 64), ("md5", 32)):
        value = checkpoint.get(name)
        assert value is None or re.fullmatch(rf"[0-9a-f]{{{length}}}", value)
    assert (checkpoint["size"] is None) == sources["size"].startswith("not published")
    assert (checkpoint["sha256"] is None) == ("not published" in sources["hash"] or "no sha256" in sources["hash"])
    assert checkpoint["size"] is None or checkpoint["size"] > 1_000_000


def test_the_list_shows_size_hash_licence_and_where_each_was_published():
    printed = CliRunner().invoke(download, ["--list"]).output
    for entry in published():
        row = printed[printed.index(f"\n{entry.name} ") :].split("\n\n")[0]
        about = [entry.checkpoint["licence"], entry.checkpoint["sha256"] or "not published"]
        assert all(text in row for text in (*about, *entry.checkpoint["sources"].values()))
    assert "not published" in printed and "375 MB" in printed


def test_shipped_weights_are_what_the_registry_says():
    default = load_family("default")
    if default.checkpoint_path.is_file():
        check_weights(default.checkpoint_path, default)
