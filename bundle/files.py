"""Writing and checking files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_json(path: Path) -> Any:
    """The content of a JSON file, in UTF-8 (with the mark that Windows puts in front, or without) or UTF-16.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON.
    """
    return json.loads(path.read_bytes())  # bytes: the encoding is JSON's, not that of this computer's locale


def write_text(path: Path, text: str, *, mode: int = 0o644) -> Path:
    """Write a text in UTF-8, whatever the locale, as `write_atomically` does."""
    return write_atomically(path, lambda partial: Path(partial).write_text(text, encoding="utf-8"), mode=mode)


def write_atomically(path: Path, write: Callable[[str], object], *, mode: int = 0o644) -> Path:
    """Let a file appear under its name only when it is complete and on the disk; until then the one from before stays.

    A process that is killed leaves a hidden file ``.….part`` behind and nothing else.

    Args:
        path: the file; its folder is made. A symbolic link is replaced, not followed.
        write: is given the name of a temporary file in the same folder and fills it.
        mode: who may read the file; 0o600 is its owner alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    os.close(handle)
    try:
        write(partial)
        os.chmod(partial, mode)  # mkstemp's files are private
        _flush(partial)  # else a power cut could leave the new name on an empty file
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
    _flush(path.parent)
    return path


def _flush(path: str | Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if os.name != "posix":  # elsewhere a folder cannot be opened, nor a file flushed that was opened for reading
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot flush a folder
            raise
    finally:
        os.close(handle)
