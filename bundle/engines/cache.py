"""Prepared images by content: a slice that was seen before never runs an encoder again."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np
from torch import nn

from bundle.engines.interruption import Idle, holding
from bundle.engines.prepared_files import STRIPES, PreparedFiles, stripe_of
from bundle.networks.interface import Prepared

_memory_alone: ContextVar[bool] = ContextVar("monai_sam_memory_alone", default=False)


@contextmanager
def in_memory_alone() -> Iterator[None]:
    """Within the block this thread leaves the disk as it is, as for images that nobody looks at.

    What it computes is kept in memory alone: a batch would push out what people work on, and leave there something of
    every image of an archive. What is on the disk is read, but that does not keep it for longer.
    """
    token = _memory_alone.set(True)
    try:
        yield
    finally:
        _memory_alone.reset(token)


def network_identity(network: nn.Module) -> str:
    """sha256 of all weights, so that embeddings of another checkpoint are never taken for this one's."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().float().numpy()))
    return digest.hexdigest()


class PreparedCache:
    """What networks made of images, in memory and on disk, each with a budget; the least recently used go first.

    Several servers may share one folder (``PreparedFiles``). Safe to use from many threads and processes: who wants
    what another is computing waits for that one entry, and can be ended meanwhile (``wait_until``).

    Args:
        memory_bytes: budget in memory.
        folder: where entries also go on disk; None keeps them in memory only.
        disk_bytes: budget on disk.
        days: that an entry is kept on disk after its last use.
        idle: waits some seconds for what another computes.
    """

    def __init__(
        self,
        *,
        memory_bytes: int = 1 << 30,
        folder: str | Path | None = None,
        disk_bytes: int = 8 << 30,
        days: float = math.inf,
        idle: Idle = time.sleep,
    ) -> None:
        self.memory_bytes, self._idle = memory_bytes, idle
        self.files = None if folder is None else PreparedFiles(folder, most_bytes=disk_bytes, days=days)
        self.computed = 0
        self._entries: OrderedDict[str, Prepared] = OrderedDict()
        self._unwritten: set[str] = set()  # of those, what ``in_memory_alone`` has kept off the disk
        self._held = 0
        self._lock = threading.Lock()
        self._computing = [threading.Lock() for _ in range(STRIPES)]

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
        return held or (self.files is not None and key in self.files)

    @property
    def held_bytes(self) -> int:
        """Bytes that are kept in memory."""
        return self._held

    @property
    def disk_bytes(self) -> int:
        """Bytes that are kept on disk, see ``PreparedFiles.nbytes``."""
        return 0 if self.files is None else self.files.nbytes

    def purge(self) -> None:
        """Remove what is too old on disk, or beyond the budget."""
        if self.files is not None:
            self.files.purge()

    def _known(self, key: str) -> Prepared | None:
        """What is in memory, or on disk and then in memory as well."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
        if found is None and self.files is not None:
            found = self.files.read(key)
            if found is not None:
                self._remember(key, found)
        if found is not None:
            self._note_use(key, found)
        return found

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Be the only one who computes an entry, of the threads here and of the processes that share the folder."""
        stripe = self._computing[stripe_of(key)]
        if self.files is None:
            with holding(stripe, idle=self._idle):
                yield
            return
        # Both at once: who held the one while it waits for the other would keep those from it who have the device now.
        with self.files.alone(key, idle=self._idle, beside=stripe):
            yield

    def _remember(self, key: str, prepared: Prepared) -> None:
        size = prepared.nbytes
        with self._lock:
            if key in self._entries or size > self.memory_bytes:
                return
            self._entries[key] = prepared
            self._held += size
            while self._held > self.memory_bytes:
                name, dropped = self._entries.popitem(last=False)
                self._unwritten.discard(name)
                self._held -= dropped.nbytes

    def _write(self, key: str, prepared: Prepared) -> None:
        """Keep on disk what was just computed, or note that it is not there."""
        if self.files is None:
            return
        if not _memory_alone.get():
            self.files.write(key, prepared)
            return
        with self._lock:
            if key in self._entries:
                self._unwritten.add(key)

    def _note_use(self, key: str, prepared: Prepared) -> None:
        """See to it that what somebody works on is on disk, and stays there for longer."""
        if self.files is None or _memory_alone.get():
            return
        with self._lock:
            is_unwritten = key in self._unwritten
            self._unwritten.discard(key)
        if is_unwritten:
            self.files.write(key, prepared)
        else:
            self.files.note_use(key)
