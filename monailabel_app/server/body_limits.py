"""How many bytes a request may have: few, and many on the routes that take files; Starlette counts them."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bundle.data.limits import LIMITS, variable_of

# A body without files: the longest JSON and a form around it.
BODY_BYTES = LIMITS.json_bytes + 2**16
FORM_LIMITS = {"max_fields": 16, "max_files": 4, "max_part_size": LIMITS.json_bytes}
SERIES_LIMITS = {**FORM_LIMITS, "max_files": LIMITS.files}
TOO_LARGE = (
    f"the body of the request is too large: with files it may have {LIMITS.body_bytes} bytes "
    f"({variable_of('body_bytes')}), without {LIMITS.json_bytes} ({variable_of('json_bytes')})"
)


class SmallBodies:
    """Take bodies up to ``BODY_BYTES``, or a route's own ``max_body_size``; a refusal is a 413 with a sentence.

    Starlette refuses a body by the length that it announces, or when it has become too long, before it is all read.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = RequestBodyLimitMiddleware(app, max_body_size=BODY_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; Starlette's own refusal, two words of plain text, is said in ours."""
        replaced = False

        async def say(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] == 413:
                replaced = Headers(raw=message["headers"]).get("content-type", "").startswith("text/plain")
                if replaced:
                    await JSONResponse({"detail": TOO_LARGE}, status_code=413)(scope, receive, send)
            if not replaced:
                await send(message)

        await self._app(scope, receive, say)
