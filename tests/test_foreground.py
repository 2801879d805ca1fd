"""A server in the terminal is checked before it loads, and says that it listens when it does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from bundle.errors import OptionError
from monailabel_app import foreground
from monailabel_app.foreground import check_port, run_in_foreground
from monailabel_app.server.launch import free_port

# A server that answers one connection and ends.
ANSWERS = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); s.accept(); sys.exit(3)"


def test_a_port_that_is_taken_is_refused_before_anything_loads():
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OptionError, match="choose another with --port"),
    ):
        check_port("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("port", [-1, 70000])
def test_a_port_that_cannot_be_is_refused(port):
    with pytest.raises(OptionError, match=f"cannot listen on 127.0.0.1:{port}"):
        check_port("127.0.0.1", port)


def test_a_free_port_passes():
    check_port("127.0.0.1", free_port())


def test_the_process_in_the_terminal_imports_no_pytorch():
    program = "import sys, monailabel_app.serve; sys.exit(bool({'torch', 'numpy', 'monai'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize(
    ("program", "status", "banner"), [(ANSWERS, 3, "listens on it\n"), ("import sys; sys.exit(5)", 5, "")]
)
def test_the_banner_comes_when_the_server_answers(monkeypatch, tmp_path, capsys, program, status, banner):
    monkeypatch.setattr(foreground.signal, "signal", lambda *_: None)
    address = ("127.0.0.1", free_port())
    command = [sys.executable, "-c", program, str(address[1])]
    assert run_in_foreground(command, os.environ, folder=tmp_path, address=address, banner="listens on it") == status
    said, complaint = capsys.readouterr()
    assert said == f"Loading the model; the server will listen on 127.0.0.1:{address[1]} ...\n{banner}"
    assert ("the reason stands above" in complaint) == (not banner)
