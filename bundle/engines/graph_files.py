"""Converted networks on disk: one file each, whole or not there, made again where it is damaged."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from bundle.files import opened_zip, write_atomically
from bundle.root import cache_root

logger = logging.getLogger(__name__)

Parts = dict[str, bytes]
"""Name -> content of the parts of a graph, as its engine writes them."""


class GraphFiles:
    """Graphs by what they were made of. Processes share the folder; while one makes a graph, the others wait for it.

    A file is a zip without compression: it holds all parts of a graph under one name, and each with a checksum.

    Args:
        folder: where they lie; by default ``engines`` in the user's cache (``MONAI_SAM_HOME``). It is made for this
            user alone, because what lies in it is run.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = cache_root() / "engines" if folder is None else Path(folder)

    def get(self, key: str, make: Callable[[], Parts]) -> Parts:
        """The graph of a key; made and kept if it is not there or cannot be read.

        A folder in which nothing can be written is a warning: the graph is then made at every start.

        Args:
            key: hexadecimal digest of everything that the graph depends on.
            make: converts the network.
        """
        path = self.folder / f"{key}.zip"
        if (parts := _read(path)) is not None:
            return parts
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with FileLock(path.with_suffix(".lock")):
                parts = _read(path)  # another process may have made it meanwhile
                if parts is None:
                    parts = make()
                    write_atomically(path, lambda partial: _write(partial, parts), mode=0o600)
                return parts
        except (OSError, NotImplementedError) as error:  # the second of a file system without locks
            reason = getattr(error, "strerror", None) or error
            logger.warning("the converted network cannot be kept in %s (%s)", self.folder, reason)
            return make() if parts is None else parts


def _read(path: Path) -> Parts | None:
    try:
        with opened_zip(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}  # which compares the checksums
        os.utime(path)  # used: what is cleared away by age stays
        return parts
    except FileNotFoundError:
        return None
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        logger.warning("the converted network %s is damaged (%s); it is made again", path.name, error)
        return None


def _write(path: str, parts: Parts) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
