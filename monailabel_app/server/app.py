"""The web server: MONAI Label's routes that this app needs, and none of the others.

Started by ``monailabel start_server --uvicorn_app monailabel_app.server.app:app`` (scripts/serve.py does). It differs
from ``monailabel.app`` in what measuring and reading that server taught:

- an inference runs in a thread, so that ``/info/`` answers meanwhile (upstream's routes block the event loop);
- an error is a 4xx with one sentence instead of a bare 500;
- an image is an id of the datastore, a session or an upload, never a path of the server;
- absent are the routes that replace model weights, start training from a request's values, unpack archives, write
  through the DICOM proxy, show logs or reload the app;
- only addresses of this machine are answered (a web page elsewhere could otherwise reach the server by its name), and
  web pages of other origins change nothing;
- every body and form has a limit of size.
"""

from __future__ import annotations

import asyncio
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
from monailabel.endpoints import datastore, info, ohif, proxy, train
from monailabel.endpoints.infer import send_response
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.utils.app import app_instance
from requests.exceptions import RequestException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from bundle.data.limits import LIMITS
from monailabel_app.errors import RequestError, install_error_replies
from monailabel_app.server import datastore_routes, next_sample, session_routes
from monailabel_app.server.body_limits import FORM_LIMITS, SmallBodies
from monailabel_app.server.dicomweb_paths import checked_dicomweb_path
from monailabel_app.server.images import find_image
from monailabel_app.server.launch import check_login_is_off
from monailabel_app.server.origins import OwnPagesOnly
from monailabel_app.server.uploads import check_names_in_address, received_file
from monailabel_app.wire import fields as wire
from monailabel_app.wire.dicom_seg import match_label_info
from monailabel_app.wire.json_values import read_json

logger = logging.getLogger(__name__)

HOSTS = ("127.0.0.1", "localhost")


class Output(str, Enum):
    """What of a result a client wants; the default is both parts in one multipart reply."""

    image = "image"
    json = "json"
    all = "all"
    dicom_seg = "dicom_seg"


router = APIRouter()


# ---- inference ------------------------------------------------------------------------------------------------------


@router.post("/infer/{model}", max_body_size=LIMITS.body_bytes, form_limits=FORM_LIMITS)
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
    for ours in (wire.IMAGE_KEY, wire.USER):  # what the server says, no client
        request.pop(ours, None)
    if output is Output.dicom_seg and (file or not _can_be_dicom_seg(app, request)):
        raise RequestError("output=dicom_seg needs a series of a DICOMweb server and label_info in params")
    if file is not None and file.filename:
        with received_file(file) as (path, digest):
            result = app.infer({**request, wire.IMAGE: str(path), wire.IMAGE_KEY: digest})
    else:
        path = find_image(app, image, session_id)
        result = app.infer({**request, wire.IMAGE: str(path)})
    background.add_task(_remove, result["file"])
    try:
        if output is Output.dicom_seg:
            result["dicom_seg"] = _dicom_seg(path, result["file"], request["label_info"])
            background.add_task(_remove, result["dicom_seg"])
        return send_response(app.datastore(), result, output.value, background)
    except BaseException:  # then nothing runs in the background
        _remove(result["file"])
        raise


def _can_be_dicom_seg(app: MONAILabelApp, request: dict[str, Any]) -> bool:
    return isinstance(app.datastore(), DICOMWebDatastore) and bool(request.get("label_info"))


def _dicom_seg(image: Path, label: str, label_info: list[dict[str, Any]]) -> str:
    return nifti_to_dicom_seg(str(image).removesuffix(".nii.gz"), label, match_label_info(label_info, Path(label)))


def _remove(file: str) -> None:
    Path(file).unlink(missing_ok=True)


# ---- what is kept of the rest of MONAI Label ------------------------------------------------------------------------


@router.get("/train/")
def training_status(all: bool = False, check_if_running: bool = False) -> Any:
    """Whether a training runs: Slicer asks when it connects."""
    return train.status(all, check_if_running)


@router.get("/proxy/dicom/{op}/{path:path}")
def read_dicomweb(request: Request, op: str, path: str) -> Response:
    """Let OHIF read from the DICOMweb server that the app was started with; reading only."""
    if not settings.MONAI_LABEL_STUDIES.startswith("http"):
        raise RequestError("this server was started with a folder, so there is no DICOMweb server to read", status=404)
    try:
        return asyncio.run(proxy.proxy_dicom(request, op, checked_dicomweb_path(op, path)))
    except RequestException as error:
        raise RequestError(f"the DICOMweb server gives no answer ({type(error).__name__})", status=502) from error


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    instance = app_instance()
    instance.server_mode(True)
    instance.on_init_complete()
    yield


def create_app() -> FastAPI:
    """The server; its first matching route answers, so ours stand before MONAI Label's of the same address.

    Raises:
        SettingsError: a login was asked for.
    """
    check_login_is_off(settings.MONAI_LABEL_AUTH_ENABLE)
    app = FastAPI(title="monai-sam", docs_url="/", redoc_url=None, lifespan=_lifespan, form_limits=FORM_LIMITS)
    origins = [str(origin).rstrip("/") for origin in settings.MONAI_LABEL_CORS_ORIGINS]
    app.add_middleware(SmallBodies)
    app.add_middleware(OwnPagesOnly, origins=origins)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS))
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])
    install_error_replies(app)
    for ours in (router, datastore_routes.router, session_routes.router, next_sample.router):
        app.include_router(ours)
    app.include_router(info.router)
    app.include_router(ohif.router)
    app.include_router(datastore.router, dependencies=[Depends(check_names_in_address)])
    static = Path(endpoints.__file__).with_name("static")
    app.mount("/static", StaticFiles(directory=static), name="static")
    return app


app = create_app()
