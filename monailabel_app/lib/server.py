"""The web server: MONAI Label's routes that this app needs, and none of the others.

Started by ``monailabel start_server --uvicorn_app monailabel_app.lib.server:app`` (scripts/serve.py does). It differs
from ``monailabel.app`` in what measuring and reading that server taught:

- an inference runs in a thread, so that ``/info/`` answers meanwhile (upstream's routes block the event loop);
- an error is a 4xx with one sentence instead of a bare 500;
- an image is an id of the datastore, a session or an upload, never a path of the server;
- absent are the routes that replace model weights, start training from a request's values, unpack archives, write
  through the DICOM proxy, show logs or reload the app;
- only addresses of this machine are answered (a web page elsewhere could otherwise reach the server by its name).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, File, Form, Request, Response, UploadFile
from fastapi.middleware.cors import CORSMiddleware
from fastapi.staticfiles import StaticFiles
from monailabel import endpoints
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.utils.convert import nifti_to_dicom_seg
from monailabel.endpoints import activelearning, datastore, info, ohif, proxy, session, train
from monailabel.endpoints.infer import send_response
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.utils.app import app_instance
from requests.exceptions import RequestException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from monailabel_app.lib import wire
from monailabel_app.lib.dicom_seg import match_label_info
from monailabel_app.lib.errors import RequestError, install_error_replies
from monailabel_app.lib.uploads import (
    check_file_name,
    check_label_fits,
    check_name,
    check_names_in_address,
    read_json,
    received_file,
)

logger = logging.getLogger(__name__)

HOSTS = ("127.0.0.1", "localhost")


class Output(str, Enum):
    """What of a result a client wants; the default is both parts in one multipart reply."""

    image = "image"
    json = "json"
    all = "all"
    dicom_seg = "dicom_seg"


router = APIRouter()
checked = APIRouter(dependencies=[Depends(check_names_in_address)])


# ---- inference ------------------------------------------------------------------------------------------------------


@router.post("/infer/{model}")
def infer(
    background: BackgroundTasks,
    model: str,
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    output: Output = Output.all,
) -> Any:
    """Answer a click. A plain function: it runs in a thread, beside the event loop."""
    app = app_instance()
    models = app.info()["models"]
    if model not in models:
        raise RequestError(f"there is no model {model!r}; this server has {', '.join(models)}", status=404)
    request = {**read_json(params, "params"), "model": model}
    request.pop(wire.IMAGE_KEY, None)
    if file is not None and file.filename:
        with received_file(file) as (path, digest):
            result = app.infer({**request, wire.IMAGE: str(path), wire.IMAGE_KEY: digest})
    else:
        path = find_image(app, image, session_id)
        result = app.infer({**request, wire.IMAGE: str(path)})
    if output is Output.dicom_seg:
        result["dicom_seg"] = _dicom_seg(app, path, result["file"], request)
    return send_response(app.datastore(), result, output.value, background)


def find_image(app: MONAILabelApp, image: str, session_id: str) -> Path:
    """The file behind a session, or else an id of the datastore.

    Raises:
        RequestError: neither leads to a file.
    """
    if session_id:
        found = app.sessions().get_session(check_name(session_id, "session_id"))
        if not found:
            raise RequestError(f"session {session_id!r} is unknown or has expired; upload the volume again", status=404)
        return Path(found.image)
    if not image:
        raise RequestError("which image? send an image id, a session_id or a file")
    try:
        path = app.datastore().get_image_uri(check_name(image, "image"))
    except (RequestException, IndexError) as error:  # IndexError: MONAI Label takes the first of no series
        raise RequestError(
            f"the DICOMweb server gives no series {image!r}; GET /datastore/ lists them", status=404
        ) from error
    if not path or not Path(path).exists():
        raise RequestError(
            f"there is no image {image!r}; GET /datastore/?output=all lists the ids, PUT /session/ uploads", status=404
        )
    return Path(path)


def _dicom_seg(app: MONAILabelApp, image: Path, label: str, request: dict[str, Any]) -> str:
    label_info = request.get("label_info")
    if not isinstance(app.datastore(), DICOMWebDatastore) or not label_info:
        raise RequestError("output=dicom_seg needs a DICOMweb datastore and label_info in params")
    return nifti_to_dicom_seg(str(image).removesuffix(".nii.gz"), label, match_label_info(label_info, Path(label)))


# ---- uploads --------------------------------------------------------------------------------------------------------


@router.put("/session/")
def create_session(background: BackgroundTasks, files: Annotated[list[UploadFile], File()], expiry: int = 0) -> Any:
    """Keep a volume (one file, or the files of a DICOM series) for the requests that follow."""
    for file in files:
        check_file_name(file)
    return session.create_session(background, False, expiry, files)


@checked.put("/datastore/")
@checked.put("/datastore/image")
def add_image(
    background: BackgroundTasks,
    file: Annotated[UploadFile, File()],
    image: str | None = None,
    params: Annotated[str, Form()] = "{}",
) -> Any:
    """Add an image to the datastore."""
    read_json(params, "params")
    check_file_name(file)
    return datastore.add_image(background, image, params, file)


@checked.put("/datastore/label")
def save_label(
    background: BackgroundTasks,
    image: str,
    label: Annotated[UploadFile, File()],
    params: Annotated[str, Form()] = "{}",
    tag: str = "final",
) -> Any:
    """Save a label; one that is damaged or lies on another grid does not replace the one from before."""
    info = read_json(params, "params")
    app = app_instance()
    target = find_image(app, image, "")
    with received_file(label) as (path, _):
        check_label_fits(path, target)
        if isinstance(app.datastore(), DICOMWebDatastore):
            info["label_info"] = match_label_info(info.get("label_info") or [], path)
    label.file.seek(0)
    return datastore.save_label(background, image, json.dumps(info), tag, label)


# ---- what is kept of the rest of MONAI Label ------------------------------------------------------------------------


@router.get("/train/")
def training_status(all: bool = False, check_if_running: bool = False) -> Any:
    """Whether a training runs: Slicer asks when it connects."""
    return train.status(all, check_if_running)


@router.get("/proxy/dicom/{op}/{path:path}")
def read_dicomweb(request: Request, op: str, path: str) -> Response:
    """Let OHIF read from the DICOMweb server that the app was started with; reading only."""
    if op not in ("wado", "qido") or ".." in path.split("/") or not settings.MONAI_LABEL_STUDIES.startswith("http"):
        raise RequestError("the DICOM proxy reads wado and qido of the server's own DICOMweb address", status=404)
    return asyncio.run(proxy.proxy_dicom(request, op, path))


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    instance = app_instance()
    instance.server_mode(True)
    instance.on_init_complete()
    yield


def create_app() -> FastAPI:
    """The server; its first matching route answers, so ours stand before MONAI Label's of the same address."""
    app = FastAPI(title="monai-sam", docs_url="/", redoc_url=None, lifespan=_lifespan)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS))
    if settings.MONAI_LABEL_CORS_ORIGINS:
        origins = [str(origin).rstrip("/") for origin in settings.MONAI_LABEL_CORS_ORIGINS]
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])
    install_error_replies(app)
    app.include_router(router)
    app.include_router(checked)
    app.include_router(info.router)
    app.include_router(ohif.router)
    for part in (datastore, session, activelearning):
        app.include_router(part.router, dependencies=[Depends(check_names_in_address)])
    static = Path(endpoints.__file__).with_name("static")
    app.mount("/static", StaticFiles(directory=static), name="static")
    return app


app = create_app()
