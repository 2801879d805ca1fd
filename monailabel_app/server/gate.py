"""The gate: every request passes it before anything else of it is read."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from monailabel_app.server.access import LOCAL, Account, Accounts, Role, role_needed

ACCOUNT = "monai_sam_account"  # in the scope of a request: who sends it


class Gate:
    """Let through who may do what the request asks for; the others get 401 or 403 with a sentence.

    It stands before the routing, so that it holds for each address there is, and for those there are not.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        accounts: Accounts | None,
        needed: Callable[[str, str], Role | None] = role_needed,
    ) -> None:
        """Args:
        app: what answers the requests that pass.
        accounts: who may ask; None lets programs of this machine do everything, and nobody else anything.
        needed: the role for a method and a path.
        """
        self._needed = needed
        self._app = app
        self._accounts = accounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":  # there are no web sockets here
            await send({"type": "websocket.close", "code": 1008})
        elif (refusal := self._check(scope)) is not None:
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> JSONResponse | None:
        needed = self._needed(scope["method"], scope["path"])
        account = self._account(scope)
        scope[ACCOUNT] = account
        if needed is None or (account is not None and account.role >= needed):
            return None
        if self._accounts is None:
            return _refusal(403, "this server answers its own machine only; start it with accounts to let others in")
        if account is None:
            wanted = {"WWW-Authenticate": 'Basic realm="monai-sam", charset="UTF-8"'}
            return _refusal(401, "this server wants a token: log in, or send Authorization: Bearer TOKEN", wanted)
        return _refusal(403, f"this needs the role {needed.name}; {account.name} has {account.role.name}")

    def _account(self, scope: Scope) -> Account | None:
        if self._accounts is None:
            return LOCAL if is_this_machine(scope) else None
        authorization = Headers(scope=scope).getlist("authorization")
        return self._accounts.of_header(authorization[0]) if len(authorization) == 1 else None


def is_this_machine(scope: Scope) -> bool:
    """Whether a request comes from this machine; behind a proxy, whether that says so."""
    client = scope.get("client")
    if client is None:  # a Unix socket
        return True
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def account_of(scope: Scope) -> Account | None:
    """Who sends a request that has passed the gate; None where everybody may."""
    return scope.get(ACCOUNT)


def _refusal(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": sentence}, status_code=status, headers=headers)
