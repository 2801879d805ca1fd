"""How the server is started: one place for ``make serve``, ``make demo`` and the tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bundle.waiting import PASSIVE
from monailabel_app.server.access import Accounts, SettingsError
from monailabel_app.server.reach import HOST, check_old_login_is_off

__all__ = ["HOST", "ServerError", "SettingsError", "running_server", "server_command", "server_environment"]

APP = Path(__file__).resolve().parent.parent
START = "monailabel_app.server.start"
SERVER = "monailabel_app.server.app:app"

SETTINGS: Mapping[str, str] = {
    **PASSIVE,
    "MONAI_LABEL_TRACKING_ENABLED": "false",  # MLflow refuses the file store that MONAI Label would open
    "MONAI_LABEL_TASKS_BATCH_INFER": "false",  # clicks come one at a time
    "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
    "MONAI_LABEL_DATASTORE_FILE_EXT": '["*"]',  # whatever the bundle reads; MONAI Label's list has whole-slide images
}


class ServerError(RuntimeError):
    """The server did not start; its log says why (``log_tail``)."""


def server_command(
    studies: str,
    *,
    port: int,
    conf: Mapping[str, str] | None = None,
    host: str = HOST,
    tls: tuple[str, str] | None = None,
) -> list[str]:
    """The command line of the server.

    Args:
        studies: folder of images, or address of a DICOMweb server.
        port: TCP port.
        conf: options of the app (``monailabel_app.main.MonaiSam``).
        host: address to listen on; any but this machine's own asks for accounts and TLS (``reach.check_reach``).
        tls: files of a certificate and its key.
    """
    command = [sys.executable, "-m", START, "start_server", "--studies", studies]
    command += ["--host", host, "--port", str(port), "--uvicorn_app", SERVER]
    if tls is not None:
        certificate, key = (str(Path(file).resolve()) for file in tls)
        command += ["--ssl_certfile", certificate, "--ssl_keyfile", key]
    for name, value in (conf or {}).items():
        command += ["--conf", name, full_path(name, value)]
    return command


def full_path(name: str, value: str) -> str:
    """An option of the app as the server takes it, which starts in another folder: files and folders in full."""
    is_folder = name in ("sessions", "learning") and value != "off"
    return str(Path(value).expanduser().resolve()) if is_folder or Path(value).is_file() else value


def server_environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of the server: what is set already wins over our defaults, ``settings`` over both.

    Raises:
        SettingsError: MONAI Label's login is asked for, or accounts that cannot be used.
    """
    environment = {**SETTINGS, **os.environ, **(settings or {})}
    check_old_login_is_off(environment.get("MONAI_LABEL_AUTH_ENABLE", ""))
    Accounts.from_environment(environment)
    return environment


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


@contextmanager
def running_server(
    studies: Path | str,
    *,
    log: Path,
    conf: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    timeout: float = 180.0,
) -> Iterator[str]:
    """Run a server on a free port while the block runs; gives its address.

    Args:
        studies: folder of images, or address of a DICOMweb server.
        log: file for its output.
        conf: options of the app.
        settings: environment variables for it.
        timeout: seconds to wait for its first answer.

    Raises:
        ServerError: it stopped, or did not answer in time.
        SettingsError: a login is asked for.
    """
    where = str(studies.resolve()) if isinstance(studies, Path) else studies
    port = free_port()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        # It starts in the app's folder: MONAI Label reads a file .env of the current one, and takes it for its own.
        process = subprocess.Popen(
            server_command(where, port=port, conf=conf),
            env=server_environment(settings),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=APP,
        )
        try:
            url = f"http://{HOST}:{port}"
            wait_until_ready(url, process, timeout)
            yield url
        finally:
            _stop(process)


def log_tail(log: Path, lines: int = 30) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def wait_until_ready(url: str, process: subprocess.Popen, timeout: float) -> None:
    """Wait until a server of ours that was started answers ``/healthz``.

    Raises:
        ServerError: it stopped, or did not answer within so many seconds.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerError(f"the server stopped with status {process.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    raise ServerError(f"the server gave no answer within {timeout:.0f} s")


def _stop(process: subprocess.Popen, patience: Sequence[tuple[signal.Signals, float]] = ()) -> None:
    for number, seconds in patience or ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        if process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
