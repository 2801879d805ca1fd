"""Where the files of sessions lie, who may open them, and when they go."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from bundle.errors import JournalError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_log = logging.getLogger(__name__)

ENDING = ".session"
COMPACTING = ".compacting"  # a session that is written anew, until it takes the place of the old one
DAYS = 30.0  # that a session is kept after its last step
OPEN_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def sessions_folder() -> Path:
    """Where sessions are kept if nothing else is said: the state folder of this user.

    Not beside the images: a folder of studies may be read-only, is handed on to others, and may be an address. Sessions
    are found by what an image holds, not by where it lies.
    """
    if os.name == "nt":
        state = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state, "monai-sam", "sessions")


def purge_sessions(folder: str | Path, *, days: float = 0.0) -> int:
    """Remove the records of sessions on which nothing was done for some days; by default all of them.

    A session that a process is working on at this moment is left. Returns how many files were removed.
    """
    removed, oldest = 0, time.time() - days * 86400
    for path in [path for ending in (ENDING, COMPACTING, ".damaged") for path in Path(folder).glob(f"*{ending}")]:
        try:
            file = os.open(path, os.O_RDWR | OPEN_FLAGS)
        except OSError as error:
            _log.warning("session %s cannot be purged: %s", path.name[:12], error.strerror)
            continue
        try:
            if os.fstat(file).st_mtime <= oldest and locked(file):
                path.unlink()
                removed += 1
        finally:
            os.close(file)
    return removed


def locked(file: int) -> bool:
    """Take the lock of an open file unless another holds it.

    Raises:
        JournalError: the file system has no locks.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise JournalError(
            f"sessions cannot be locked where they are kept ({error.strerror}); choose a folder on another file system"
        ) from error
    return True
