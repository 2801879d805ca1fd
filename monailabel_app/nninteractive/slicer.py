"""The dialect of SlicerNNInteractive before 1.0 (nninteractive-slicer-server 0.3.2): one image, no session, no key.

That design knows one user. Here each user's address has a path of its own, ``http://server:port/u/NAME``, which is
what is typed into the plug-in; without it the work is that of the user ``slicer``. Errors are replies with status 200
and ``{"status": "error", "message": ...}``, since that is what the plug-in shows; "No image uploaded" makes it upload.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Body, FastAPI, File, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse

from bundle.data.limits import LIMITS
from bundle.errors import MonaiSamError
from bundle.prompts.interactions import Box, Interaction, Point
from monailabel_app.errors import RequestError
from monailabel_app.nninteractive import prompts
from monailabel_app.nninteractive.desks import Desks
from monailabel_app.nninteractive.plain_arrays import gunzip, packed_bits, read_npy
from monailabel_app.nninteractive.reaping import reaping
from monailabel_app.nninteractive.serving import add_queue, having_turn
from monailabel_app.nninteractive.workbench import Opener, Workbench

_USER = re.compile(r"[\w.@-]{1,64}", re.ASCII)
_NPY_HEADER = 2**16
_TRUE = ("true", "1", "yes")


def create_app(open_session: Opener) -> FastAPI:
    """The server; ``open_session`` opens an image for a user (``workbench.Opener``)."""
    desks = Desks(open_session)
    app = FastAPI(
        title="monai-sam for SlicerNNInteractive before 1.0", redoc_url=None, lifespan=reaping(desks.drop_idle)
    )
    app.state.desks = app.state.open_works = desks
    add_queue(app)
    app.add_exception_handler(MonaiSamError, _error)
    app.add_exception_handler(Exception, _error)
    app.include_router(router, prefix="/u/{user}")
    app.include_router(router)
    return app


def _error(_: Request, error: Exception) -> JSONResponse:
    """What the plug-in shows; a defect of ours is named by its type, the log has the rest."""
    message = str(error) if isinstance(error, MonaiSamError) else f"the server failed with {type(error).__name__}"
    return JSONResponse({"status": "error", "message": message})


router = APIRouter()
Mask = Annotated[UploadFile, File()]
Positive = Annotated[str, Form()]


@router.post("/upload_image", max_body_size=LIMITS.body_bytes)
def upload_image(request: Request, file: Mask) -> dict[str, str]:
    """Take an image: a ``.npy`` file (K, J, I)."""
    array = read_npy(file.file.read())
    with _work(request) as work:
        work.set_image(array.astype(np.float32, copy=False), (1.0, 1.0, 1.0))
    return {"status": "ok"}


@router.post("/upload_segment", max_body_size=LIMITS.body_bytes)
def upload_segment(request: Request, file: Mask) -> dict[str, str]:
    """Go on with a segment; an empty one begins the next object."""
    with _work(request) as work:
        mask = _mask(file, _shape(work)) != 0
        if mask.any():
            work.start_from(mask, predict=False)
        else:
            work.reset()
    return {"status": "ok"}


@router.post("/add_point_interaction")
def add_point(request: Request, body: Annotated[dict[str, Any], Body()]) -> Response:
    """A click."""
    voxel = prompts.numbers(body.get("voxel_coord"), "voxel_coord", (3,))
    return _answer(request, lambda shape: [Point(voxel, positive=_positive(body.get("positive_click")))])


@router.post("/add_bbox_interaction")
def add_box(request: Request, body: Annotated[dict[str, Any], Body()]) -> Response:
    """A box by two corners, both of which belong to it."""
    corners = [prompts.numbers(body.get(f"outer_point_{name}"), f"outer_point_{name}", (3,)) for name in ("one", "two")]
    return _answer(request, lambda shape: [Box(np.stack(corners), positive=_positive(body.get("positive_click")))])


@router.post("/add_scribble_interaction", max_body_size=LIMITS.body_bytes)
def add_scribble(request: Request, file: Mask, positive_click: Positive = "true") -> Response:
    """Strokes."""
    return _answer(request, lambda shape: _drawn(prompts.read_scribble, file, positive_click, shape))


@router.post("/add_lasso_interaction", max_body_size=LIMITS.body_bytes)
def add_lasso(request: Request, file: Mask, positive_click: Positive = "true") -> Response:
    """A lasso."""
    return _answer(request, lambda shape: _drawn(prompts.read_lasso, file, positive_click, shape))


def _drawn(
    read: Callable[..., list[Interaction]], file: UploadFile, positive: str, shape: Sequence[int]
) -> list[Interaction]:
    mask, first = prompts.whole_mask(_mask(file, shape), None, shape)
    return read(mask, first, positive=positive.strip().lower() in _TRUE)


def _answer(request: Request, read: Callable[[Sequence[int]], list[Interaction]]) -> Response:
    """Answer with the whole mask of the object."""
    with _work(request) as work:
        work.add(read(_shape(work)), predict=True)
        content = packed_bits(work.mask)
    return Response(content, media_type="application/octet-stream", headers={"Content-Encoding": "gzip"})


@contextmanager
def _work(request: Request) -> Iterator[Workbench]:
    user = request.path_params.get("user", "slicer")
    if not _USER.fullmatch(user):
        raise RequestError("a user's name has letters, digits and . _ @ - (at most 64)")
    desks: Desks = request.app.state.desks
    desks.begin(user, user)
    with having_turn(request, user, request.url.path), desks.at(user) as work:
        if work is None:  # closed for others in between
            raise RequestError("No image uploaded")
        yield work


def _shape(work: Workbench) -> Sequence[int]:
    if not work.has_image:
        raise RequestError("No image uploaded")
    return work.shape


def _mask(file: UploadFile, shape: Sequence[int]) -> np.ndarray:
    return read_npy(gunzip(file.file.read(), 8 * int(np.prod(shape)) + _NPY_HEADER), shape=shape)


def _positive(value: Any) -> bool:
    if not isinstance(value, bool):
        raise RequestError(f"positive_click must be true or false, got {value!r:.80}")
    return value
