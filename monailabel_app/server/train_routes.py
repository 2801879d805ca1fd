"""The routes of trainings and of the versions that come of them."""

from __future__ import annotations

from typing import Annotated, Any, Protocol, runtime_checkable

from fastapi import APIRouter, Body, Request
from monailabel.interfaces.utils.app import app_instance

from monailabel_app.errors import RequestError
from monailabel_app.learning.learner import Learner
from monailabel_app.learning.options import TRAINER
from monailabel_app.learning.versions import Version
from monailabel_app.server.gate import account_of
from monailabel_app.wire.json_values import check_json

router = APIRouter(prefix="/train", tags=["Train"])
Options = Annotated[dict[str, Any] | None, Body()]


@runtime_checkable
class Learns(Protocol):
    """An app that can be trained."""

    learner: Learner | None


def learner_of_app() -> Learner:
    """What trains.

    Raises:
        RequestError: nothing does (404).
    """
    app = app_instance()
    if not isinstance(app, Learns) or app.learner is None:
        raise RequestError("no training runs: this server does not learn (option learning)", status=404)
    return app.learner


@router.get("/")
def training_status(all: bool = False, check_if_running: bool = False) -> Any:
    """The last training, all of them, or the one that runs: Slicer asks when it connects."""
    return learner_of_app().status(everything=all, only_running=check_if_running)


@router.get("/versions")
def list_versions() -> list[dict[str, Any]]:
    """The networks there are, oldest first; 0 is what the server was started with."""
    learner = learner_of_app()
    return [_told(version, learner) for version in learner.versions.all()]


@router.put("/versions/{number}")
def serve_version(number: int) -> dict[str, Any]:
    """Let a version answer from now on: the way back from a training that pleased the gate and nobody else."""
    learner = learner_of_app()
    return _told(learner.activate(number), learner)


@router.post("/{model}")
def start_training(http: Request, model: str, options: Options = None, enqueue: bool = False) -> dict[str, Any]:
    """Train on the accepted labels."""
    if model != TRAINER:
        raise RequestError(f"there is no trainer {model!r:.80}; this server has {TRAINER}", status=404)
    return _start(http, options, enqueue)


@router.post("/", include_in_schema=False)
def start_all(http: Request, options: Options = None) -> dict[str, Any]:
    """OHIF's button: all trainers, of which there is one; its options may stand under its name."""
    options = options or {}
    own = options.pop(TRAINER, None) or {}
    if not isinstance(own, dict):
        raise RequestError(f"{TRAINER} must hold the options of the trainer, got {own!r:.80}")
    return {TRAINER: {"result": _start(http, {**options, **own}, True), "detail": None}}


@router.delete("/")
def stop_training() -> dict[str, Any]:
    """Stop the training that runs and those that wait."""
    return learner_of_app().stop().told()


def _start(http: Request, options: dict[str, Any] | None, enqueue: bool) -> dict[str, Any]:
    check_json(options or {}, "the body")
    by = account_of(http.scope).name if http.app.state.accounts is not None else None
    return learner_of_app().submit(options or {}, by=by, enqueue=enqueue).told()


def _told(version: Version, learner: Learner) -> dict[str, Any]:
    notes = {name: version.notes.get(name) for name in ("published_at", "job", "labels", "structures", "dsc", "nsd")}
    return {"version": version.number, "active": version.number == learner.version, **notes}
