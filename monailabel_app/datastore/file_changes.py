"""Files that are replaced and removed together, or not at all."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from bundle.files import write_atomically

logger = logging.getLogger(__name__)

PRIVATE = 0o600  # of a file that holds what belongs to a patient
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EXDEV, errno.EMLINK, errno.ENOSYS)


class FileChanges:
    """Changes that can be taken back until they are ``kept``.

    What is replaced or removed stays beside its place under a hidden name that ends in ``.part``, as the partial files
    of ``write_atomically`` do: of a process that is killed, whoever tidies up removes both.
    """

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []
        self._aside: list[Path] = []

    def put(self, source: Path, target: Path) -> None:
        """Let a copy of a file take a place; a link there is replaced, not followed."""
        target.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        if os.path.lexists(target):
            before = self._beside(target)
            if target.is_symlink():
                os.symlink(os.readlink(target), before)
            else:
                link_or_copy(target, before)
            self._undo.append(lambda: os.replace(before, target))
        else:
            self._undo.append(lambda: target.unlink(missing_ok=True))
        write_atomically(target, lambda partial: shutil.copyfile(source, partial), mode=PRIVATE)

    def remove(self, path: Path) -> None:
        """Take a file away, if it is there; of a link, the link."""
        if os.path.lexists(path):
            before = self._beside(path)
            os.replace(path, before)
            self._undo.append(lambda: os.replace(before, path))

    def keep(self) -> None:
        """The changes stand; nothing of what was before is left."""
        for path in self._aside:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:  # the next start removes it
                logger.warning("%s could not be removed: %s", path, error)

    def take_back(self) -> None:
        """Put everything back as it was."""
        for undo in reversed(self._undo):
            with contextlib.suppress(FileNotFoundError):
                undo()
        self.keep()

    def _beside(self, path: Path) -> Path:
        self._aside.append(path.with_name(f".{secrets.token_hex(4)}.part"))
        return self._aside[-1]


def link_or_copy(file: Path, second: Path) -> None:
    """Give a file a second name: its first is then replaced, never written to. Copy it where that cannot be."""
    try:
        if file.is_symlink():
            raise OSError(errno.EPERM, "a link is followed, its target may change")
        os.link(file, second)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(file, second)
    os.chmod(second, PRIVATE)
