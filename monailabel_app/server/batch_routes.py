"""A model that needs no click over many images, as a job behind the clicks; its labels are for review."""

from __future__ import annotations

import uuid
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

from fastapi import APIRouter, Body, Depends, Request
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.utils.app import app_instance

from monailabel_app.errors import RequestError
from monailabel_app.jobs import Job
from monailabel_app.server.images import find_image
from monailabel_app.server.scoring_routes import job_status
from monailabel_app.server.uploads import check_name, check_names_in_address
from monailabel_app.wire import fields as wire
from monailabel_app.wire.json_values import LABEL_INFO, check_json

router = APIRouter(prefix="/batch", tags=["Infer"], dependencies=[Depends(check_names_in_address)])

Params = Annotated[dict[str, Any] | None, Body()]
AUTOMATIC = ("sam_auto", "sam_class")
_OURS = (wire.IMAGE, wire.IMAGE_KEY, wire.PAINTED, wire.USER)


class Images(str, Enum):
    """Which images."""

    all = "all"
    labeled = "labeled"
    unlabeled = "unlabeled"


@runtime_checkable
class Batches(Protocol):
    """An app that works through many images."""

    batch: Job


@router.get("/infer")
def batch_status(check_if_running: bool = False) -> dict[str, Any]:
    """The progress of the batch that runs, or of the last one."""
    return job_status(_job(app_instance()), check_if_running=check_if_running)


@router.post("/infer/{model}")
def start_batch(
    http: Request,
    model: str,
    images: Images = Images.unlabeled,
    params: Annotated[dict[str, Any] | None, Body()] = None,
) -> dict[str, Any]:
    """Segment images one after the other; those that have a label of the tag already are left out, so it goes on."""
    app, params = app_instance(), dict(params or {})
    check_json(params, "the body")
    job = _job(app)
    if model not in AUTOMATIC or model not in app.info()["models"]:
        raise RequestError(f"a batch needs a model that is not clicked: {', '.join(AUTOMATIC)}; got {model!r}")
    tag = check_name(str(params.pop("label_tag", None) or DefaultLabelTag.ORIGINAL.value), "label_tag")
    if tag == DefaultLabelTag.FINAL.value:
        raise RequestError("a batch makes no final labels, people do; choose another label_tag")
    most = params.pop("max_batch_size", 0) or 0
    if not isinstance(most, int) or isinstance(most, bool) or most < 0:
        raise RequestError(f"max_batch_size must be a whole number from 0 (no limit), got {most!r:.80}")
    request = {name: value for name, value in params.items() if name not in _OURS} | {"model": model}
    # In sessions of its own: what another batch found, with another network or other labels, is not found by this one.
    request[wire.USER] = f"batch {uuid.uuid4().hex}"  # with a space, as no account's name has
    wanted = _wanted(app, images, tag)[: most or None]
    left = set(wanted)

    def do(image: str) -> None:
        left.discard(image)
        _segment(app, image, tag, request)

    if not job.start(http.app.state.queue, lambda: [image for image in wanted if image in left], do):
        raise RequestError("a batch is running; wait for it, or stop it with DELETE /batch/infer", status=409)
    return job_status(job)


@router.delete("/infer")
def stop_batch() -> dict[str, Any]:
    """Stop after the slice that is being asked; the labels that there are stay."""
    job = _job(app_instance())
    job.stop()
    return job_status(job)


def _wanted(app: MONAILabelApp, images: Images, tag: str) -> list[str]:
    store = app.datastore()
    listed = {
        Images.all: store.list_images,
        Images.labeled: store.get_labeled_images,
        Images.unlabeled: store.get_unlabeled_images,
    }[images]()
    return sorted(image for image in listed if not store.get_label_by_image_id(image, tag))


def _segment(app: MONAILabelApp, image: str, tag: str, request: dict[str, Any]) -> None:
    """Segment one image and save the label, where anything was found and nobody has saved one meanwhile."""
    store = app.datastore()
    if store.get_label_by_image_id(image, tag):
        return
    path = find_image(app, image, session_id="")
    made = app.infer({**request, wire.IMAGE: str(path)})
    file = Path(made["file"])
    try:
        names = made["params"][wire.LABEL_NAMES]
        if names and not store.get_label_by_image_id(image, tag):
            info = [{"name": name, "idx": value} for name, value in names.items()]
            store.save_label(image, str(file), tag, {LABEL_INFO: info, "model": request["model"]})
    finally:
        file.unlink(missing_ok=True)


def _job(app: MONAILabelApp) -> Job:
    if not isinstance(app, Batches):
        raise RequestError("this server has no batch", status=404)
    return app.batch
