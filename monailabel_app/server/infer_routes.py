"""The route of clicks: admitted to the queue, computed in a thread, given up when the client leaves or cancels."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
from anyio import to_thread
from fastapi import APIRouter, BackgroundTasks, File, Form, Request, UploadFile
from monailabel.endpoints.infer import send_response
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.utils.app import app_instance

from bundle.data.grid import check_grid
from bundle.data.guarded import read_label, read_volume
from bundle.data.limits import LIMITS
from monailabel_app.datastore.dicomweb_store import DicomWebStore
from monailabel_app.errors import RequestError
from monailabel_app.server.body_limits import FORM_LIMITS
from monailabel_app.server.gate import account_of
from monailabel_app.server.images import find_image
from monailabel_app.server.leaving import cancelled_when_left
from monailabel_app.server.next_sample import note_work
from monailabel_app.server.uploads import received_file
from monailabel_app.server.users import user_of
from monailabel_app.wire import fields as wire
from monailabel_app.wire.dicom_seg import match_label_info, write_dicom_seg
from monailabel_app.wire.json_values import read_json
from monailabel_app.work import Work, WorkQueue, doing

router = APIRouter(tags=["Infer"])


class Output(str, Enum):
    """What of a result a client wants; the default is both parts in one multipart reply."""

    image = "image"
    json = "json"
    all = "all"
    dicom_seg = "dicom_seg"


@router.post("/infer/{model}", max_body_size=LIMITS.body_bytes, form_limits=FORM_LIMITS)
async def infer(
    http: Request,
    background: BackgroundTasks,
    model: str,
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
    output: Output = Output.all,
) -> Any:
    """Answer a click, in a thread beside those of the other routes."""
    request = read_json(params, "params")
    queue: WorkQueue = http.app.state.queue
    with queue.admitted(user_of(http, request), model) as work:
        async with cancelled_when_left(http, work):
            asked = _as_asked(http, request)
            answer = partial(_answer, work, background, model, image, session_id, asked, file, label, output)
            return await to_thread.run_sync(answer, limiter=_threads(http))


def _as_asked(http: Request, params: Mapping[str, Any]) -> dict[str, Any]:
    """The params without what the server says and no client: which uploads they are, and who is logged in."""
    ours = (wire.IMAGE_KEY, wire.PAINTED, wire.USER)
    asked = {name: value for name, value in params.items() if name not in ours}
    if http.app.state.accounts is not None:
        asked[wire.USER] = account_of(http.scope).name
    return asked


def _threads(http: Request) -> anyio.CapacityLimiter:
    """Threads for as many clicks as the queue admits, so that none of them takes one of the other routes'."""
    state = http.app.state
    if getattr(state, "threads", None) is None:
        state.threads = anyio.CapacityLimiter(LIMITS.requests)
    return state.threads


def _answer(
    work: Work,
    background: BackgroundTasks,
    model: str,
    image: str,
    session_id: str,
    params: Mapping[str, Any],
    file: UploadFile | None,
    label: UploadFile | None,
    output: Output,
) -> Any:
    app = app_instance()
    models = app.info()["models"]
    if model not in models:
        raise RequestError(f"there is no model {model!r}; this server has {', '.join(models)}", status=404)
    request = {**params, "model": model}
    if output is Output.dicom_seg and (file or not _can_be_dicom_seg(app, request)):
        raise RequestError("output=dicom_seg needs a series of a DICOMweb server and label_info in params")
    with doing(work), ExitStack() as uploads:
        if label is not None and label.filename:
            request[wire.PAINTED] = str(uploads.enter_context(received_file(label))[0])
        if file is not None and file.filename:
            path, digest = uploads.enter_context(received_file(file))
            result = app.infer({**request, wire.IMAGE: str(path), wire.IMAGE_KEY: digest})
        else:
            path = find_image(app, image, session_id)
            if not session_id:
                work.study = image  # only now: nobody else sees the name of an image that is not there
                note_work(app, image, work.user)
            result = app.infer({**request, wire.IMAGE: str(path)})
    background.add_task(_remove, result["file"])
    try:
        if output is Output.dicom_seg:
            result["dicom_seg"] = _dicom_seg(path, result["file"], request["label_info"], request.get("series"))
            background.add_task(_remove, result["dicom_seg"])
        return send_response(app.datastore(), result, output.value, background)
    except BaseException:  # then nothing runs in the background
        _remove(result["file"])
        raise


def _can_be_dicom_seg(app: MONAILabelApp, request: dict[str, Any]) -> bool:
    return isinstance(app.datastore(), DicomWebStore) and bool(request.get("label_info"))


def _dicom_seg(image: Path, label: str, label_info: list[dict[str, Any]], series: str | None) -> str:
    volume = read_volume(image, series=series)
    labels = check_grid(volume, read_label(label)).array
    handle, path = tempfile.mkstemp(suffix=".dcm")
    os.close(handle)
    try:
        return str(write_dicom_seg(labels, volume, match_label_info(label_info, labels), Path(path)))
    except BaseException:
        _remove(path)
        raise


def _remove(file: str) -> None:
    Path(file).unlink(missing_ok=True)
