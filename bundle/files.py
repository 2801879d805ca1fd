"""Writing and checking files."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_atomically(path: Path, write: Callable[[str], object]) -> Path:
    """Let a file appear under its name only when it is complete.

    Args:
        path: the file; its folder is made.
        write: is given the name of a temporary file in the same folder and fills it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    try:
        write(partial)
        os.chmod(partial, 0o644)  # mkstemp's files are private
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
    return path
