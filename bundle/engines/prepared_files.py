"""Prepared images on disk: one file each, whole or not there, as private as their folder, bounded in size and age."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import stat
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from bundle.engines.interruption import Idle, wait_until
from bundle.files import remove_partials, write_atomically
from bundle.networks.interface import Prepared
from bundle.root import cache_root

logger = logging.getLogger(__name__)

ENDING = ".prepared"  # of our own: a folder of somebody's weights has nothing that is purged
STRIPES = 64  # locks that all keys share: two keys rarely meet in one, and no file of a lock is ever left behind
SLACK = 0.1  # of the budget, kept free at each look through the folder and written before the next one
LEFT_FREE = 1 << 30  # bytes of the disk that are left for what cannot be made again, as sessions and labels
_LOCKS = ".locks"
_PATIENCE = 120.0  # seconds to wait for another process, longer than any encoder takes
_WRITING = 60.0  # seconds; what has not been written by then was left by a process that was killed
_NOT_ALONE = "computing an entry that others may be computing as well (%s)"
_CHECKSUM = "crc32"  # in the metadata of an entry: safetensors has none of its own


def stripe_of(key: str) -> int:
    """Which of the ``STRIPES`` locks a key has."""
    return zlib.crc32(key.encode()) % STRIPES


def prepared_folder() -> Path:
    """Where a server keeps them if nothing else is said: the cache of this user, since they can be made again."""
    return cache_root() / "prepared"


class PreparedFiles:
    """Entries on disk, which several processes share.

    They are written beside their place and renamed, and named by content. Each process looks through the folder when it
    has written a tenth of the budget, so every further one may exceed the budget by so much for a while. On a disk that
    fills up, the budget is what leaves ``LEFT_FREE`` of it. Each entry is one safetensors file: a zarr array of an
    embedding of 4 MiB took six times as long to write and as long to read, and is a folder of files, which no rename
    can replace at once. Its metadata holds a checksum: what a disk or a hand has changed is not read.

    Args:
        folder: where they lie; it is made. Who may read and write it may read and write the files, and nobody else.
        most_bytes: of all entries; those that were used longest ago go first.
        days: that an entry is kept after its last use.
    """

    def __init__(self, folder: str | Path, *, most_bytes: int, days: float = math.inf) -> None:
        self.folder = Path(folder)
        self._most_bytes, self._days = most_bytes, days
        self._lock = threading.Lock()
        self._seen = 0  # bytes of all entries after the last look through the folder
        self._written = 0  # bytes since then
        self._until_look = 0.0  # bytes that may be written until the next one; the first write looks
        self.folder.mkdir(parents=True, exist_ok=True)
        self._mode = stat.S_IMODE(self.folder.stat().st_mode)

    def __contains__(self, key: str) -> bool:
        return self._path(key).is_file()

    @property
    def nbytes(self) -> int:
        """Bytes of all entries: as counted at the last look, with what this process has written since then."""
        with self._lock:
            return self._seen + self._written

    @contextmanager
    def alone(self, key: str, *, beside: threading.Lock, idle: Idle = time.sleep) -> Iterator[None]:
        """Be the only one who computes an entry while the block runs.

        Args:
            key: of the entry.
            beside: lock of the threads of this process; held together with that of the processes, or not at all.
            idle: waits for others, see ``wait_until``.
        """
        lock = FileLock(self.folder / _LOCKS / f"{stripe_of(key):02d}", mode=self._mode & 0o666)

        def has_taken_both() -> bool:
            if not beside.acquire(blocking=False):
                return False
            if self._has_taken(lock):
                return True
            beside.release()
            return False

        if not wait_until(has_taken_both, idle=idle, seconds=_PATIENCE):
            logger.warning(_NOT_ALONE, f"another process has been at it for {_PATIENCE:g} s")
            wait_until(partial(beside.acquire, blocking=False), idle=idle)
        try:
            yield
        finally:
            lock.release()
            beside.release()

    def read(self, key: str) -> Prepared | None:
        """What is there of a key; None where nothing is, or not as it was written."""
        path = self._path(key)
        try:
            content = path.read_bytes()
            tensors = load(content)
        except FileNotFoundError:  # also where another server has just dropped it
            return None
        except (SafetensorError, OSError) as error:
            logger.warning("%s cannot be read (%s); it is computed again", path.name, error)
            return None
        if _metadata(content).get(_CHECKSUM) != _checksum(key, tensors):
            logger.warning("%s is not as it was written; it is computed again", path.name)
            return None
        return Prepared(tensors)

    def note_use(self, key: str) -> None:
        """Keep an entry for longer."""
        with suppress(OSError):  # of another user who shares the folder, or just dropped
            os.utime(self._path(key))

    def write(self, key: str, prepared: Prepared) -> None:
        """Keep an entry; one that cannot be written is a warning, since what was asked for is there all the same."""
        path = self._path(key)
        tensors = dict(prepared.map(Tensor.contiguous).tensors)
        metadata = {_CHECKSUM: _checksum(key, tensors)}
        try:
            self._make_folders()
            write = partial(save_file, tensors, metadata=metadata)
            size = write_atomically(path, write, mode=self._mode & 0o666).stat().st_size
        except (OSError, SafetensorError) as error:  # such as a full disk
            logger.warning("%s is not kept on disk (%s)", path.name, error)
            return
        with self._lock:
            self._written += size
            due = self._written > self._until_look
            if due:
                self._seen, self._written = self._seen + self._written, 0  # other threads need not look as well
        if due:
            self.purge()

    def purge(self) -> None:
        """Remove what is too old, and of the rest what was used longest ago until the budget has room for a while.

        Looking at tens of thousands of files takes a moment, so not at each write.
        """
        removed, held = purge_prepared(self.folder, days=self._days)
        room = max(0.0, min(self._most_bytes, held + self._free_bytes() - LEFT_FREE))
        if held > (1 - SLACK) * room:
            more, held = purge_prepared(self.folder, days=math.inf, most_bytes=(1 - SLACK) * room)
            removed += more
        if removed:
            logger.info("Removed %d prepared slices that were used longest ago", removed)
        with self._lock:
            self._seen, self._written, self._until_look = held, 0, SLACK * room

    def _free_bytes(self) -> float:
        try:
            return shutil.disk_usage(self.folder).free
        except OSError:  # there is no folder, so that nothing is in it
            return math.inf

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{ENDING}"

    def _has_taken(self, lock: FileLock) -> bool:
        """Take a lock, or go without where it is refused; False while another process holds it."""
        try:
            self._make_folders()
            lock.acquire(blocking=False)
        except Timeout:
            return False
        except (OSError, NotImplementedError) as error:  # as by a file system without locks
            logger.warning(_NOT_ALONE, error)
        return True

    def _make_folders(self) -> None:
        """Make them as they were, if somebody has emptied the cache meanwhile."""
        for folder in (self.folder, self.folder / _LOCKS):
            folder.mkdir(mode=self._mode, parents=True, exist_ok=True)


def purge_prepared(folder: str | Path, *, days: float = 0.0, most_bytes: float = math.inf) -> tuple[int, int]:
    """Remove prepared images that were not used for some days, by default all; nothing else that lies in the folder.

    Args:
        folder: a ``PreparedFiles.folder``; it need not be there.
        days: since the last use.
        most_bytes: of those that are left; the ones that were used longest ago go as well until they fit.

    Returns:
        How many files were removed, and the bytes of those that are left.
    """
    removed, oldest = 0, time.time() - days * 86400
    try:
        entries = sorted(_entries(folder), key=lambda entry: entry[1].st_mtime)
    except OSError as error:
        logger.warning("what is kept in %s cannot be looked through (%s)", folder, error.strerror)
        return 0, 0
    try:
        remove_partials(Path(folder), age=_WRITING)
    except OSError as error:  # of another user who shares the folder
        logger.warning("what was half written in %s cannot be removed (%s)", folder, error.strerror)
    left = sum(found.st_size for _, found in entries)
    for path, found in entries:
        if found.st_mtime > oldest and left <= most_bytes:
            break
        try:
            os.unlink(path)
            removed += 1
        except FileNotFoundError:  # another server was faster
            pass
        except OSError as error:
            logger.warning("%s cannot be removed (%s)", os.path.basename(path), error.strerror)
            continue
        left -= found.st_size
    return removed, left


def _entries(folder: str | Path) -> Iterator[tuple[str, os.stat_result]]:
    """The path of each entry, and its size and last use."""
    try:
        listed = os.scandir(folder)
    except FileNotFoundError:
        return
    with listed:
        for entry in listed:
            with suppress(FileNotFoundError):  # another server was faster
                if entry.name.endswith(ENDING):
                    yield entry.path, entry.stat(follow_symlinks=False)


def _checksum(key: str, tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 of an entry: of its key, and of names, types, shapes and numbers of its contiguous tensors on the CPU."""
    found = zlib.crc32(key.encode())
    for name, tensor in sorted(tensors.items()):
        found = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), found)
        found = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy(), found)
    return f"{found:08x}"


def _metadata(content: bytes) -> dict[str, str]:
    """The metadata of a safetensors file that was read: its header is JSON behind eight bytes that say how long."""
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]).get("__metadata__", {})
