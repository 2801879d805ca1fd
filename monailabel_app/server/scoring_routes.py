"""Scores on demand: start them, look at their progress, stop them.

``/activelearning/`` starts them by itself, and from there on whatever changes them: a final label, a network, an image.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.utils.app import app_instance

from monailabel_app.errors import RequestError
from monailabel_app.jobs import Job
from monailabel_app.server.next_sample import Scores
from monailabel_app.strategies.scoring import Scorer

router = APIRouter(prefix="/scoring", tags=["Scoring"])


@router.get("/")
def scoring_status(check_if_running: bool = False) -> dict[str, Any]:
    """The progress of the scores that are being made, or that were made last."""
    return job_status(_scorer(app_instance()).job, check_if_running=check_if_running)


@router.post("/")
def start_scoring(http: Request) -> dict[str, Any]:
    """Bring the scores of all images up to date, behind the clicks."""
    app = app_instance()
    scorer = _scorer(app)
    scorer.wake(http.app.state.queue, app.datastore())
    return job_status(scorer.job)


@router.post("/{method}")
def start_scoring_method(http: Request, method: str) -> dict[str, Any]:
    """The same by the method's name."""
    methods = app_instance().info()["scoring"]
    if method not in methods:
        raise RequestError(f"there is no scoring method {method!r}; this server has {', '.join(methods)}", status=404)
    return start_scoring(http)


@router.delete("/")
def stop_scoring() -> dict[str, Any]:
    """Stop after the question that is being asked; the scores that there are stay."""
    scorer = _scorer(app_instance())
    scorer.stop()
    return job_status(scorer.job)


def job_status(job: Job, *, check_if_running: bool = False) -> dict[str, Any]:
    """What a job says of itself.

    Raises:
        RequestError: it never ran, or does not run where that is what was asked (404).
    """
    status = job.status()
    if status is None or (check_if_running and not job.is_running):
        raise RequestError(f"no {job.what} is running", status=404)
    return status


def _scorer(app: MONAILabelApp) -> Scorer:
    if not isinstance(app, Scores):
        raise RequestError("this server scores no images", status=404)
    return app.scorer
