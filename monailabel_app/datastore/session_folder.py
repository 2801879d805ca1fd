"""The volumes that clients uploaded for a while, on the disk: MONAI Label's sessions, which survive a kill."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
import uuid
from pathlib import Path

from monailabel.utils.sessions import SessionInfo, Sessions

from bundle.files import write_text

logger = logging.getLogger(__name__)

_META = "meta.info"
_USE_NOTED = 10  # seconds: a use is written down at most that often, clicks come faster


class SessionFolder(Sessions):
    """Sessions whose notes are written whole or not at all; one that is damaged is unknown and goes when it is old."""

    def __bool__(self) -> bool:
        """True: MONAI Label cleans up only if the sessions are "there", and a dictionary of none used yet is not."""
        return True

    def add_session(
        self, data_file: str, expiry: int = 0, uncompress: bool = False, session_id: str | None = None
    ) -> tuple[str, SessionInfo]:
        """Move a file or folder into a new session, for this user's eyes alone; nothing stays of one that fails."""
        session_id = session_id or uuid.uuid4().hex  # MONAI Label's ids could be guessed from the time
        folder = Path(self.store_path, session_id)
        folder.mkdir(parents=True, mode=0o700)
        try:
            return super().add_session(data_file, expiry, uncompress=False, session_id=session_id)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def get_session(self, session_id: str, update_ts: bool = True, fetch_cache: bool = True) -> SessionInfo | None:
        """The session of that id, None if there is none whose file is there."""
        found = self.get(session_id) if fetch_cache else None
        found = found or self._read(session_id)
        if found is None or not os.path.exists(found.image):
            self.pop(session_id, None)
            return None
        self[session_id] = found
        if update_ts and time.time() - found.last_access_ts >= _USE_NOTED:
            found.last_access_ts = int(time.time())
            self._write_meta_info(session_id, found)
        return found

    def count(self) -> int:
        """How many sessions there are on the disk."""
        return sum(1 for _ in Path(self.store_path).glob("*/"))

    def remove_expired(self) -> int:
        """Remove the sessions that nobody used for as long as they said, and old remains of others."""
        now, count = time.time(), 0
        for folder in Path(self.store_path).glob("*/"):
            found = self.get_session(folder.name, update_ts=False, fetch_cache=False)
            # A folder without notes may be an upload that is under way.
            last, patience = (found.last_access_ts, found.expiry) if found else (folder.stat().st_mtime, self.expiry)
            if patience > 0 and last + patience < now:
                logger.info("Removed the session %s, last used %d s ago", folder.name, now - last)
                self.remove_session(folder.name)
                count += 1
        return count

    def _read(self, session_id: str) -> SessionInfo | None:
        notes = Path(self.store_path, session_id, _META)
        try:
            return SessionInfo(json.loads(notes.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, AttributeError) as error:  # AttributeError: JSON, but no object
            logger.warning("The notes %s of a session are damaged (%s); the session is lost", notes, error)
            return None

    def _write_meta_info(self, session_id: str, session_info: SessionInfo) -> None:
        notes = Path(self.store_path, session_id, _META)
        write_text(notes, session_info.to_str(), mode=0o600)
