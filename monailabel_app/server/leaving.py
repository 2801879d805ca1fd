"""A client that closes its connection before its answer: nobody waits for the work any more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request

from monailabel_app.work import Work


@asynccontextmanager
async def cancelled_when_left(http: Request, work: Work) -> AsyncIterator[None]:
    """Cancel a work when its client closes the connection while the block runs. The body must have been read."""

    async def watch() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            continue
        work.leave()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
