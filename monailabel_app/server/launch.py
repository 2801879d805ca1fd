"""How the server is started: one place for ``make serve``, ``make demo`` and the tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bundle.errors import MonaiSamError
from bundle.waiting import PASSIVE

APP = Path(__file__).resolve().parent.parent
START = "monailabel_app.server.start"
SERVER = "monailabel_app.server.app:app"
HOST = "127.0.0.1"  # there is no working login in MONAI Label 0.8.5: the server is for this machine only

SETTINGS: Mapping[str, str] = {
    **PASSIVE,
    "MONAI_LABEL_TRACKING_ENABLED": "false",  # MLflow refuses the file store that MONAI Label would open
    "MONAI_LABEL_TASKS_BATCH_INFER": "false",  # clicks come one at a time
    "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
    "MONAI_LABEL_DATASTORE_FILE_EXT": '["*"]',  # whatever the bundle reads; MONAI Label's list has whole-slide images
}


class ServerError(RuntimeError):
    """The server did not start; its log says why (``log_tail``)."""


class SettingsError(MonaiSamError):
    """A setting of the server that cannot be kept."""


def check_login_is_off(wanted: bool | str) -> None:
    """Refuse a login: with MONAI Label 0.8.5's nobody could log in, and half of the routes would stay open.

    Args:
        wanted: the setting ``MONAI_LABEL_AUTH_ENABLE``.

    Raises:
        SettingsError: it asks for one.
    """
    if str(wanted).strip().lower() not in ("", "false", "0", "no", "off", "f", "n"):
        raise SettingsError(
            "MONAI_LABEL_AUTH_ENABLE asks for a login, which this server does not have; it would protect nothing. "
            "Unset it: the server answers this machine only"
        )


def server_command(studies: str, *, port: int, conf: Mapping[str, str] | None = None) -> list[str]:
    """The command line of the server.

    Args:
        studies: folder of images, or address of a DICOMweb server.
        port: TCP port on 127.0.0.1.
        conf: options of the app (``monailabel_app.main.MonaiSam``).
    """
    command = [sys.executable, "-m", START, "start_server", "--app", str(APP), "--studies", studies]
    command += ["--host", HOST, "--port", str(port), "--uvicorn_app", SERVER]
    for name, value in (conf or {}).items():
        # The server starts in another folder: files that are named from this one get their full path.
        command += ["--conf", name, str(Path(value).resolve()) if Path(value).is_file() else value]
    return command


def server_environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of the server: what is set already wins over our defaults, ``settings`` over both.

    The folder of dcmqi's programs is on PATH, else MONAI Label fetches them from the internet for a DICOMweb server.

    Raises:
        SettingsError: a login is asked for.
    """
    environment = {**SETTINGS, **os.environ, **(settings or {})}
    check_login_is_off(environment.get("MONAI_LABEL_AUTH_ENABLE", ""))
    environment["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    return environment


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


@contextmanager
def running_server(
    studies: Path,
    *,
    log: Path,
    conf: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    timeout: float = 180.0,
) -> Iterator[str]:
    """Run a server on a free port while the block runs; gives its address.

    Args:
        studies: folder of images.
        log: file for its output.
        conf: options of the app.
        settings: environment variables for it.
        timeout: seconds to wait for its first answer.

    Raises:
        ServerError: it stopped, or did not answer in time.
        SettingsError: a login is asked for.
    """
    port = free_port()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        # It starts in the app's folder: MONAI Label reads a file .env of the current one, and takes it for its own.
        process = subprocess.Popen(
            server_command(str(studies.resolve()), port=port, conf=conf),
            env=server_environment(settings),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=APP,
        )
        try:
            url = f"http://{HOST}:{port}"
            _wait_until_ready(url, process, timeout)
            yield url
        finally:
            _stop(process)


def log_tail(log: Path, lines: int = 30) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _wait_until_ready(url: str, process: subprocess.Popen, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerError(f"the server stopped with status {process.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/info/", timeout=5):
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
