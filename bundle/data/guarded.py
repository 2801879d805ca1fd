"""Reading of files from outside in a process of its own, so that none of them can end, stop or fill the server.

The libraries that read images are large and written in C and C++; a header check (``bundle.data.headers``) keeps away
what is known to break them, a process of its own contains the rest. A small process without PyTorch stands ready with
the readers imported (``bundle.data.reading_process``) and forks for each file; the child may use so much memory, CPU
time and time, and hands the voxels over in memory that both share.

Medians in one run, guarded and direct readings in turn, on a busy machine: 178 and 100 ms for a CT of 122 x 101 x 112
(.nii.gz); for 44 million voxels 1.2 times as long from .nii.gz, 1.3 from compressed .mha, 1.7 from uncompressed .nrrd.
The first reading waits for the process to start, about a second. On systems other than Linux each file starts a new
process, which costs that second every time; Windows knows no limits of memory, there the time-out alone is sure.

The arguments and results are those of ``bundle.data.volume``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import mmap
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import bundle
from bundle.data.limits import LIMITS, Limits, variable_of
from bundle.data.volume import Segment, Volume
from bundle.errors import BusyError, SeriesError, VolumeError

__all__ = ["read_label", "read_volume", "read_with", "start"]

logger = logging.getLogger(__name__)

_MODULE = "bundle.data.reading_process"
_ROOT = Path(bundle.__file__).resolve().parent.parent
# The child's own alarm ends it in time; these seconds are for a machine too busy to deliver it.
_GRACE = 5.0
_LONGEST_REPLY = 2**20
_HAS_FORK_SERVER = sys.platform == "linux"
_readers = threading.BoundedSemaphore(LIMITS.readers)
# A file could make its reader tell what that knows; it gets no variable whose name says that it holds a secret.
_SECRET = re.compile(r"TOKEN|PASSWORD|SECRET|CREDENTIAL|API_KEY", re.IGNORECASE)


def read_volume(
    path: str | Path, *, modality: str | None = None, series: str | None = None, limits: Limits = LIMITS
) -> Volume:
    """``bundle.data.volume.read_volume`` in another process.

    Args:
        path: file, or folder of a DICOM series.
        modality: as there.
        series: as there.
        limits: its ``read_seconds`` and ``read_bytes`` hold for that process.

    Raises:
        VolumeError: as there, or reading crashed, took too long or too much memory.
        BusyError: too many other files are being read.
    """
    return _read("bundle.data.volume:read_volume", Path(path), {"modality": modality, "series": series}, limits)


def read_label(path: str | Path, *, series: str | None = None, limits: Limits = LIMITS) -> Volume:
    """``bundle.data.volume.read_label`` in another process.

    Raises:
        VolumeError: as there, or reading crashed, took too long or too much memory.
        BusyError: too many other files are being read.
    """
    return _read("bundle.data.volume:read_label", Path(path), {"series": series}, limits)


def read_with(reader: str, path: Path, *, limits: Limits = LIMITS, **options: Any) -> Volume:
    """Call any reader of a file in another process.

    Args:
        reader: ``module:function``; it is called with the path and the options, which must be JSON, and gives a Volume.
        path: of the file.
        limits: its ``read_seconds`` and ``read_bytes`` hold for that process.
        **options: of the reader.

    Raises:
        VolumeError: as the reader does, or it crashed, took too long or too much memory.
    """
    return _read(reader, path, options, limits)


def start() -> None:
    """Start the process that reads, without waiting for it: a server does so before its first request."""
    if _HAS_FORK_SERVER:
        _process.ensure()


def _read(reader: str, path: Path, options: dict[str, Any], limits: Limits) -> Volume:
    request = {
        "reader": reader,
        "path": os.path.abspath(path),
        "options": options,
        "seconds": limits.read_seconds,
        "bytes": limits.read_bytes,
    }
    with _a_reader(path, limits):
        begin = time.monotonic()
        reply, buffer = (_ask_forked if _HAS_FORK_SERVER else _ask_new_process)(request)
        seconds = time.monotonic() - begin
    if not reply:
        is_late = seconds >= limits.read_seconds
        raise _failure(path, f"takes longer than {_limit('read_seconds', limits)}" if is_late else "crashed")
    answer = json.loads(reply)
    if answer.get("is_out_of_memory"):
        raise _failure(path, f"takes more memory than {_limit('read_bytes', limits)}")
    if "choose" in answer:
        raise SeriesError(**answer["choose"])
    if "error" in answer:
        raise VolumeError(answer["error"])
    return _volume_of(answer, buffer, path)


@contextlib.contextmanager
def _a_reader(path: Path, limits: Limits) -> Iterator[None]:
    """One of the ``LIMITS.readers`` processes that this server lets read at once: each may take ``read_bytes``."""
    if not _readers.acquire(timeout=limits.wait_seconds):
        raise BusyError(
            f"cannot read {path.name} now: {LIMITS.readers} other files ({variable_of('readers')}) have been read for "
            f"{limits.wait_seconds} s; try again"
        )
    try:
        yield
    finally:
        _readers.release()


def _limit(name: str, limits: Limits) -> str:
    return f"{getattr(limits, name)} {name.removeprefix('read_')} ({variable_of(name)})"


def _failure(path: Path, what: str) -> VolumeError:
    logger.warning("Reading %s %s", path, what)
    return VolumeError(f"cannot read {path.name}: reading it {what}; if the file is good, save it in another format")


def _volume_of(answer: dict[str, Any], buffer: Any, path: Path) -> Volume:
    """The array lies in the buffer in the order of memory that the reader gave it."""
    dtype, stored = np.dtype(answer["dtype"]), tuple(answer["stored"])
    if dtype.kind not in "uif" or math.prod(stored) * dtype.itemsize > len(buffer):
        raise _failure(path, "crashed")
    array = np.ndarray(stored, dtype, buffer).transpose(answer["axes"])
    other = answer["other_affine"]
    return Volume(
        array,
        np.asarray(answer["affine"], dtype=np.float64),
        answer["modality"],
        path,
        placed=answer["placed"],
        other_affine=None if other is None else np.asarray(other, dtype=np.float64),
        segments=tuple(map(_segment_of, answer["segments"])),
        series=answer["series"],
    )


def _segment_of(answer: dict[str, Any]) -> Segment:
    color = answer["color"]
    return Segment(answer["name"], answer["value"], color if color is None else tuple(color))


# ---- Linux: one process that forks -----------------------------------------------------------------------------------


class _ReadingProcess:
    """The process that forks for each file; started when it is first needed, and again should it end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._door: socket.socket | None = None

    def ensure(self) -> None:
        """Start it if it does not run."""
        with self._lock:
            self._ensure()

    def has_ended(self) -> bool:
        """Whether it was ended from outside, as by a machine short of memory."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process is None or self._process.wait(0.1) is not None
        return False

    def send(self, message: bytes, handles: list[int]) -> None:
        """Let it fork a child for a message, which gets the file handles.

        Raises:
            OSError: it cannot be started.
        """
        with self._lock:
            try:
                socket.send_fds(self._ensure(), [message], handles)
            except (BrokenPipeError, ConnectionResetError):  # it has just ended
                self._process = None
                socket.send_fds(self._ensure(), [message], handles)

    def _ensure(self) -> socket.socket:
        if self._process is None or self._process.poll() is not None or self._door is None:
            # Packets, so that requests of several threads do not run together. It ends when our side is closed.
            self._door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                command = [sys.executable, "-m", _MODULE, str(theirs.fileno())]
                self._process = subprocess.Popen(
                    command, env=_environment(), cwd=_ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
                )
        return self._door


_process = _ReadingProcess()


def _ask_forked(request: dict[str, Any]) -> tuple[bytes, Any]:
    """The reply, empty if there is none, and the memory with the voxels, which goes with its last user."""
    reply, buffer = _ask_once(request)
    return (reply, buffer) if reply or not _process.has_ended() else _ask_once(request)


def _ask_once(request: dict[str, Any]) -> tuple[bytes, Any]:
    memory = os.memfd_create("monai-sam-volume")
    ours, theirs = socket.socketpair()
    try:
        with ours:
            with theirs:
                _process.send(json.dumps(request).encode(), [theirs.fileno(), memory])
            reply = _receive(ours, time.monotonic() + request["seconds"] + _GRACE)
        size = os.fstat(memory).st_size
        return reply, mmap.mmap(memory, size) if size else b""
    finally:
        os.close(memory)


def _receive(connection: socket.socket, deadline: float) -> bytes:
    """Everything up to the other side's end; nothing if that does not come in time."""
    reply = b""
    while len(reply) <= _LONGEST_REPLY:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            block = connection.recv(2**16)
        except (TimeoutError, ConnectionResetError):
            return b""
        if not block:
            return reply
        reply += block
    return b""


# ---- elsewhere: a new process for each file --------------------------------------------------------------------------


def _ask_new_process(request: dict[str, Any]) -> tuple[bytes, Any]:
    with tempfile.TemporaryDirectory(prefix="monai-sam-reading-") as folder:
        voxels, reply = Path(folder, "voxels"), Path(folder, "reply")
        message = json.dumps({**request, "voxels": str(voxels), "reply": str(reply)})
        try:
            subprocess.run(
                [sys.executable, "-m", _MODULE],
                input=message.encode(),
                env=_environment(),
                cwd=_ROOT,
                timeout=request["seconds"] + _GRACE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return b"", b""
        return tuple(bytearray(file.read_bytes()) if file.exists() else b"" for file in (reply, voxels))


def _environment() -> dict[str, str]:
    """Ours, with the same modules to be found and one thread: a fork must not lose others."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    return {
        **{name: value for name, value in os.environ.items() if not _SECRET.search(name)},
        **dict.fromkeys(threads, "1"),
        "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, sys.path)]),
    }
