"""Which addresses of the DICOMweb server the proxy may read."""

from __future__ import annotations

import re
from urllib.parse import unquote

from monailabel_app.errors import RequestError

# The resources of DICOM PS3.18, sections 10.4 (retrieve) and 10.6 (search), at study, series and instance level.
_UID = r"\d+(\.\d+)*"
_SHOWN = r"(/(metadata|rendered|thumbnail|pixeldata|(bulkdata|bulk)(/[0-9A-Za-z]+)*))?"
_FRAMES = r"/frames/\d+(,\d+)*(/(rendered|thumbnail))?"
_INSTANCE = rf"/instances(/{_UID}({_SHOWN}|{_FRAMES}))?"
_SERIES = rf"/series(/{_UID}({_SHOWN}|{_INSTANCE}))?"
_RESOURCE = re.compile(rf"(studies(/{_UID}({_SHOWN}|{_SERIES}|/instances))?|series|instances)", re.ASCII)
_LONGEST = 1024
_OPERATIONS = ("wado", "qido")


def checked_dicomweb_path(operation: str, path: str) -> str:
    """The path below the DICOMweb root, if it is a resource of DICOMweb.

    Only letters, digits, dots, commas and slashes can pass, and those in the order that the standard gives them, so
    that no encoding of anything else reaches the other server, which may decode once more than we do.

    Args:
        operation: "wado" or "qido".
        path: as the server decoded it.

    Raises:
        RequestError: it is not.
    """
    decoded = path[: _LONGEST + 1]  # each round of decoding below shortens it
    while (once_more := unquote(decoded)) != decoded:
        decoded = once_more
    if operation not in _OPERATIONS or len(path) > _LONGEST or not _RESOURCE.fullmatch(decoded):
        raise RequestError(
            "the DICOM proxy reads wado and qido of the server's own DICOMweb address, there studies, series, "
            "instances, frames, metadata, rendered, thumbnail and bulkdata",
            status=404,
        )
    return decoded
