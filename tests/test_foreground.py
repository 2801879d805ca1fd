"""A server in the terminal is checked before it loads, and says that it listens when it does."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from bundle.errors import FamilyError, OptionError
from monailabel_app import foreground
from monailabel_app.foreground import check_start, run_in_foreground
from monailabel_app.server.launch import free_port

# A server that answers one connection and ends.
ANSWERS = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); s.accept(); sys.exit(3)"


def test_a_port_that_is_taken_is_refused_before_anything_loads():
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OptionError, match="choose another with --port"),
    ):
        check_start("127.0.0.1", taken.getsockname()[1], {})


@pytest.mark.parametrize("port", [-1, 70000])
def test_a_port_that_cannot_be_is_refused(port):
    with pytest.raises(OptionError, match=f"cannot listen on 127.0.0.1:{port}"):
        check_start("127.0.0.1", port, {})


@pytest.mark.parametrize(
    ("conf", "error", "message"),
    [
        ({"family": "nosuch"}, FamilyError, "no family 'nosuch'; known are"),
        ({"checkpoint": "nowhere.pt"}, OptionError, "there is no checkpoint nowhere.pt"),
    ],
)
def test_a_family_or_weights_that_are_not_there_are_refused(conf, error, message):
    with pytest.raises(error, match=message):
        check_start("127.0.0.1", free_port(), conf)


def test_weights_that_were_not_downloaded_are_named_with_the_command_that_does(monkeypatch, tmp_path):
    monkeypatch.setenv("MONAI_SAM_HOME", str(tmp_path))
    with pytest.raises(FamilyError, match="monai-sam download medsam"):
        check_start("127.0.0.1", free_port(), {"family": "medsam"})


def test_what_can_start_passes():
    check_start("127.0.0.1", free_port(), {})


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
