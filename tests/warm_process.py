"""`python -m monai.bundle` in a process of its own that does not import PyTorch and MONAI anew, which take its time.

The process is forked from one that has done nothing but import them (multiprocessing's fork server): none of our
modules is loaded, and nothing of another test. Its environment is that of the caller.
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
        try:
            process.join(300)
            code = process.exitcode
        finally:
            end(process)
        out, err = (Path(logs, name).read_text("utf-8", errors="replace") for name in ("out", "err"))
        if code is None:
            raise TimeoutExpired(list(arguments), 300, out, err)
        return CompletedProcess(list(arguments), code, out, err)


def end(process: multiprocessing.Process) -> None:
    """Kill it if it runs: nobody else would."""
    process.kill()
    process.join()


def start_warm(
    folder: Path, *arguments: object, environment: Mapping[str, str] | None = None, logs: Path
) -> multiprocessing.Process:
    """Start it and go on; what it prints lies in `out` and `err` in the folder of logs."""
    words = [str(word) for word in arguments]
    where = (str(folder), words, {**os.environ, **(environment or {})}, logs / "out", logs / "err")
    for path in where[-2:]:
        path.touch()
    process = _FORKED.Process(target=_monai_bundle, args=where)
    process.start()
    return process


def _monai_bundle(folder: str, words: Sequence[str], environment: Mapping[str, str], out: Path, err: Path) -> None:
    """What an interpreter does with `-m monai.bundle`, up to the exit code."""
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    if "OMP_NUM_THREADS" in environment:  # PyTorch has read it already
        import torch

        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.argv[1:] = words
    code = 0
    try:
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
        code = leaving.code if isinstance(leaving.code, int) else leaving.code is not None
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code))
