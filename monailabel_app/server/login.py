"""The login of MONAI Label's clients: a name and a password, for which they get a token."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request

from monailabel_app.errors import RequestError
from monailabel_app.server.access import Accounts
from monailabel_app.server.gate import account_of

router = APIRouter(prefix="/auth", tags=["Login"])


@router.get("/")
def login_is_needed(request: Request) -> dict[str, bool]:
    """Whether the server wants a token: 3D Slicer asks before it shows its fields for name and password."""
    return {"enabled": _accounts(request) is not None}


@router.post("/token")
def log_in(
    request: Request,
    username: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
) -> dict[str, str]:
    """Give the token for a name and password; the password of an account is its token."""
    accounts = _accounts(request)
    if accounts is None:
        raise RequestError("this server has no accounts; leave the login out", status=404)
    account = accounts.of_login(username, password)
    if account is None:
        raise RequestError("no such name and password; the password is the token of the account", status=401)
    return {"access_token": password, "token_type": "bearer", "role": account.role.name}


@router.get("/token/valid")
def token_is_valid(request: Request) -> dict[str, str]:
    """Whose token it is; one that is nobody's did not pass the gate."""
    account = account_of(request.scope)
    return {"username": account.name, "role": account.role.name}


def _accounts(request: Request) -> Accounts | None:
    return request.app.state.accounts
