"""A real browser for the tests; they skip where there is none."""

from __future__ import annotations

import contextlib
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def browser() -> str:
    """The program; the test skips where there is none."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    return found or pytest.skip("needs a browser: apt-get install chromium")


def page_of(address: str, profile: Path, *, seconds: int = 120) -> str:
    """What a page is once its scripts have run, as HTML."""
    command = [
        browser(),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
    ]
    command += ["--disable-background-networking", "--disable-extensions", f"--user-data-dir={profile}"]
    command += ["--virtual-time-budget=20000", "--dump-dom", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True).stdout


@dataclass
class Page:
    """A page of another origin than the server's.

    Attributes:
        html: what it is; it may be set later.
        address: where it is.
    """

    html: str = ""
    address: str = ""


@contextlib.contextmanager
def serving_page() -> Iterator[Page]:
    """A page that a server of its own gives to whoever asks."""
    page = Page()

    class Reply(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = page.html.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Reply)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    page.address = f"http://localhost:{server.server_address[1]}"
    try:
        yield page
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
