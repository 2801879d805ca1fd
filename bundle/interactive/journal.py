"""The record of a session on disk: what a kill, a crash or a lost connection cannot take.

One file for each image and user, to which one record is appended for each step before its answer leaves. A record is
its length, the CRC-32 of its content, and the content. What a kill left of a record is cut off when the file is next
opened. Processes that share a folder take turns: each takes the lock of the file, reads what others appended, and
appends its own.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import struct
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bundle.data.digest import image_digest
from bundle.data.limits import LIMITS, variable_of
from bundle.data.volume import Volume
from bundle.engines.interruption import Idle, wait_until
from bundle.errors import BusyError, JournalError
from bundle.files import private_folder
from bundle.interactive.session_files import COMPACTING, ENDING, OPEN_FLAGS, locked

_log = logging.getLogger(__name__)

_FORMAT, _VERSION = "monai-sam session", 1
_FRAME = struct.Struct("<II")  # length, CRC-32
_PATIENCE = 60.0  # seconds that a process waits for another one that works on the same session


class Journal:
    """The file of one session.

    Args:
        path: of the file; its folder is made, for this user alone.
        header: says which session it is; another file of that name is refused.
        max_bytes: of the file; by default ``LIMITS.session_bytes``.
        patience: seconds to wait for another process that works on the session.
        idle: waits some seconds for that.
    """

    def __init__(
        self,
        path: Path,
        header: dict[str, Any],
        *,
        max_bytes: int | None = None,
        patience: float = _PATIENCE,
        idle: Idle = time.sleep,
    ) -> None:
        self.path, self.extra, self.patience, self._idle = path, dict(header), patience, idle
        self._header = {"format": _FORMAT, "version": _VERSION, **header}
        self.max_bytes = LIMITS.session_bytes if max_bytes is None else max_bytes
        self._file: int | None = None
        self._head = b""  # the framed header of the file that was read; no two files have the same
        self._end = 0

    @classmethod
    def of(
        cls,
        folder: str | Path,
        volume: Volume,
        user: str = "",
        *,
        digest: str | None = None,
        idle: Idle = time.sleep,
    ) -> Journal:
        """The journal of a user's session on an image.

        Neither the image nor the user can be read from the file's name.

        Args:
            folder: of all sessions.
            volume: the image.
            user: whoever works on it; every user has a session of its own.
            digest: of the image where it is known, see ``image_digest``.
            idle: see ``Journal``.
        """
        digest = digest or image_digest(volume)
        name = hashlib.sha256(f"{digest}\0{user}".encode()).hexdigest()
        return cls(Path(folder, name + ENDING), {"image": digest, "shape": list(volume.shape)}, idle=idle)

    @contextlib.contextmanager
    def held(self) -> Iterator[tuple[bool, list[bytes]]]:
        """Hold the session while the block runs: no other process changes it.

        Gives whether the records are all of the session, as at the first time and where the file was purged, or only
        those that are new to this process.

        Raises:
            BusyError: another process holds it too long.
            JournalError: the file is of something else.
        """
        self._open()
        try:
            yield self._news()
        finally:
            os.close(self._file)  # gives the lock back, too
            self._file = None

    def append(self, content: bytes, *, most: int | None = None) -> None:
        """Add a record, for good when this returns; the session must be held. A record that fails leaves nothing.

        Args:
            content: of the record.
            most: bytes of the file; by default ``max_bytes``.

        Raises:
            JournalError: the file would become too large.
            OSError: it cannot be written, as on a full disk.
        """
        head = b"" if self._end else _framed(json.dumps({**self._header, "id": uuid.uuid4().hex}).encode())
        framed = head + _framed(content)
        if self._end + len(framed) > (most or self.max_bytes):
            raise JournalError(
                f"the record of this session would grow beyond {self.max_bytes} bytes; save the result and begin a new "
                f"session (purge this one), or allow more ({variable_of('session_bytes')})"
            )
        try:
            _write(self._file, framed, self._end)
            os.fsync(self._file)
        except BaseException:
            with contextlib.suppress(OSError):  # what cannot be cut off now is cut off when it is read
                os.ftruncate(self._file, self._end)
            raise
        self._end, self._head = self._end + len(framed), head or self._head

    @property
    def size(self) -> int:
        """Bytes of the file as it was read or written last."""
        return self._end

    def has_room(self, content: bytes, *, most: int | None = None) -> bool:
        """Whether a record may still be added; arguments as ``append``."""
        return self._end + len(_framed(content)) + _FRAME.size <= (most or self.max_bytes)

    def fits(self, contents: Sequence[bytes]) -> bool:
        """Whether a file that holds these records, and no others, is not too large."""
        return len(self._head) + sum(len(content) + _FRAME.size for content in contents) <= self.max_bytes

    def rewrite(self, contents: Sequence[bytes]) -> int | None:
        """Put other records in the place of all; the session must be held, and whoever reads it next reads all anew.

        A new file takes the place of the old one in one step: a kill leaves the one or the other. Where it cannot be
        written, the old one stays, which is logged.

        Returns:
            Bytes that it became shorter by; None where it stays.
        """
        head = _framed(json.dumps({**self._header, "id": uuid.uuid4().hex}).encode())
        data, before = b"".join([head, *map(_framed, contents)]), self._end
        beside, file = self.path.with_suffix(COMPACTING), None
        try:
            file = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | OPEN_FLAGS, 0o600)
            if not locked(file):
                raise BlockingIOError(errno.EAGAIN, "another process writes it")
            _put(file, data, beside, self.path)
        except OSError as error:
            if file is not None:
                os.close(file)
            _log.warning("session %s stays as long as it is: %s", self.path.name[:12], error.strerror)
            return None
        os.close(self._file)  # nobody finds the old file any more, and who waits for its lock looks again
        self._file, self._head, self._end = file, head, len(data)
        _log.info("session %s compacted from %d to %d bytes", self.path.name[:12], before, len(data))
        return before - len(data)

    def rewind(self) -> None:
        """Let the next who holds the session read it from the beginning."""
        self._end, self._head = 0, b""

    # ---- the file ---------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        private_folder(self.path.parent, JournalError)
        deadline = time.monotonic() + self.patience
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | OPEN_FLAGS, 0o600)
            try:
                if not wait_until(partial(locked, file), idle=self._idle, seconds=deadline - time.monotonic()):
                    raise BusyError(
                        f"another process has been working on this session for {self.patience:g} s; try again"
                    )
                if _identity(os.fstat(file)) == _identity_of(self.path):  # else it was purged before it was locked
                    self._file = file
                    return
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def _news(self) -> tuple[bool, list[bytes]]:
        begins_anew = not self._head or _read(self._file, 0, len(self._head)) != self._head
        if begins_anew:
            self.rewind()
        data = _read(self._file, self._end, os.fstat(self._file).st_size - self._end)
        records, whole = _split(data)
        if whole < len(data):
            self._cut(data, whole, len(records))
        if self._end == 0 and records:
            head = records.pop(0)
            self._check_header(head)
            self._head = _framed(head)
        self._end += whole
        return begins_anew, records

    def _cut(self, data: bytes, whole: int, records: int) -> None:
        """Take away what a kill or a full disk left of the last record; anything else is kept beside the file."""
        rest, at = data[whole:], self._end + whole
        torn = len(rest) < _FRAME.size or len(rest) <= _FRAME.size + _FRAME.unpack_from(rest)[0]
        kept = "" if torn else f", kept in {self._keep(rest).name}"
        _log.warning(
            "session %s: %d bytes behind its last whole record (%d read) were cut off%s; it goes on from there",
            *(self.path.name[:12], len(rest), records, kept),
        )
        os.ftruncate(self._file, at)

    def _keep(self, rest: bytes) -> Path:
        beside = self.path.with_name(f"{self.path.stem}.{time.time_ns()}.damaged")
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, 0o600)
        with os.fdopen(file, "wb") as stream:
            stream.write(rest)
        return beside

    def _check_header(self, record: bytes) -> None:
        try:
            found = json.loads(record)
        except ValueError as error:
            raise JournalError(f"{self.path.name} is no record of a session; move it away") from error
        if (
            not isinstance(found, dict)
            or not found.pop("id", None)
            or found.get("format") != _FORMAT
            or found.get("version") != _VERSION
        ):
            raise JournalError(f"{self.path.name} was written by another version; purge it, or use that version")
        if found != self._header:
            raise JournalError(f"{self.path.name} is the record of another image; move it away")


def _framed(content: bytes) -> bytes:
    return _FRAME.pack(len(content), zlib.crc32(content)) + content


def _split(data: bytes) -> tuple[list[bytes], int]:
    """The whole records at the beginning of some bytes, and how many bytes they take."""
    records, at = [], 0
    while at + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, at)
        content = data[at + _FRAME.size : at + _FRAME.size + length]
        if len(content) < length or zlib.crc32(content) != checksum:
            break
        records.append(content)
        at += _FRAME.size + length
    return records, at


def _read(file: int, at: int, size: int) -> bytes:
    os.lseek(file, at, os.SEEK_SET)
    parts, left = [], size
    while left and (part := os.read(file, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _write(file: int, data: bytes, at: int) -> None:
    os.lseek(file, at, os.SEEK_SET)
    while data:
        data = data[os.write(file, data) :]


def _put(file: int, data: bytes, beside: Path, path: Path) -> None:
    """Fill an open file and give it another's place; where that fails nothing of it stays, as on a full disk."""
    try:
        _write(file, data, 0)
        os.fsync(file)
        os.replace(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        return _identity(os.stat(path))
    except FileNotFoundError:
        return None
