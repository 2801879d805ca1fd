"""The web server that nnInteractive's clients find: their calls, our engine.

The protocol is that of ``nninteractive-client`` 2.5 and 2.6 (docs/nninteractive.md). Every call but ``/healthz`` and
``/claim`` names its lease. Calls of one lease wait for each other; those of several run side by side as far as the
network lets them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response

from bundle.data.limits import LIMITS
from monailabel_app.errors import RequestError, install_error_replies
from monailabel_app.nninteractive import prompts
from monailabel_app.nninteractive.leases import Lease, Leases
from monailabel_app.nninteractive.packed_arrays import pack_array, received_array
from monailabel_app.nninteractive.reaping import reaping
from monailabel_app.nninteractive.serving import add_queue, answered
from monailabel_app.nninteractive.workbench import Change, Opener, Seats, Workbench
from monailabel_app.wire.json_values import read_json

logger = logging.getLogger(__name__)

META, LEASE = "X-Meta", "X-Lease-Token"
LICENSE = "Apache-2.0"  # of the code and of the shipped weights
KINDS = ("points", "bbox2d", "bbox3d", "scribble", "lasso")
_DRAWN = {"scribble": prompts.read_scribble, "lasso": prompts.read_lasso}
_BUFFERS = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")


def create_app(
    open_session: Opener,
    *,
    leases: Leases | None = None,
    license: str = LICENSE,
    user_of: Callable[[Request], str] = lambda request: "local",
) -> FastAPI:
    """The server.

    Args:
        open_session: opens an image for a user (``workbench.Opener``).
        leases: its places; by default four.
        license: of the loaded weights, which clients show.
        user_of: whose key a request has.
    """
    leases = leases if leases is not None else Leases(places=4)
    leases.on_loss = _close
    lifespan = reaping(leases.drop_expired)
    app = FastAPI(title="monai-sam for nnInteractive's clients", redoc_url=None, lifespan=lifespan)
    app.state.leases = app.state.open_works = leases
    app.state.open_session, app.state.license, app.state.user_of = open_session, license, user_of
    app.state.seats = Seats()
    add_queue(app)
    install_error_replies(app)
    app.include_router(router)
    return app


router = APIRouter()


# ---- leases ---------------------------------------------------------------------------------------------------------


@router.get("/healthz")
def healthz() -> dict[str, bool]:
    """Whether the server runs."""
    return {"ok": True}


@router.post("/claim")
def claim(request: Request) -> dict[str, Any]:
    """Take a place."""
    state = request.app.state
    user = state.user_of(request)
    lease = state.leases.claim(user)
    lease.holds = Workbench(user, state.open_session, state.seats)
    return {
        "lease_token": lease.token,
        "idle_timeout_seconds": state.leases.idle_seconds,
        "liveness_timeout_seconds": state.leases.silent_seconds,
        "max_sessions": state.leases.places,
    }


def used_lease(request: Request, token: Annotated[str, Header(alias=LEASE)] = "") -> Lease:
    """The lease of a request that does something."""
    return request.app.state.leases.find(token, request.app.state.user_of(request), used=True)


Used = Annotated[Lease, Depends(used_lease)]


@router.post("/heartbeat")
def heartbeat(request: Request, token: Annotated[str, Header(alias=LEASE)] = "") -> dict[str, float]:
    """Say that the client lives."""
    state = request.app.state
    lease = state.leases.find(token, state.user_of(request), used=False)
    return {"remaining_seconds": state.leases.remaining(lease)}


@router.get("/lease_status")
def lease_status(request: Request, token: Annotated[str, Header(alias=LEASE)] = "") -> dict[str, float]:
    """How long a lease lasts if nothing is done; changes nothing."""
    state = request.app.state
    remaining = state.leases.look(token, state.user_of(request))
    return {"remaining_seconds": remaining, "idle_timeout_seconds": state.leases.idle_seconds}


@router.post("/release")
def release(request: Request, token: Annotated[str, Header(alias=LEASE)] = "") -> dict[str, bool]:
    """Give a place back; may be said twice."""
    lease = request.app.state.leases.release(token, request.app.state.user_of(request))
    if lease is not None:
        with lease.lock:
            lease.holds.finish()
    return {"released": lease is not None}


@router.get("/capabilities")
def capabilities(request: Request, lease: Used) -> dict[str, Any]:
    """What the model can do. Its channels are our kinds of prompts; clients only show them."""
    return {
        "supported_interactions": dict.fromkeys(KINDS, True),
        "channel_mapping": {kind: [2 * place, 2 * place + 1] for place, kind in enumerate(KINDS)},
        "num_interaction_channels": 2 * len(KINDS),
        "supports_initial_label": True,
        "supports_zero_shot_label_refinement": True,
        "preferred_scribble_thickness": [2, 2, 2],
        "interaction_decay": 1.0,  # nothing is forgotten
        "patch_size": None,
        "do_autozoom": True,
        "inference_session_version": "2.0.0",
        "license": request.app.state.license,
        "supports_undo": True,
    }


# ---- image and buffer -----------------------------------------------------------------------------------------------


@router.post("/set_image", max_body_size=LIMITS.body_bytes)
async def set_image(request: Request, lease: Used) -> dict[str, Any]:
    """Take an image (1, X, Y, Z); what this user did with the same image before is there again."""
    properties = _meta(request).get("image_properties") or {}
    if not isinstance(properties, Mapping):
        raise RequestError("image_properties must be a JSON object")
    data = await request.body()

    spacing = properties.get("spacing", (1.0, 1.0, 1.0))
    shape = await _locked(request, lease, lambda: lease.holds.set_image(received_array(data), spacing))
    return {"original_image_shape": list(shape)}


@router.post("/set_target_buffer")
async def set_target_buffer(request: Request, lease: Used) -> dict[str, Any]:
    """Take an empty target buffer."""
    body = await _json(request)
    shape, dtype = body.get("shape"), body.get("dtype")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise RequestError(f"shape must be a list of whole numbers, got {shape!r:.80}")
    if dtype not in _BUFFERS:
        raise RequestError(f"dtype must be one of {', '.join(_BUFFERS)}, got {dtype!r:.80}")
    await _locked(request, lease, lambda: lease.holds.set_buffer(shape, np.dtype(dtype)))
    return {}


@router.post("/reset_interactions")
async def reset_interactions(request: Request, lease: Used) -> dict[str, Any]:
    """Begin the next object."""
    await _locked(request, lease, lambda: lease.holds.reset())
    return {}


@router.post("/set_do_autozoom")
async def set_do_autozoom(request: Request, lease: Used) -> dict[str, Any]:
    """Taken and without effect: the network looks at a window that fits the object, always."""
    if not isinstance((await _json(request)).get("do_autozoom"), bool):
        raise RequestError("do_autozoom must be true or false")
    return {}


# ---- prompts --------------------------------------------------------------------------------------------------------


@router.post("/add_point_interaction")
async def add_point(request: Request, lease: Used) -> Response:
    """A click."""
    body = await _json(request)
    point = prompts.read_point(body, positive=_flag(body, "include_interaction", None))
    return await _added(request, lease, [point], body)


@router.post("/add_bbox_interaction")
async def add_box(request: Request, lease: Used) -> Response:
    """A box, flat or not."""
    body = await _json(request)
    box = prompts.read_box(body, positive=_flag(body, "include_interaction", None))
    return await _added(request, lease, [box], body)


@router.post("/add_scribble_interaction", max_body_size=LIMITS.body_bytes)
async def add_scribble(request: Request, lease: Used) -> Response:
    """Strokes, drawn as a mask."""
    return await _add_drawn(request, lease, "scribble")


@router.post("/add_lasso_interaction", max_body_size=LIMITS.body_bytes)
async def add_lasso(request: Request, lease: Used) -> Response:
    """A lasso, drawn as a mask."""
    return await _add_drawn(request, lease, "lasso")


@router.post("/add_initial_seg_interaction", max_body_size=LIMITS.body_bytes)
async def add_initial_segmentation(request: Request, lease: Used) -> Response:
    """A segmentation to start from; prompts before it are forgotten."""
    meta, data = _meta(request), await request.body()
    predict = _flag(meta, "run_prediction", False)
    return await _answer(request, lease, lambda: lease.holds.start_from(received_array(data) != 0, predict=predict))


@router.post("/predict")
async def predict(request: Request, lease: Used) -> Response:
    """Answer what was added without an answer."""
    return await _answer(request, lease, lambda: lease.holds.predict())


@router.post("/undo")
async def undo(request: Request, lease: Used) -> Response:
    """Take the last step back, as often as there are steps."""
    return await _answer(request, lease, lambda: lease.holds.undo())


async def _add_drawn(request: Request, lease: Lease, kind: str) -> Response:
    meta, data = _meta(request), await request.body()
    positive, ask = _flag(meta, "include_interaction", None), _flag(meta, "run_prediction", True)

    def work() -> Change:
        shape = lease.holds.shape
        mask, first = prompts.whole_mask(received_array(data), meta.get("interaction_bbox"), shape)
        return lease.holds.add(_DRAWN[kind](mask, first, positive=positive), predict=ask)

    return await _answer(request, lease, work)


async def _added(request: Request, lease: Lease, interactions: list[Any], body: Mapping[str, Any]) -> Response:
    ask = _flag(body, "run_prediction", True)
    return await _answer(request, lease, lambda: lease.holds.add(interactions, predict=ask))


async def _answer(request: Request, lease: Lease, work: Callable[[], Change]) -> Response:
    """The reply of a call that may change the target buffer: the changed region, or nothing."""
    change = await _locked(request, lease, work)
    meta: dict[str, Any] = {"ran_prediction": change.ran, "bbox": change.box}
    if change.region is not None:
        meta |= {"dtype": change.region.dtype.name, "shape": list(change.region.shape)}
    content = b"" if change.region is None else pack_array(change.region)
    return Response(content, media_type="application/octet-stream", headers={META: json.dumps(meta)})


async def _locked(request: Request, lease: Lease, work: Callable[[], Any]) -> Any:
    """Do a work of a lease in its turn; the body of the request has been read."""
    await request.body()

    def run() -> Any:
        with lease.lock:
            return work()

    return await answered(request, lease.user, request.url.path.strip("/"), lease, run)


# ---- what a request says --------------------------------------------------------------------------------------------


def _meta(request: Request) -> Mapping[str, Any]:
    return read_json(request.headers.get(META, "{}"), META)


async def _json(request: Request) -> Mapping[str, Any]:
    try:
        text = (await request.body()).decode("utf-8") or "{}"
    except UnicodeDecodeError as error:
        raise RequestError("the body must be JSON in UTF-8") from error
    return read_json(text, "the body")


def _flag(values: Mapping[str, Any], name: str, default: bool | None) -> bool:
    value = values.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(f"{name} must be true or false, got {value!r:.80}")
    return value


def _close(lease: Lease) -> None:
    with lease.lock:
        if lease.holds is not None:
            lease.holds.close()
    logger.info("A lease has expired; the work done under it is kept")
