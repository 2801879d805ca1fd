"""The host page at ``/``: what the server offers, and how each client reaches it."""

from __future__ import annotations

import functools
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from monailabel_app.server.safe_headers import page_policy

router = APIRouter()
_PAGE = Path(__file__).with_name("home.html")


@router.get("/", include_in_schema=False)
def home() -> HTMLResponse:
    """The page; it asks the server's own routes for all that it shows."""
    page, policy = _page()
    return HTMLResponse(page, headers={"Content-Security-Policy": policy})


@functools.cache
def _page() -> tuple[str, str]:
    page = _PAGE.read_text(encoding="utf-8")
    return page, page_policy(page)
