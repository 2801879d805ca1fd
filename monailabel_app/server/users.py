"""Who a request is from, for what users share: turns on the device, and images to work on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Request

from monailabel_app.server.gate import account_of
from monailabel_app.wire import fields as wire

_LONGEST_USER = 200  # letters of a client's own name


def user_of(http: Request, params: Mapping[str, Any]) -> str:
    """Whose request it is: its account's; on a server without accounts, its program's or machine's."""
    if http.app.state.accounts is not None:
        return account_of(http.scope).name
    client = params.get(wire.CLIENT_ID)
    machine = http.client.host if http.client else "local"
    return client[:_LONGEST_USER] if isinstance(client, str) and client else machine
