"""The routes of sessions: a volume that a client uploads for the requests that follow."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, UploadFile
from fastapi.responses import FileResponse
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import get_mime_type

from bundle.data.limits import LIMITS, variable_of
from monailabel_app.datastore.session_folder import SessionFolder
from monailabel_app.errors import RequestError
from monailabel_app.server.body_limits import SERIES_LIMITS
from monailabel_app.server.uploads import check_file_name, check_names_in_address

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/session", tags=["Session"], dependencies=[Depends(check_names_in_address)])


@router.put("/", max_body_size=LIMITS.body_bytes, form_limits=SERIES_LIMITS)
def create_session(files: Annotated[list[UploadFile], File()], expiry: int = 0) -> dict[str, Any]:
    """Keep a volume: one file, or the files of a DICOM series."""
    names = [check_file_name(file) for file in files]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise RequestError(f"{count} of {len(names)} files are called {name!r}; give each its own name")
    sessions = _sessions()
    _check_there_is_room(sessions)
    with tempfile.TemporaryDirectory(prefix="monai-sam-session-") as folder:
        series = Path(folder, "series")
        series.mkdir()
        for file, name in zip(files, names, strict=True):
            with (series / name).open("wb") as target:
                shutil.copyfileobj(file.file, target)
        source = series if len(names) > 1 else series / names[0]
        session_id, found = sessions.add_session(str(source), expiry)
    logger.info("New session %s of %d files", session_id, len(names))
    return {"session_id": session_id, "session_info": found.to_json()}


@router.get("/{session_id}")
def get_session(session_id: str, update_ts: bool = False, image: bool = False) -> Any:
    """What is known about a session, or its volume's file."""
    found = _sessions().get_session(session_id, update_ts=update_ts)
    if not found:
        raise RequestError(f"session {session_id!r} is unknown or has expired; upload the volume again", status=404)
    if not image:
        return found.to_json()
    path = Path(found.image)
    if not path.is_file():
        raise RequestError(f"session {session_id!r} holds a series of files, which cannot be downloaded as one")
    return FileResponse(path, media_type=get_mime_type(str(path)), filename=path.name)


@router.delete("/{session_id}")
def remove_session(session_id: str) -> dict[str, Any]:
    """End a session."""
    sessions = _sessions()
    found = sessions.get_session(session_id, update_ts=False)
    if not found:
        raise RequestError(f"session {session_id!r} is unknown or has expired", status=404)
    sessions.remove_session(session_id)
    return found.to_json()


def _check_there_is_room(sessions: SessionFolder) -> None:
    if sessions.count() >= LIMITS.sessions and not sessions.remove_expired():
        raise RequestError(
            f"the server keeps {LIMITS.sessions} sessions ({variable_of('sessions')}) and takes no more; end one with "
            "DELETE /session/, or try again when one has expired",
            status=503,
        )


def _sessions() -> SessionFolder:
    sessions = app_instance().sessions()
    if sessions is None:
        raise RequestError("this server keeps no sessions (MONAI_LABEL_SESSIONS)", status=406)
    return sessions
