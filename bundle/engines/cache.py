"""Image embeddings by content: a slice that was seen before never runs the encoder."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


def network_identity(network: nn.Module) -> str:
    """sha256 of all weights, so that embeddings of another checkpoint are never taken for this one's."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().float().numpy()))
    return digest.hexdigest()


SLACK = 0.1  # of the disk's budget, kept free at each look through the folder and written before the next one


class EmbeddingStore:
    """Embeddings in memory, then on disk, each within a budget of bytes; the least recently used go first.

    Entries on disk are written beside their place and renamed, and named by content, so that several servers may share
    one folder; each looks through it when it has written a tenth of the budget, so every further server may exceed the
    budget by so much for a while. Safe to use from many threads.

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
        self._entries: OrderedDict[str, Tensor] = OrderedDict()
        self._held = 0
        self._written = disk_bytes  # since the last look through the folder: the first write looks
        self._lock = threading.Lock()
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str, compute: Callable[[], Tensor]) -> tuple[Tensor, bool]:
        """The embedding of ``key``, computed only if it is nowhere yet.

        Args:
            key: hexadecimal digest of everything that the embedding depends on.
            compute: returns the embedding, (1, 256, g, g) on the CPU.

        Returns:
            The embedding, and whether it had to be computed.
        """
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key], False
        stored = self._read(key)
        embedding = compute() if stored is None else stored
        self._remember(key, embedding)
        if stored is None:
            self.computed += 1
            self._write(key, embedding)
        return embedding, stored is None

    def _remember(self, key: str, embedding: Tensor) -> None:
        size = embedding.numel() * embedding.element_size()
        with self._lock:
            if key in self._entries or size > self.memory_bytes:
                return
            self._entries[key] = embedding
            self._held += size
            while self._held > self.memory_bytes:
                _, dropped = self._entries.popitem(last=False)
                self._held -= dropped.numel() * dropped.element_size()

    def _path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{key}.npy"

    def _read(self, key: str) -> Tensor | None:
        path = self._path(key)
        if path is None:
            return None
        try:
            array = np.load(path, allow_pickle=False)
            os.utime(path)  # recently used
        except FileNotFoundError:  # also where another server has just dropped it
            return None
        return torch.from_numpy(array)

    def _write(self, key: str, embedding: Tensor) -> None:
        path = self._path(key)
        if path is None:
            return
        handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            np.save(file, embedding.numpy(), allow_pickle=False)
        size = os.path.getsize(partial)
        os.replace(partial, path)
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
        for path in self.folder.glob("*.npy"):
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
