"""The process in which ``bundle.data.guarded`` reads files; not for use by hand.

With the number of a socket as its argument it forks a child for each request that comes through it, and ends when the
other side does. Without, it serves one request from standard input.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
import os
import signal
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

import bundle.data.volume  # noqa: F401 - imported once for all children, as the formats are
from bundle.data import formats
from bundle.data.headers.claims import damaged
from bundle.errors import SeriesError, VolumeError

logger = logging.getLogger(__name__)

# What ITK calls a lack of memory, in errors that are no MemoryError.
_OUT_OF_MEMORY = ("bad_alloc", "Failed to allocate memory", "Unable to allocate")


def main() -> None:
    """Serve requests: one JSON each, as ``bundle.data.guarded`` writes it."""
    if len(sys.argv) > 1:
        _fork_for_each(socket.socket(fileno=int(sys.argv[1])))
    else:
        request = json.load(sys.stdin)
        _limit_this_process(request["seconds"], request["bytes"])
        with open(request["voxels"], "wb") as out:
            reply = _answer(request, out)
        Path(request["reply"]).write_text(json.dumps(reply), encoding="utf-8")


def _fork_for_each(door: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel clears ended children away
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then closes the door
    formats.import_all()
    gc.freeze()  # a collection in a child would copy every page that holds an object of ours
    while True:
        message, handles, *_ = socket.recv_fds(door, 2**18, 2)
        if not message:
            return
        with contextlib.suppress(OSError):  # no process to be had: the other side sees the connection end
            if os.fork() == 0:
                door.close()
                _serve(json.loads(message), *handles)
        for handle in handles:
            os.close(handle)


def _serve(request: dict[str, Any], connection: int, memory: int) -> None:
    """Answer in the child, and end it whatever happens."""
    try:
        _limit_this_process(request["seconds"], request["bytes"])
        with open(memory, "wb") as out:
            reply = _answer(request, out)
        with socket.socket(fileno=connection) as reply_to:
            reply_to.sendall(json.dumps(reply).encode())
    finally:
        os._exit(0)


def _limit_this_process(seconds: int, memory: int) -> None:
    """Let the kernel end this process after so many seconds, by the clock and of CPU, and refuse it more memory."""
    if not hasattr(signal, "alarm"):  # Windows, where the other side's time-out remains
        return
    import resource

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    for kind, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        _, ceiling = resource.getrlimit(kind)
        most = most if ceiling == resource.RLIM_INFINITY else min(most, ceiling)
        with contextlib.suppress(ValueError, OSError):  # macOS has no limit of address space
            resource.setrlimit(kind, (most, most))
    with contextlib.suppress(OSError):  # if the machine runs out of memory, this process goes before the server does
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")


def _answer(request: dict[str, Any], out: BinaryIO) -> dict[str, Any]:
    """Read a file and write its voxels; the reply says how they lie there, or what is wrong with the file."""
    path = Path(request["path"])
    module, name = request["reader"].split(":")
    try:
        volume = getattr(importlib.import_module(module), name)(path, **request["options"])
        # Most readers give Fortran order; writing it as it lies saves a copy, here and where it is used.
        axes = sorted(range(volume.array.ndim), key=lambda axis: -volume.array.strides[axis])
        stored = np.ascontiguousarray(volume.array.transpose(axes))
        out.write(stored.data.cast("B"))
    except Exception as error:
        return _complaint(error, path)
    return {
        "dtype": stored.dtype.str,
        "stored": stored.shape,
        "axes": np.argsort(axes).tolist(),
        "affine": volume.affine.tolist(),
        "modality": volume.modality,
        "placed": volume.placed,
        "other_affine": None if volume.other_affine is None else volume.other_affine.tolist(),
        "segments": [asdict(segment) for segment in volume.segments],
        "series": volume.series,
    }


def _complaint(error: Exception, path: Path) -> dict[str, Any]:
    cause = error.__cause__ or error
    if isinstance(cause, MemoryError) or any(word in str(cause) for word in _OUT_OF_MEMORY):
        return {"is_out_of_memory": True}
    if isinstance(error, SeriesError):
        return {"choose": {"what": error.what, "choices": error.choices}}
    if isinstance(error, VolumeError):
        return {"error": str(error)}
    # A fault of a library or of ours that this file brought to light: the server goes on, its log says where.
    logger.exception("Reading %s failed", path)
    return {"error": str(damaged(Path(path.name), f"{type(error).__name__}: {error}"))}


if __name__ == "__main__":
    main()
