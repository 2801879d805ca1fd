"""How the server is: whether it lives, what it offers, what it works on, and in numbers."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response
from monailabel.interfaces.utils.app import app_instance

from monailabel_app.errors import RequestError
from monailabel_app.server.access import Role
from monailabel_app.server.gate import account_of
from monailabel_app.work import Work, WorkQueue

router = APIRouter(tags=["State"])
_STOPPED_BY = {  # what the server does of its own accord, by name
    "batch": "DELETE /batch/infer stops the batch",
    "scoring": "DELETE /scoring/ stops the scores",
}
_STOPS_ITSELF = "it gives way to every request, and the next click ends it"


@router.get("/healthz")
async def is_alive() -> dict[str, str]:
    """For whoever watches the server; needs no thread, no lock and no token."""
    return {"status": "ok"}


@router.get("/info/")
def info() -> dict[str, Any]:
    """Name, labels, models and number of images. In a thread: it waits for who writes into the folder."""
    return app_instance().info()


@router.get("/jobs/")
def jobs(request: Request) -> list[dict[str, Any]]:
    """What waits or is being computed, oldest first, and how far it is."""
    queue: WorkQueue = request.app.state.queue
    return [_told(request, work, works) for work, works in queue.jobs()]


@router.delete("/jobs/{id}", status_code=202)
def cancel_job(request: Request, id: str) -> dict[str, Any]:
    """Cancel a request: one's own, or with the role admin anybody's. It ends before the next layer of the network."""
    queue: WorkQueue = request.app.state.queue
    found = next(((work, works) for work, works in queue.jobs() if work.id == id), None)
    if found is None:
        raise RequestError(
            f"no request {id!r:.80} waits or is computed: it was answered, or never was; GET /jobs/ lists those there "
            "are",
            status=404,
        )
    work, works = found
    if work.in_background:
        how = _STOPPED_BY.get(work.what, _STOPS_ITSELF)
        raise RequestError(f"{work.what} is no client's request, and is not cancelled here: {how}", status=409)
    if not _may_cancel(request, work):
        raise RequestError("this request is another account's; that one may cancel it, or the role admin", status=403)
    work.cancel()
    return _told(request, work, works)


def _told(request: Request, work: Work, works: bool) -> dict[str, Any]:
    """A request as whoever asks may know it: every role may list the images, and without accounts nobody has a name."""
    named, far = request.app.state.accounts is not None, work.far  # which may be told anew meanwhile
    return {
        "id": work.id,
        "model": work.what,
        "state": "ending" if work.is_ending else "working" if works else "paused" if work.has_begun else "waiting",
        "seconds": round(time.monotonic() - work.admitted, 1),
        "image": work.study,
        "slices": None if far is None else far.slices,
        "of": None if far is None else far.of,
        "user": work.user if named else None,
        "is_yours": named and work.user == account_of(request.scope).name,
        "may_cancel": _may_cancel(request, work),
    }


def _may_cancel(request: Request, work: Work) -> bool:
    """Whether whoever asks may cancel it; without accounts every program of this machine has the role admin."""
    account = account_of(request.scope)
    return not work.in_background and (account.role >= Role.admin or work.user == account.name)


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """Seven numbers in the text form of Prometheus."""
    text, media_type = request.app.state.metrics.text()
    return Response(text, headers={"Content-Type": media_type})
