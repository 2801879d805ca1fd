"""Which file a request means."""

from __future__ import annotations

from pathlib import Path

from monailabel.interfaces.app import MONAILabelApp

from monailabel_app.datastore.reading import image_path
from monailabel_app.errors import RequestError
from monailabel_app.server.uploads import check_name


def find_image(app: MONAILabelApp, image: str, session_id: str) -> Path:
    """The file, or folder of DICOM files, behind a session, or else an id of the datastore.

    Raises:
        RequestError: neither leads to a file.
    """
    if session_id:
        sessions = app.sessions()  # None where they are switched off
        found = sessions.get_session(check_name(session_id, "session_id")) if sessions is not None else None
        if not found:
            raise RequestError(f"session {session_id!r} is unknown or has expired; upload the volume again", status=404)
        return Path(found.image)
    if not image:
        raise RequestError("which image? send an image id, a session_id or a file")
    path = image_path(app.datastore(), check_name(image, "image"))
    if not path or not Path(path).exists():
        raise RequestError(
            f"there is no image {image!r}; GET /datastore/?output=all lists the ids, PUT /session/ uploads", status=404
        )
    return Path(path)
