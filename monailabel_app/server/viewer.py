"""The OHIF viewer of MONAI Label's wheel, with its doors to other servers closed.

The build is OHIF 3.10.0-beta.5. Up to 3.12.0 a link can make OHIF read from an address that the link names, and send
the user's token there (CVE-2026-12473: the data sources ``dicomwebproxy`` and ``dicomjson``). Here it gets a
configuration with one data source, this server's own, and a Content-Security-Policy that lets the page speak to this
server alone, so that neither a link nor a configuration in one reaches another. It never holds a token as well: a
browser sends the name and password of its own login with what the page loads.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response
from monailabel import endpoints
from monailabel.utils.others.generic import get_mime_type

from monailabel_app.errors import RequestError
from monailabel_app.server.safe_headers import page_policy

router = APIRouter(prefix="/ohif", tags=["Viewer"])
_FOLDER = Path(endpoints.__file__).with_name("static") / "ohif"
_PROXY = "/proxy/dicom"
_CONFIG = {
    "routerBasename": "/ohif/",
    "showStudyList": True,
    "extensions": [],
    "modes": [],
    "showWarningMessageForCrossOrigin": True,
    "showCPUFallbackMessage": True,
    "showLoadingIndicator": True,
    "strictZSpacingForVolumeViewport": True,
    "useSharedArrayBuffer": "FALSE",
    "defaultDataSourceName": "dicomweb",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "dicomweb",
            "configuration": {
                "friendlyName": "DICOMweb server",
                "name": "dicomweb",
                "wadoUriRoot": f"{_PROXY}/wado",
                "qidoRoot": f"{_PROXY}/qido",
                "wadoRoot": f"{_PROXY}/wado",
                "qidoSupportsIncludeField": True,
                "supportsReject": False,  # nothing is written through the proxy
                "dicomUploadEnabled": False,
                "imageRendering": "wadors",
                "thumbnailRendering": "wadors",
                "enableStudyLazyLoad": False,
                "supportsFuzzyMatching": True,
                "supportsWildcard": True,
                "bulkDataURI": {"enabled": True},
            },
        }
    ],
}
# The server that its MONAI Label panel connects to: this one, the only one that the policy lets it speak to. The panel
# takes it from this cookie, else port 8000; a user who empties its field to type another address ends the page.
_SERVER = 'document.cookie = `MONAILABEL_SERVER_URL=${escape(location.origin + "/")}; path=/ohif; samesite=strict`;\n'


@router.get("/{path:path}", include_in_schema=False)
def viewer(path: str) -> Response:
    """A file of the viewer; any other address in it is one of its pages, which are all one."""
    if not (_FOLDER / "index.html").is_file():
        raise RequestError("the OHIF viewer is not installed; it comes with the wheel of monailabel", status=404)
    page, policy = _page()
    headers = {"Content-Security-Policy": policy}  # its workers keep to that of their own file
    if path == "app-config.js":
        config = f"window.config = {json.dumps(_CONFIG, indent=2)};\n{_SERVER}"
        return Response(config, media_type="text/javascript", headers=headers)
    file = (_FOLDER / path).resolve()
    if path and file.is_relative_to(_FOLDER.resolve()) and file.is_file() and file.name != "index.html":
        kept = {"Cache-Control": "private, max-age=86400"}  # the program, no images
        return FileResponse(file, media_type=get_mime_type(str(file)), headers=headers | kept)
    return HTMLResponse(page, headers=headers)


@functools.cache
def _page() -> tuple[str, str]:
    page = (_FOLDER / "index.html").read_text(encoding="utf-8")
    return page, page_policy(
        page,
        script="'wasm-unsafe-eval'",  # its decoders of compressed pixels
        worker="'self' blob:",
        style="'unsafe-inline'",
        manifest="'self'",
        connect="blob: data:",  # what it holds itself
    )
