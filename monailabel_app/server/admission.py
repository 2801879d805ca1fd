"""How many requests with whole files are taken at once, and in which encoding."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from bundle.data.limits import variable_of
from monailabel_app.server.access import route_of

# Clicks have a queue of their own (monailabel_app.work).
WITH_FILES = frozenset(
    {
        ("PUT", "/session/"),
        ("PUT", "/datastore/"),
        ("PUT", "/datastore/image"),
        ("PUT", "/datastore/label"),
        ("GET", "/datastore/dataset"),
    }
)
_RETRY_AFTER = 5  # seconds


class Admission:
    """Refuse what would take all threads and the whole disk at once (503), and bodies that are compressed (415).

    No client of MONAI Label compresses its requests, and a few kilobytes of gzip are a gigabyte of zeros.
    """

    def __init__(self, app: ASGIApp, *, most: int) -> None:
        """Args:
        app: what answers the requests that are taken.
        most: requests of ``WITH_FILES`` at the same time.
        """
        self._app = app
        self._most = most
        self._count = 0  # changed by the event loop alone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take a request or refuse it, before its body is read."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        encoding = Headers(scope=scope).get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            sentence = f"the body must not be compressed, got Content-Encoding {encoding[:40]!r}; send it as it is"
            await JSONResponse({"detail": sentence}, status_code=415)(scope, receive, send)
        elif route_of(scope["method"], scope["path"]) not in WITH_FILES:
            await self._app(scope, receive, send)
        elif self._count >= self._most:
            sentence = (
                f"the server takes {self._most} uploads at once ({variable_of('uploads')}); try again in a few seconds"
            )
            headers = {"Retry-After": str(_RETRY_AFTER)}
            await JSONResponse({"detail": sentence}, status_code=503, headers=headers)(scope, receive, send)
        else:
            self._count += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._count -= 1
