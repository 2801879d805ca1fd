"""The temporary files of one server, all in one folder, so that none outlives it for long."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

_PREFIX = "monai-sam-server-"
_LOCK = ".lock"


@contextmanager
def own_temporary_folder() -> Iterator[Path]:
    """Let every temporary file of this process and its children lie in a folder that is removed after the block.

    Uploads are images of patients, and MONAI Label forgets some of its copies. What a server that was killed left
    behind is removed first: the system gave up its lock when it died.
    """
    common, variable = Path(tempfile.gettempdir()), os.environ.get("TMPDIR")
    _remove_abandoned(common)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=common))  # for this user alone
    lock = FileLock(folder / _LOCK)
    lock.acquire(timeout=0)
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = str(common)
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(common: Path) -> None:
    for folder in common.glob(f"{_PREFIX}*"):
        if folder.is_symlink() or not _is_ours(folder) or not (folder / _LOCK).is_file():
            continue
        try:
            with FileLock(folder / _LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        except Timeout:
            continue  # its server lives
        logger.info("Removed the temporary files of a server that was killed: %s", folder)


def _is_ours(folder: Path) -> bool:
    return not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()
