"""Time the commands from outside: until they answer, beside an older version, and two workers beside one.

    git worktree add ../before 8c9f5a8
    python scripts/benchmark_commands.py start --before ../before     # help, one slice, server: before and now in turns
    python scripts/benchmark_commands.py workers                      # a folder of studies by one worker and by two
    python scripts/tables.py                                          # the tables in docs/performance.md

Each process has one thread. Beside the seconds of the clock stand those of the processor (user and system time of the
process and its children), which depend less on what else the machine does. The older version had no command of its own;
what it was asked for stands in `BEFORE`, as its README had it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import write_volume
from bundle.errors import OptionError, explain_errors
from bundle.families.family import BUNDLE_ROOT
from bundle.files import read_json, write_text

RESULTS = BUNDLE_ROOT / "docs" / "results" / "commands.json"
NOW = [sys.executable, "-m", "bundle.commands.main"]
BUNDLE = [sys.executable, "-m", "monai.bundle", "run"]
CT, PROMPTS, OUT = "{folder}/ct.nii.gz", "{folder}/prompts.json", "{out}"
BEFORE = {
    "help": [*BUNDLE, "--", "--help"],
    "segment": [
        *(*BUNDLE, "--config_file", "{root}/configs/inference.json", "--image", CT, "--prompts", PROMPTS),
        *("--dimension", "2", "--output_dir", OUT),
    ],
    "serve": [sys.executable, "{root}/scripts/serve.py", "{folder}/studies", "--port", "{port}"],
}
AFTER = {
    "help": [*NOW, "--help"],
    "segment": [*NOW, "segment", CT, "--prompts", PROMPTS, "--slices", "-o", OUT],
    "serve": [*NOW, "serve", "{folder}/studies", "--port", "{port}"],
}
STUDIES = 24  # a worker's start is then a thirtieth of the work of one
SHAPE, SPACING = (96, 84, 24), (4.0, 4.0, 8.0)
LIMIT_SECONDS = 600.0


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and put the result beside those of the other measurement."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("start", "workers"))
    parser.add_argument("--before", type=Path, help="folder of the older version, for start")
    parser.add_argument("--pairs", type=int, default=3, help="how often each is measured")
    parser.add_argument("--studies", type=int, default=STUDIES, help="of workers; a dozen seconds of work each")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    if options.what == "start" and options.before is None:
        raise OptionError("start needs --before, the folder of an older version")
    with tempfile.TemporaryDirectory(prefix="monai-sam-commands-") as folder:
        folders = [Path(folder, str(number)) for number in range(options.pairs)]
        if options.what == "start":
            pairs = [in_turns(one, options.before) for one in folders]
        else:
            pairs = [one_and_two_workers(one, options.studies) for one in folders]
    known = read_json(options.results) if options.results.is_file() else {}
    write_text(options.results, json.dumps(known | {options.what: pairs}, indent=1) + "\n")
    print(json.dumps(pairs, indent=1))


def in_turns(folder: Path, before: Path) -> dict[str, Any]:
    """Each thing asked of the older version, then of this one: thing -> before and now -> seconds."""
    image, truth, labels = make_phantom(shape=SHAPE, spacing=SPACING)
    write_volume(image, folder / "ct.nii.gz")
    write_volume(image, folder / "studies" / "ct.nii.gz")
    write_text(folder / "prompts.json", json.dumps({"objects": [box_on_slice(truth.array == labels["liver"])]}))
    pair: dict[str, Any] = {"load": round(os.getloadavg()[0], 1)}
    for thing in BEFORE:
        for when, root, commands in (("before", before.resolve(), BEFORE), ("now", BUNDLE_ROOT, AFTER)):
            out, port = folder / when, free_port()
            command = [word.format(root=root, folder=folder, out=out, port=port) for word in commands[thing]]
            ready = {"help": None, "segment": (out / "ct.nii.gz").is_file, "serve": lambda port=port: answers(port)}
            pair.setdefault(thing, {})[when] = until(ready[thing], command, root=root, folder=folder)
    return pair


def one_and_two_workers(folder: Path, studies: int) -> dict[str, Any]:
    """A folder of studies with a table of boxes, by one worker and by two: clock, and processor of each worker."""
    rows = ["image,name,label,i0,i1,j0,j1,k0,k1"]
    for number in range(studies):
        image, truth, labels = make_phantom(shape=SHAPE, spacing=SPACING, seed=number)
        write_volume(image, folder / "images" / f"ct{number}.nii.gz")
        for organ in ("liver", "spleen"):
            first, last = corners(truth.array == labels[organ])
            ends = [str(end) for pair in zip(first, last, strict=True) for end in pair]
            rows.append(",".join([f"ct{number}.nii.gz", organ, str(labels[organ]), *ends]))
    write_text(folder / "boxes.csv", "\n".join(rows) + "\n")
    pair: dict[str, Any] = {"load": round(os.getloadavg()[0], 1), "studies": studies}
    for count in (1, 2):
        out = folder / f"{count}"
        command = [*NOW, "segment", str(folder / "images"), "--prompts", str(folder / "boxes.csv"), "-o", str(out)]
        started = time.perf_counter()
        workers = [start(command, root=BUNDLE_ROOT, folder=folder, number=number) for number in range(count)]
        spent = [processor_seconds_of_ended(worker, folder / "log") for worker in workers]
        pair[str(count)] = {"clock": round(time.perf_counter() - started, 1), "processor": spent}
        if len(list(out.glob("ct*.nii.gz"))) != studies:
            raise OptionError(f"not all studies were segmented, see {folder}/log")
    return pair


# ---- processes ------------------------------------------------------------------------------------------------------


def until(ready: Callable[[], bool] | None, command: Sequence[str], *, root: Path, folder: Path) -> dict[str, float]:
    """Seconds of clock and processor until something is there; None is until the process has ended."""
    started = time.perf_counter()
    process = start(command, root=root, folder=folder)
    if ready is None:
        spent = processor_seconds_of_ended(process, folder / "log")
        return {"clock": round(time.perf_counter() - started, 2), "processor": spent}
    spent = 0.0
    try:
        while not ready():
            with suppress(psutil.NoSuchProcess):
                spent = max(spent, processor_seconds(process.pid))
            if (process.poll() is not None and not ready()) or time.perf_counter() - started > LIMIT_SECONDS:
                raise OptionError(f"{command} gave nothing: {_end_of(folder / 'log')}")
            time.sleep(0.05)
        return {"clock": round(time.perf_counter() - started, 2), "processor": round(spent, 2)}
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def start(command: Sequence[str], *, root: Path, folder: Path, number: int = 0) -> subprocess.Popen:
    """A process of one thread over the code in a folder, as the worker of a number."""
    settings: Mapping[str, str] = {
        "PYTHONPATH": str(root),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "CUDA_VISIBLE_DEVICES": "",
        "XDG_STATE_HOME": str(folder / "state"),
        "JOB_COMPLETION_INDEX": str(number),
    }
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command, env={**os.environ, **settings}, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )


def processor_seconds(pid: int) -> float:
    """User and system time of a process that runs, with its children, those that have ended too."""
    spent = 0.0
    process = psutil.Process(pid)
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            spent += sum(one.cpu_times()[:4])
    return spent


def processor_seconds_of_ended(process: subprocess.Popen, log: Path) -> float:
    """Wait for the end of a process and say what it took with its children."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise OptionError(f"{process.args} ended with exit code {process.returncode}: {_end_of(log)}")
    return round(usage.ru_utime + usage.ru_stime, 2)


def _end_of(log: Path) -> str:
    return log.read_text("utf-8", errors="replace")[-2000:]


def answers(port: int) -> bool:
    """Whether a server says what it offers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/info/", timeout=30) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def corners(mask: np.ndarray) -> list[list[int]]:
    """The first and the last voxel of a mask along each axis."""
    return [[int(ends(axis)) for axis in mask.nonzero()] for ends in (np.min, np.max)]


def box_on_slice(mask: np.ndarray) -> dict[str, Any]:
    """A prompt: the box around what the middle slice has of a mask."""
    middle = int(np.median(mask.nonzero()[2]))
    alone = np.zeros_like(mask)
    alone[..., middle] = mask[..., middle]
    return {"name": "liver", "label": 1, "box": corners(alone)}


if __name__ == "__main__":
    main()
