"""Which web pages may ask the server to change something: its own, and those of the listed origins."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class OwnPagesOnly:
    """Refuse what a page of another site sends, with 403.

    A browser sends a form to any address without asking that server first (a "simple" request of CORS), so that any
    page that a user opens could upload files to this machine's server. Browsers say where a request comes from
    (Fetch Metadata, https://www.w3.org/TR/fetch-metadata/, and Origin, RFC 6454); Slicer, MITK and scripts say nothing.
    """

    def __init__(self, app: ASGIApp, *, origins: Sequence[str] = ()) -> None:
        """Args:
        app: what answers the other requests.
        origins: other origins that may, as ``http://localhost:3000``.
        """
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it before its body is read."""
        if scope["type"] == "http" and scope["method"] not in _READING and not self._may(scope):
            sentence = "a web page of another origin may not send this; list it in MONAI_LABEL_CORS_ORIGINS"
            await JSONResponse({"detail": sentence}, status_code=403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _may(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin in self._origins or site in ("same-origin", "none"):
            return True
        own = f"{scope['scheme']}://{headers.get('host', '')}"
        return site is None and origin in (None, own)
