"""Writing and checking files."""

from __future__ import annotations

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


def write_text(path: Path, text: str) -> Path:
    """Write a text in UTF-8, whatever the locale, as `write_atomically` does."""
    return write_atomically(path, lambda partial: Path(partial).write_text(text, encoding="utf-8"))


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
