"""Prepared images by content: a slice that was seen before never runs an encoder again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from bundle.files import write_atomically
from bundle.networks.interface import Prepared

logger = logging.getLogger(__name__)


def network_identity(network: nn.Module) -> str:
    """sha256 of all weights, so that embeddings of another checkpoint are never taken for this one's."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().float().numpy()))
    return digest.hexdigest()


_STRIPES = 64  # locks that all keys share: two keys rarely meet in one, and no file of a lock is ever left behind
_PATIENCE = 120.0  # seconds to wait for another process, longer than any encoder takes
SLACK = 0.1  # of the disk's budget, kept free at each look through the folder and written before the next one


class PreparedCache:
    """What networks made of images, in memory and on disk, each with a budget; the least recently used go first.

    Entries on disk are written beside their place and renamed, and named by content, so that several servers may share
    one folder; each looks through it when it has written a tenth of the budget, so every further server may exceed the
    budget by so much for a while. Safe to use from many threads and processes: who wants what another is computing
    waits for that one entry. Each entry is one safetensors file: a zarr array of an embedding of 4 MiB took six times
    as long to write and as long to read, and is a folder of files, which no rename can replace at once. Its metadata
    holds a checksum: what a disk or a hand has changed is computed again.

    Args:
        memory_bytes: budget in memory.
        folder: where entries also go on disk; None keeps them in memory only.
        disk_bytes: budget on disk.
    """

    def __init__(
        self, *, memory_bytes: int = 1 << 30, folder: str | Path | None = None, disk_bytes: int = 8 << 30
    ) -> None:
        self.memory_bytes, self.disk_bytes = memory_bytes, disk_bytes
        self.folder = None if folder is None else Path(folder)
        self.computed = 0
        self._entries: OrderedDict[str, Prepared] = OrderedDict()
        self._held = 0
        self._written = disk_bytes  # since the last look through the folder: the first write looks
        self._lock = threading.Lock()
        self._computing = [threading.Lock() for _ in range(_STRIPES)]
        if self.folder is not None:
            (self.folder / ".locks").mkdir(parents=True, exist_ok=True)

    def get(self, key: str, compute: Callable[[], Prepared]) -> tuple[Prepared, bool]:
        """What was made of the image of ``key``, computed only if it is nowhere yet.

        Args:
            key: hexadecimal digest of everything that it depends on.
            compute: returns it on the CPU.

        Returns:
            It, and whether it had to be computed.
        """
        if (known := self._known(key)) is not None:
            return known, False
        with self._alone(key):
            if (known := self._known(key)) is not None:  # another thread or process was at it
                return known, False
            prepared = compute()
            self._remember(key, prepared)
            self.computed += 1
            self._write(key, prepared)
        return prepared, True

    def __contains__(self, key: str) -> bool:
        """Whether it is there, in memory or on disk."""
        with self._lock:
            held = key in self._entries
        return held or (self.folder is not None and self._path(key).is_file())

    @property
    def held_bytes(self) -> int:
        """Bytes that are kept in memory."""
        return self._held

    def _known(self, key: str) -> Prepared | None:
        """What is in memory, or on disk and then in memory as well."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        stored = self._read(key)
        if stored is not None:
            self._remember(key, stored)
        return stored

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Be the only one who computes an entry, of the threads here and of the processes that share the folder."""
        stripe = zlib.crc32(key.encode()) % _STRIPES
        with self._computing[stripe]:
            if self.folder is None:
                yield
                return
            lock = FileLock(self.folder / ".locks" / f"{stripe:02d}", timeout=_PATIENCE)
            try:  # refused where a process hangs, and by a file system without locks
                lock.acquire()
            except (
                Timeout,
                OSError,
                NotImplementedError,
            ) as error:
                logger.warning("computing an entry that others may be computing as well (%s)", error)
            try:
                yield
            finally:
                lock.release()

    def _remember(self, key: str, prepared: Prepared) -> None:
        size = prepared.nbytes
        with self._lock:
            if key in self._entries or size > self.memory_bytes:
                return
            self._entries[key] = prepared
            self._held += size
            while self._held > self.memory_bytes:
                _, dropped = self._entries.popitem(last=False)
                self._held -= dropped.nbytes

    def _path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{key}.safetensors"

    def _read(self, key: str) -> Prepared | None:
        path = self._path(key)
        if path is None:
            return None
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
        with suppress(OSError):  # of another user who shares the folder, or just dropped
            os.utime(path)  # recently used
        return Prepared(tensors)

    def _write(self, key: str, prepared: Prepared) -> None:
        path = self._path(key)
        if path is None:
            return
        tensors = dict(prepared.map(Tensor.contiguous).tensors)
        metadata = {_CHECKSUM: _checksum(key, tensors)}
        try:
            write_atomically(path, lambda partial: save_file(tensors, partial, metadata=metadata))
            size = path.stat().st_size
        except (OSError, SafetensorError) as error:  # a full disk: what was asked for is there all the same
            logger.warning("%s is not kept on disk (%s)", path.name, error)
            return
        with self._lock:
            self._written += size
            due = self._written > SLACK * self.disk_bytes
            if due:
                self._written = 0
        if due:
            self._trim_disk()

    def _trim_disk(self) -> None:
        """Drop what was used longest ago. Looking at tens of thousands of files takes seconds, so not at each write."""
        entries = []
        for path in self.folder.glob("*.safetensors"):
            try:
                entries.append((path.stat(), path))
            except FileNotFoundError:  # another server was faster
                continue
        excess = sum(stat.st_size for stat, _ in entries) - (1 - SLACK) * self.disk_bytes
        for stat, path in sorted(entries, key=lambda entry: entry[0].st_mtime):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= stat.st_size


_CHECKSUM = "crc32"  # in the metadata of an entry: safetensors has none of its own


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
