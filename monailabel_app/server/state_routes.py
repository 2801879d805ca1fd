"""How the server is: whether it lives, what it offers, what it works on, and in numbers."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response
from monailabel.interfaces.utils.app import app_instance

from monailabel_app.server.gate import account_of
from monailabel_app.work import WorkQueue

router = APIRouter(tags=["State"])


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
    """What waits or is being computed, oldest first; whose clicks they are says only a server with accounts."""
    queue: WorkQueue = request.app.state.queue
    named = request.app.state.accounts is not None
    now = time.monotonic()
    return [
        {
            "model": work.what,
            "state": "working" if works else "paused" if work.has_begun else "waiting",
            "seconds": round(now - work.admitted, 1),
            "user": work.user if named else None,
            "is_yours": named and work.user == account_of(request.scope).name,
        }
        for work, works in queue.jobs()
    ]


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """Six numbers in the text form of Prometheus."""
    text, media_type = request.app.state.metrics.text()
    return Response(text, headers={"Content-Type": media_type})
