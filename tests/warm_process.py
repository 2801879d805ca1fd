"""`python -m monai.bundle` in a process of its own that does not import PyTorch and MONAI anew, which take its time.

The process is forked from one that has done nothing but import them (multiprocessing's fork server), so it finds the
same as a new interpreter: none of our modules is loaded, and nothing of another test.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(["monai.bundle"])


def run_warm(folder: Path, *arguments: object, environment: Mapping[str, str] | None = None) -> CompletedProcess:
    """Run `python -m monai.bundle ARGUMENTS` in a folder and wait for it."""
    with tempfile.TemporaryDirectory() as logs:
        process = start_warm(folder, *arguments, environment=environment, logs=Path(logs))
        process.join(300)
        out, err = (Path(logs, name).read_text("utf-8", errors="replace") for name in ("out", "err"))
        if process.exitcode is None:
            process.kill()
            raise TimeoutExpired(list(arguments), 300, out, err)
        return CompletedProcess(list(arguments), process.exitcode, out, err)


def start_warm(
    folder: Path, *arguments: object, environment: Mapping[str, str] | None = None, logs: Path
) -> multiprocessing.Process:
    """Start it and go on; what it prints lies in `out` and `err` in the folder of logs."""
    words = [str(word) for word in arguments]
    where = (str(folder), words, dict(environment or {}), logs / "out", logs / "err")
    for path in where[-2:]:
        path.touch()
    process = _FORKED.Process(target=_monai_bundle, args=where)
    process.start()
    return process


def _monai_bundle(folder: str, words: Sequence[str], environment: Mapping[str, str], out: Path, err: Path) -> None:
    """What an interpreter does with `-m monai.bundle`, up to the exit code."""
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.update(environment)
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.argv[1:] = words
    code = 0
    try:
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else leaving.code is not None
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code))
