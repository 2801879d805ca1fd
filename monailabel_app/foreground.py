"""A server in the terminal: its port is checked first, and the banner comes when it answers.

This process imports no PyTorch: the server does, and checks family and weights as soon as it has (`server.start`).
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from bundle.errors import OptionError

_POLL_SECONDS = 0.25


def check_port(host: str, port: int) -> None:
    """Refuse a port that is taken, before the server loads for a minute.

    Raises:
        OptionError: the port cannot be had.
    """
    try:
        with socket.create_server((host, port)):
            pass
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OptionError(f"cannot listen on {host}:{port} ({reason}); choose another with --port") from error


def run_in_foreground(
    command: Sequence[str], environment: Mapping[str, str], *, folder: Path, address: tuple[str, int], banner: str
) -> int:
    """Run the server until it ends or is stopped; returns its exit status.

    Args:
        command, environment: of the server.
        folder: that it starts in.
        address: host and port that it will listen on.
        banner: printed when it does.
    """
    print(f"Loading the model; the server will listen on {address[0]}:{address[1]} ...", flush=True)
    process = subprocess.Popen(list(command), env=dict(environment), cwd=folder)

    def stop(number: int, _: FrameType | None) -> None:
        process.terminate()  # also on Ctrl-C: a second one of those would end the server before it has cleaned up

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    listens = False
    while not listens and process.poll() is None:
        time.sleep(_POLL_SECONDS)
        listens = _answers(address)
    if listens:
        print(banner, flush=True)
    else:
        print("error: the server did not start; the reason stands above", file=sys.stderr)
    return process.wait()


def _answers(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=1):
            return True
    except OSError:
        return False
