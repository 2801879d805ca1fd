"""The dialect of ITK-SNAP (itksnap-dls 0.1.6): sessions by id, images as raw values, masks in base64.

Indices are ITK's, (x, y, z) with x fastest; errors of a session are ``{"error": "Invalid session"}`` with status 200.
"""

from __future__ import annotations

import base64
import gzip
import json
import secrets
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, FastAPI, File, Form, Request, UploadFile

import bundle
from bundle.data.limits import LIMITS
from bundle.prompts.interactions import Interaction, Point
from monailabel_app.errors import RequestError, install_error_replies
from monailabel_app.nninteractive import prompts
from monailabel_app.nninteractive.desks import Desks
from monailabel_app.nninteractive.plain_arrays import gunzip, read_raw
from monailabel_app.nninteractive.reaping import reaping
from monailabel_app.nninteractive.serving import add_queue, having_turn
from monailabel_app.nninteractive.workbench import Opener, Workbench

MODEL = "monai-sam"
_INVALID = {"error": "Invalid session"}


def create_app(open_session: Opener, *, user_of: Callable[[Request], str] = lambda request: "local") -> FastAPI:
    """The server.

    Args:
        open_session: opens an image for a user (``workbench.Opener``).
        user_of: whose key a request has.
    """
    desks = Desks(open_session)
    app = FastAPI(title="monai-sam for ITK-SNAP", redoc_url=None, lifespan=reaping(desks.drop_idle))
    app.state.desks = app.state.open_works = desks
    app.state.user_of = user_of
    add_queue(app)
    install_error_replies(app)
    app.include_router(router, prefix="/v2")
    app.include_router(router)
    return app


router = APIRouter()


@router.get("/status")
def status() -> dict[str, str]:
    """Whether the server runs."""
    return {"status": "ok", "version": bundle.__version__}


@router.get("/models")
def models() -> dict[str, Any]:
    """The one model."""
    about = {"id": MODEL, "dimensions": 3, "channels": 1, "interactions": ["point", "scribble", "lasso"]}
    return {"models": [about]}


@router.get("/start_session")
@router.get("/start_session/{model}")
def start_session(request: Request, model: str = MODEL) -> dict[str, str]:
    """Begin."""
    if model != MODEL:
        raise RequestError(f"there is no model {model!r:.80}; this server has {MODEL}", status=404)
    session = secrets.token_urlsafe(24)
    request.app.state.desks.begin(session, request.app.state.user_of(request))
    return {"session_id": session}


@router.get("/end_session/{session}")
def end_session(request: Request, session: str) -> dict[str, str]:
    """End."""
    request.app.state.desks.end(session)
    return {"status": "session ended"}


@router.post("/upload_raw/{session}", max_body_size=LIMITS.body_bytes)
def upload_raw(
    request: Request, session: str, file: Annotated[UploadFile, File()], metadata: Annotated[str, Form()]
) -> dict[str, str]:
    """Take an image: gzip of float32, x fastest."""
    shape = _dimensions(metadata)
    with request.app.state.desks.at(session) as work:
        if work is None:
            return _INVALID
        work.set_image(read_raw(gunzip(file.file.read(), 4 * int(np.prod(shape))), shape), (1.0, 1.0, 1.0))
    return {"status": "success"}


@router.get("/process_point_interaction/{session}")
def add_point(request: Request, session: str) -> dict[str, str]:
    """A click: ``?point=x&point=y&point=z``, or ``?x=..&y=..&z=..``."""
    query = request.query_params
    values = query.getlist("point") or [query.get(axis) for axis in "xyz"]
    voxel = prompts.numbers(values, "point", (3,))[::-1]
    point = Point(voxel, positive=_flag(query.get("foreground", "true")))
    return _answer(request, session, lambda work: [point])


@router.post("/process_scribble_interaction/{session}", max_body_size=LIMITS.body_bytes)
def add_scribble(request: Request, session: str, file: Annotated[UploadFile, File()]) -> dict[str, str]:
    """Strokes, drawn as a mask like the image."""
    return _answer(request, session, lambda work: _drawn(request, work, file, prompts.read_scribble))


@router.post("/process_lasso_interaction/{session}", max_body_size=LIMITS.body_bytes)
def add_lasso(request: Request, session: str, file: Annotated[UploadFile, File()]) -> dict[str, str]:
    """A lasso, drawn as a mask like the image."""
    return _answer(request, session, lambda work: _drawn(request, work, file, prompts.read_lasso))


@router.get("/reset_interactions/{session}")
def reset_interactions(request: Request, session: str) -> dict[str, str]:
    """Begin the next object."""
    with request.app.state.desks.at(session) as work:
        if work is None:
            return _INVALID
        work.reset()
    return {"status": "success"}


def _drawn(
    request: Request, work: Workbench, file: UploadFile, read: Callable[..., list[Interaction]]
) -> list[Interaction]:
    x, y, z = work.shape[::-1]
    drawn = read_raw(gunzip(file.file.read(), 4 * x * y * z), (x, y, z))
    mask, first = prompts.whole_mask(drawn, None, work.shape)
    return read(mask, first, positive=_flag(request.query_params.get("foreground", "true")))


def _answer(request: Request, session: str, read: Callable[[Workbench], list[Interaction]]) -> dict[str, str]:
    with having_turn(request, session, "itksnap"), request.app.state.desks.at(session) as work:
        if work is None:
            return _INVALID
        work.add(read(work), predict=True)
        mask = np.ascontiguousarray(work.mask, dtype=np.int8)  # (z, y, x): x is fastest
    packed = base64.b64encode(gzip.compress(mask.tobytes(), compresslevel=1)).decode()
    return {"status": "success", "result": packed}


def _dimensions(metadata: str) -> tuple[int, int, int]:
    try:
        about = json.loads(metadata[:4096])
        sizes, channels = about["dimensions"], about.get("components_per_pixel", 1)
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError) as error:
        raise RequestError('metadata must be JSON with "dimensions": [x, y, z]') from error
    if not isinstance(sizes, list) or len(sizes) != 3 or not all(type(size) is int and size > 0 for size in sizes):
        raise RequestError(f"dimensions must be three whole numbers above 0, got {sizes!r:.80}")
    if channels != 1:
        raise RequestError(f"the image must have one component per pixel, got {channels!r:.80}")
    if sizes[0] * sizes[1] * sizes[2] > LIMITS.voxels:
        raise RequestError(f"the image has more than {LIMITS.voxels} voxels", status=413)
    return tuple(sizes)


def _flag(text: str) -> bool:
    if text.strip().lower() not in ("true", "false"):
        raise RequestError(f"foreground must be true or false, got {text!r:.80}")
    return text.strip().lower() == "true"
