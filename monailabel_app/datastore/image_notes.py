"""What the server notes of images whose folder it may not change: scores, and who works on which."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from bundle.errors import JournalError
from bundle.files import private_folder, read_json, write_text
from bundle.interactive.session_files import sessions_folder
from monailabel_app.wire.json_values import repaired_info

logger = logging.getLogger(__name__)

Notes = dict[str, dict[str, Any]]


def notes_file(studies: Path) -> Path:
    """The file of a folder of studies: in the state folder of this user, named by a digest of the folder's path."""
    digest = hashlib.sha256(os.fsencode(studies.resolve())).hexdigest()[:32]
    return sessions_folder().parent / "studies" / f"{digest}.json"


class ImageNotes:
    """Notes by image, kept in a file of this user's alone; where nothing can be written, in memory.

    Safe to use from several threads, and by several servers over one folder.

    Args:
        path: the file; its folder is made when there is something to write.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.RLock()
        self._notes: Notes = {}
        self._seen: tuple[int, ...] | None = None

    def of(self, image_id: str) -> Mapping[str, Any]:
        """What was noted of an image; not to be changed."""
        with self._lock:
            self._look()
            return self._notes.get(image_id, {})

    def add(self, image_id: str, info: Mapping[str, Any], *, known: Collection[str]) -> None:
        """Add to the notes of an image.

        Args:
            image_id: of the image.
            info: values that `check_info` takes.
            known: ids of the images there are; notes of others go.
        """
        with self._lock:
            try:
                private_folder(self._path.parent, JournalError)
                with FileLock(self._path.with_suffix(".lock")):
                    self._look()
                    self._merge(image_id, info, known)
                    write_text(self._path, json.dumps(self._notes, allow_nan=False), mode=0o600)
                    self._seen = self._stamp()
            except (OSError, ValueError) as error:
                logger.warning("Notes on images end with the server: %s cannot be written (%s)", self._path, error)
                self._merge(image_id, info, known)

    def _merge(self, image_id: str, info: Mapping[str, Any], known: Collection[str]) -> None:
        kept = {name: notes for name, notes in self._notes.items() if name in known}
        self._notes = {**kept, image_id: {**kept.get(image_id, {}), **info}}

    def _look(self) -> None:
        """Read the file if another server, or an earlier one, has written it."""
        stamp = self._stamp()
        if stamp is None or stamp == self._seen:
            return
        self._seen = stamp
        try:
            found = read_json(self._path)
            self._notes = {name: repaired_info(notes)[0] for name, notes in found.items()}
        except (OSError, ValueError, AttributeError) as error:  # cut off, or no file of ours: scores are made again
            logger.warning("The notes %s cannot be read (%s); they begin anew", self._path, error)

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size
