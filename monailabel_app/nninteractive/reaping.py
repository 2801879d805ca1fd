"""Work that is done again and again beside the answers: what nobody uses any more is closed without being asked."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
from anyio import to_thread
from fastapi import FastAPI

logger = logging.getLogger(__name__)

EVERY = 15.0  # seconds; a client is taken for gone after a minute


def reaping(
    work: Callable[[], None], *, every: float = EVERY
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The lifespan of a server that does a work every so many seconds, in a thread; a failure is logged."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(_again, work, every)
            yield
            group.cancel_scope.cancel()

    return lifespan


async def _again(work: Callable[[], None], every: float) -> None:
    while True:
        await anyio.sleep(every)
        try:
            await to_thread.run_sync(work)
        except Exception:  # the next time may go well, and the server lives on
            logger.exception("What nobody uses any more could not be closed")
