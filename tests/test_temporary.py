"""The temporary files of a server do not outlive it for long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from monailabel_app.server.temporary import own_temporary_folder


@pytest.fixture
def common(tmp_path, monkeypatch) -> Path:
    """Stands for /tmp."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_temporary_files_go_with_the_block(common):
    with own_temporary_folder() as folder:
        handle, path = tempfile.mkstemp()
        os.close(handle)
        assert Path(path).parent == folder == Path(os.environ["TMPDIR"])
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(common.iterdir()) == [] and os.environ["TMPDIR"] == tempfile.gettempdir() == str(common)


def test_temporary_files_go_when_the_block_fails(common):
    with pytest.raises(KeyError), own_temporary_folder():
        raise KeyError
    assert list(common.iterdir()) == []


def test_what_a_killed_server_left_goes_at_the_next_start_and_a_living_ones_stays(common):
    program = """
import os, sys
from monailabel_app.server.temporary import own_temporary_folder
with own_temporary_folder() as folder:
    (folder / "patient.nii.gz").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    killed, living = (Path(process.stdout.readline().strip()) for process in started)
    try:
        started[0].send_signal(signal.SIGKILL)
        started[0].wait()
        assert (killed / "patient.nii.gz").exists()
        with own_temporary_folder():
            assert not killed.exists() and (living / "patient.nii.gz").exists()
        started[1].communicate("")
        assert list(common.iterdir()) == []
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_a_folder_of_that_name_without_a_lock_is_left_alone(common):
    (common / "monai-sam-server-mine").mkdir()
    with own_temporary_folder():
        pass
    assert (common / "monai-sam-server-mine").is_dir()
