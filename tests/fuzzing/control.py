"""Doors that are faulty on purpose: a fuzzer that does not find their faults proves nothing about the others."""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from pathlib import Path

from bundle.errors import VolumeError
from fuzzing import known, seeds
from fuzzing.mutate_text import mutate_nrrd
from fuzzing.targets import Target

# Every verdict but the right ones, and how ``faulty`` comes by it.
EXPECTED = {"crash", "hang", "traceback", "memory", "canary", "outside", "leftover"}

_LIBRARY = ctypes.CDLL(None)


def faulty(path: str) -> object:
    """A reader of NRRD headers with one fault of each kind, which right files do not touch."""
    header = Path(path).read_bytes().partition(b"\n\n")[0].decode("latin-1")
    fields = dict(line.split(": ", 1) for line in header.split("\n") if ": " in line)
    if "type" not in fields:
        raise VolumeError("expected a type, got none")
    if "data file" in fields:
        _read_unseen(os.path.join(os.path.dirname(path), fields["data file"]))
    if fields.get("encoding") == "hex":
        open("/etc/hostname").close()
    if "bzip" in fields.get("encoding", ""):
        tempfile.mkstemp()
    sizes = [int(word) for word in fields["sizes"].split()]
    if fields["dimension"].startswith("-"):
        ctypes.string_at(16)
    if sizes and min(sizes) == 0:
        while True:
            pass
    if max(sizes, default=0) > 60000:
        return _fresh_memory(min(max(sizes) * 2000, 1 << 29))
    return sizes


def _fresh_memory(size: int) -> mmap.mmap:
    """Memory that nobody had before: an allocator may hand out what an earlier test gave back to it."""
    held = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    held[:: mmap.PAGESIZE] = b"x" * -(-size // mmap.PAGESIZE)
    return held


def _read_unseen(path: str) -> None:
    """Read by the C library, where Python's audit events do not see it."""
    handle = _LIBRARY.open(path.encode(), os.O_RDONLY)
    if handle >= 0:
        _LIBRARY.read(handle, ctypes.create_string_buffer(16), 16)
        _LIBRARY.close(handle)


CONTROL = Target("control", faulty, seeds.nrrd, known.nrrd, {"": mutate_nrrd}, cpu_seconds=3.0)
