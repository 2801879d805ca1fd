"""Who may do what: accounts with a token and a role each, and the role that each route needs.

Without accounts the server answers programs of its own machine only, and those may do everything, as before. With
accounts every route needs a token, whichever machine asks. What is not in ``ROUTES`` needs the highest role, so that
a route that is forgotten here is closed and not open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from starlette.routing import compile_path

from bundle.errors import MonaiSamError

TOKENS = "MONAI_SAM_TOKENS"  # the accounts themselves, with semicolons between them
TOKENS_FILE = "MONAI_SAM_TOKENS_FILE"  # a file of them, one a line
_SHORTEST = 20  # letters of a token: 80 bits and more if it was drawn, as ``openssl rand -hex 16`` does
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_NAME = re.compile(r"[\w.@-]{1,64}", re.ASCII)


class SettingsError(MonaiSamError):
    """A setting of the server that cannot be kept."""


class Role(IntEnum):
    """What an account may do; each may also do what those before it may."""

    view = 1  # read images, labels and models
    annotate = 2  # click, upload images, save labels
    train = 3  # start and stop trainings and batches
    admin = 4  # remove images and labels, go back to another version of the network


@dataclass(frozen=True)
class Account:
    """Who sends a request."""

    name: str
    role: Role


LOCAL = Account("local", Role.admin)  # everybody on this machine, where there are no accounts

# Every route, as (method, path) -> the role it needs; None is open to everybody. docs/protocol.md is compared with it.
ROUTES: Mapping[tuple[str, str], Role | None] = {
    ("GET", "/healthz"): None,
    ("GET", "/auth/"): None,
    ("POST", "/auth/token"): None,
    ("GET", "/auth/token/valid"): Role.view,
    ("GET", "/"): Role.view,
    ("GET", "/openapi.json"): Role.view,
    ("GET", "/info/"): Role.view,
    ("GET", "/jobs/"): Role.view,
    ("DELETE", "/jobs/{id}"): Role.annotate,  # one's own; only the role admin may cancel those of others
    ("GET", "/metrics"): Role.view,
    ("GET", "/train/"): Role.view,
    ("GET", "/train/versions"): Role.view,
    ("PUT", "/train/versions/{number}"): Role.admin,
    ("POST", "/train/"): Role.train,
    ("POST", "/train/{model}"): Role.train,
    ("DELETE", "/train/"): Role.train,
    ("GET", "/ohif/{path:path}"): Role.view,
    ("GET", "/proxy/dicom/{op}/{path:path}"): Role.view,
    ("POST", "/infer/{model}"): Role.annotate,
    ("PUT", "/session/"): Role.annotate,
    ("GET", "/session/{session_id}"): Role.annotate,
    ("DELETE", "/session/{session_id}"): Role.annotate,
    ("POST", "/activelearning/{strategy}"): Role.annotate,
    ("GET", "/scoring/"): Role.view,
    ("POST", "/scoring/"): Role.annotate,
    ("POST", "/scoring/{method}"): Role.annotate,
    ("DELETE", "/scoring/"): Role.annotate,
    ("GET", "/batch/infer"): Role.view,
    ("POST", "/batch/infer/{model}"): Role.train,
    ("DELETE", "/batch/infer"): Role.train,
    ("GET", "/datastore/"): Role.view,
    ("PUT", "/datastore/"): Role.annotate,
    ("DELETE", "/datastore/"): Role.admin,
    ("GET", "/datastore/image"): Role.view,
    ("HEAD", "/datastore/image"): Role.view,
    ("PUT", "/datastore/image"): Role.annotate,
    ("DELETE", "/datastore/image"): Role.admin,
    ("GET", "/datastore/image/info"): Role.view,
    ("PUT", "/datastore/image/info"): Role.annotate,
    ("GET", "/datastore/label"): Role.view,
    ("HEAD", "/datastore/label"): Role.view,
    ("PUT", "/datastore/label"): Role.annotate,
    ("DELETE", "/datastore/label"): Role.admin,
    ("GET", "/datastore/label/versions"): Role.view,
    ("GET", "/datastore/label/info"): Role.view,
    ("PUT", "/datastore/label/info"): Role.annotate,
    ("PUT", "/datastore/updatelabelinfo"): Role.annotate,
    ("GET", "/datastore/dataset"): Role.annotate,
}
UNKNOWN = ("OTHER", "unknown")  # a method or an address that no route has


class Routes:
    """The routes of a server, so that a request can be told by its route and not by its address."""

    def __init__(self, routes: Iterable[tuple[str, str]]) -> None:
        """Args:
        routes: method and pattern of the path, as ``("GET", "/session/{session_id}")``.
        """
        self._patterns = [(*route, compile_path(route[1])[0]) for route in routes]

    def of(self, method: str, path: str) -> tuple[str, str]:
        """The route that a request means, else ``UNKNOWN``.

        Args:
            method: HTTP method; HEAD means what GET means, where it has no route of its own.
            path: as the server decoded it.
        """
        for wanted in (method, "GET") if method == "HEAD" else (method,):
            for known, template, pattern in self._patterns:
                # FastAPI sends a client that left the last slash out to the address with it.
                if known == wanted and (pattern.match(path) or pattern.match(f"{path}/")):
                    return known, template
        return UNKNOWN


route_of = Routes(ROUTES).of


def role_needed(method: str, path: str) -> Role | None:
    """The role that a request needs; None if everybody may send it. Arguments as ``route_of``."""
    return ROUTES.get(route_of(method, path), Role.admin)


class Accounts:
    """The accounts of a server. Tokens are compared in constant time, and all of them each time."""

    def __init__(self, lines: Iterable[str]) -> None:
        """Args:
        lines: ``name role token`` each; instead of the token may stand ``sha256:`` and its digest. Empty lines and
            those that begin with # say nothing.

        Raises:
            SettingsError: a line that cannot be used, a name twice, or none at all.
        """
        self._accounts: list[tuple[bytes, Account]] = []
        for number, line in enumerate(lines, start=1):
            if line.strip() and not line.lstrip().startswith("#"):
                self._accounts.append(_read_account(line, number))
        names = [account.name for _, account in self._accounts]
        if not names:
            raise SettingsError("no account is given; write lines of name, role and token")
        if len(set(names)) < len(names):
            raise SettingsError("an account is given twice; each has one line")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Accounts | None:
        """The accounts of ``MONAI_SAM_TOKENS_FILE`` or ``MONAI_SAM_TOKENS``; None if neither is set.

        Raises:
            SettingsError: both are set, the file cannot be read or others may read it, or a line cannot be used.
        """
        file, text = environment.get(TOKENS_FILE), environment.get(TOKENS)
        if file is not None and text is not None:
            raise SettingsError(f"{TOKENS_FILE} and {TOKENS} are both set; unset one")
        if file is not None:
            return cls(_read_secret_file(Path(file)).splitlines())
        return None if text is None else cls(text.split(";"))

    def of_token(self, token: str) -> Account | None:
        """Whose token it is, None if nobody's."""
        digest, found = hashlib.sha256(token.encode("utf-8", "replace")).digest(), None
        for known, account in self._accounts:
            if hmac.compare_digest(digest, known):
                found = account
        return found

    def of_header(self, authorization: str) -> Account | None:
        """Who sends a header ``Authorization``: a bearer token, or a name with the token as its password.

        A browser asks its user for the latter, and sends it with everything that a page of this server loads.
        """
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return self.of_token(value.strip())
        if scheme.lower() != "basic":
            return None
        try:
            name, _, token = base64.b64decode(value.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return self.of_login(name, token)

    def of_login(self, name: str, token: str) -> Account | None:
        """The account of a name, if that is its token."""
        account = self.of_token(token)
        return account if account is not None and account.name == name else None


def _read_account(line: str, number: int) -> tuple[bytes, Account]:
    """An account and the digest of its token; errors name the line's number and never show a token."""
    parts = line.split()
    if len(parts) != 3:
        raise SettingsError(f"account {number} must be name, role and token, got {len(parts)} words")
    name, role, token = parts
    if not _NAME.fullmatch(name):
        raise SettingsError(f"the name of account {number} must be letters, digits and . _ @ - (at most 64)")
    if role not in Role.__members__:
        raise SettingsError(f"the role of account {number} must be one of {', '.join(Role.__members__)}, got {role!r}")
    digest = _DIGEST.fullmatch(token)
    if digest is None and len(token) < _SHORTEST:
        raise SettingsError(
            f"the token of account {number} has {len(token)} letters, at least {_SHORTEST} are needed; draw one: "
            "openssl rand -hex 32"
        )
    known = bytes.fromhex(digest[1]) if digest else hashlib.sha256(token.encode()).digest()
    return known, Account(name, Role[role])


def _read_secret_file(path: Path) -> str:
    """The text of a file that nobody else may read.

    Raises:
        SettingsError: it is missing, or others may.
    """
    try:
        with path.open(encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            if os.name == "posix" and stat.S_IMODE(found.st_mode) & 0o077:
                raise SettingsError(f"other users may read or change {path}; chmod 600 {path}")
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the accounts cannot be read from {path}: {error}") from error
