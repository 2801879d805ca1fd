"""What a browser may do with our replies: run nothing, keep nothing, show them in no other page."""

from __future__ import annotations

import base64
import hashlib
import re

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DEFAULTS = {
    # A reply that is no page of ours: were it shown as one (a label's name is a client's text), nothing in it runs.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # addresses hold ids of images
    "Cache-Control": "no-store",  # images of patients stay out of the browser's folder
}


class SafeHeaders:
    """Add to each reply the headers that it does not set itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _DEFAULTS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, say if scope["type"] == "http" else send)


def page_policy(html: str, **sources: str) -> str:
    """The Content-Security-Policy of a page of ours: this server alone, and of scripts in the page its own.

    Args:
        html: the page.
        sources: what else is let in, as ``style="'unsafe-inline'"``.
    """
    scripts = " ".join(f"'sha256-{_digest(text)}'" for text in _inline(html, "script"))
    policy = {
        "default-src": "'none'",
        "script-src": f"'self' {scripts}".rstrip(),
        "style-src": " ".join(["'self'", *(f"'sha256-{_digest(text)}'" for text in _inline(html, "style"))]),
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": "'self'",  # whatever an address or a data source in it names
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    for name, more in sources.items():
        key = f"{name}-src"
        policy[key] = f"{policy.get(key, '')} {more}".strip()
    return "; ".join(f"{name} {value}" for name, value in policy.items())


def _inline(html: str, tag: str) -> list[str]:
    """The texts of a page's own scripts or styles, as a browser takes them: with their line ends as LF."""
    found = re.findall(rf"<{tag}(?![^>]*\bsrc=)[^>]*>(.*?)</{tag}>", html.replace("\r\n", "\n"), re.DOTALL)
    return [text for text in found if text]


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
