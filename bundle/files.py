"""Writing and checking files."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import os
import re
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bundle.errors import LimitError, MonaiSamError

logger = logging.getLogger(__name__)

JSON_DEPTH = 100  # brackets within brackets; a family file has six. Python's own recursion ends at about a thousand.
PARTIAL = ".????????.part"
"""What `write_atomically` calls a file that is not complete."""
_HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_json(path: Path) -> Any:
    """The content of a JSON file, see ``parse_json``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, or nested too deep.
    """
    return parse_json(path.read_bytes())  # bytes: the encoding is JSON's, not that of this computer's locale


def read_json_object(path: Path, what: str, kind: type[MonaiSamError]) -> dict[str, Any]:
    """The object in a JSON file that a user wrote.

    Args:
        path: of the file.
        what: it is, in the words of a message.
        kind: of the error.

    Raises:
        kind: it cannot be read, is no JSON, or holds something else.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise kind(f"{what} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise kind(f"{what} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise kind(f"{what} must hold one JSON object, got a {type(content).__name__}")
    return content


def parse_json(content: bytes | str) -> Any:
    """What a JSON text says.

    Args:
        content: the text; as bytes in UTF-8 (with the mark that Windows puts in front, or without) or UTF-16.

    Raises:
        ValueError: it is no JSON, or a text in it is no Unicode, so that it could not be written again.
        LimitError: it is nested more than ``JSON_DEPTH`` deep; a ValueError, too.
    """
    text = content if isinstance(content, str) else content.decode(json.detect_encoding(content))
    try:
        value = json.loads(text)
    except RecursionError:
        raise LimitError(f"it is nested too deep, at most {JSON_DEPTH} brackets within brackets are taken") from None
    if (depth := nesting_of(value)) > JSON_DEPTH:
        raise LimitError(f"it is nested {depth} deep, at most {JSON_DEPTH} brackets within brackets are taken")
    if _HALF_A_PAIR.search(text):
        json.dumps(value, ensure_ascii=False).encode()
    return value


def nesting_of(value: object) -> int:
    """How deep lists and objects of a JSON are nested: 0 for a number, 1 for a list of numbers."""
    depth, level = 0, [value]
    while level := [part for part in level if isinstance(part, (list, dict))]:
        depth += 1
        level = [child for part in level for child in (part.values() if isinstance(part, dict) else part)]
    return depth


class BoundedFile(io.BufferedReader):
    """A file that reads no more than it has, however much a library asks for.

    Pillow, pydicom and pickle ask for the length that a chunk or an element announces, and Python makes room first.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(os.fspath(path)))  # pydicom joins the name of a file to its messages as a text
        self.length = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        """Up to ``size`` bytes, or all that are left."""
        left = max(self.length - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


@contextmanager
def opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip of somebody else's, whose records are read as ``BoundedFile`` reads, whatever size they announce.

    Raises:
        zipfile.BadZipFile, OSError, ValueError, NotImplementedError: it is none.
    """
    with BoundedFile(path) as file, zipfile.ZipFile(file) as archive:
        yield archive


def private_folder(folder: Path, kind: type[MonaiSamError]) -> Path:
    """A folder for what is kept of patients' images, made for this user alone where it is not there.

    Args:
        folder: the folder.
        kind: of the error.

    Raises:
        kind: it is there and others may look into it.
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.name == "posix" and folder.stat().st_mode & 0o077:
        raise kind(f"the folder must be this user's alone, what is kept in it tells of patients; chmod 700 {folder}")
    return folder


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
    try:
        _flush(path.parent)
    except OSError as error:  # the file is complete and in its place: whoever calls must not believe that it is not
        logger.warning("%s may not outlast a power cut: its folder could not be flushed (%s)", path, error)
    return path


def remove_partials(folder: Path, *, age: float = 0.0) -> None:
    """Remove what `write_atomically` left half written in a folder, because its process was killed.

    Args:
        folder: need not be there.
        age: seconds since the last change; younger files are left, where another process may be writing them now.
    """
    for partial in folder.glob(PARTIAL):
        try:
            if not age or time.time() - partial.stat().st_mtime > age:
                partial.unlink()
        except FileNotFoundError:  # its process was not killed after all
            continue


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
