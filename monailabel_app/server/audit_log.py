"""The audit log: a line of each request, for whoever has to account for what was done."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import parse_qsl

from starlette.types import Scope

from monailabel_app.server.access import SettingsError
from monailabel_app.server.gate import account_of

AUDIT_LOG = "MONAI_SAM_AUDIT_LOG"  # the file of the audit log; none is written without it
_IDS = ("image", "label", "id", "session_id")


class AuditLog:
    """Who did what when, one JSON object a line, without a patient's data.

    An id of an image is often a patient's name or number, so that it stands there as its HMAC-SHA256 with the key of
    the file beside the log: whoever has the key can say which line is about an image that he knows, and nobody can
    try all numbers without it.
    """

    def __init__(self, path: Path) -> None:
        """Args:
        path: the file, which is appended to; it and the key ``<name>.key`` beside it are for this user alone.

        Raises:
            SettingsError: they cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.chmod(path, 0o600)
            self._key = _key(path.with_name(f"{path.name}.key"))
        except OSError as error:
            raise SettingsError(f"the audit log {path} cannot be written: {error}") from error
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> AuditLog | None:
        """The log that ``MONAI_SAM_AUDIT_LOG`` names, None if it names none.

        Raises:
            SettingsError: it cannot be written.
        """
        path = environment.get(AUDIT_LOG)
        return cls(Path(path)) if path else None

    def write(self, scope: Scope, method: str, route: str, status: int, seconds: float) -> None:
        """Note a request."""
        account = account_of(scope)
        line = {
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "who": account.name if account else None,
            "role": account.role.name if account else None,
            "from": scope["client"][0] if scope.get("client") else None,
            "method": method,
            "route": route,
            "image": self._image(scope),
            "status": status,
            "seconds": round(seconds, 3),
        }
        with self._lock:
            os.write(self._file, f"{json.dumps(line)}\n".encode())

    def hashed(self, image: str) -> str:
        """How an id of an image or session stands in the log."""
        return hmac.new(self._key, image.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:32]

    def _image(self, scope: Scope) -> str | None:
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        given = next((query[name] for name in _IDS if query.get(name)), None)
        if given is None and scope["path"].startswith("/session/"):
            given = scope["path"].removeprefix("/session/") or None
        return None if given is None else self.hashed(given)


def _key(path: Path) -> bytes:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return bytes.fromhex(path.read_text(encoding="ascii").strip())
    key = secrets.token_bytes(32)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(key.hex())
    return key
