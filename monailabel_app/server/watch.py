"""What is noted of each request once it is answered: a count, and a line of the audit log."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monailabel_app.server.access import route_of
from monailabel_app.server.audit_log import AuditLog
from monailabel_app.server.metrics import Metrics

_ABORTED = 499  # no answer was begun: the client left, or the server stops
# These say nothing about an image; the last two are nnInteractive's, again and again while a client is connected.
_NOT_AUDITED = ("/healthz", "/metrics", "/ohif/{path:path}", "/heartbeat", "/lease_status")


class Watch:
    """Count each request and write it to the audit log, refusals too."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        audit: AuditLog | None,
        route_of: Callable[[str, str], tuple[str, str]] = route_of,
    ) -> None:
        """Args:
        app: what answers.
        metrics: counts.
        audit: the log; None writes none.
        route_of: the route of a method and a path.
        """
        self._app, self._metrics, self._audit, self._route_of = app, metrics, audit, route_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request and note it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, begin = _ABORTED, time.monotonic()

        async def say(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, say)
        finally:
            method, route = self._route_of(scope["method"], scope["path"])
            self._metrics.count(method, route, status)
            if self._audit is not None and route not in _NOT_AUDITED:
                self._audit.write(scope, method, route, status, time.monotonic() - begin)
