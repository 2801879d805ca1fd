"""The server's log: one line for each entry, whatever a request says; as text or as JSON."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from monailabel_app.server.access import SettingsError

LOG_FORMAT = "MONAI_SAM_LOG_FORMAT"  # "text" or "json"
_TEXT = "[%(asctime)s] [%(process)s] [%(threadName)s] [%(levelname)s] (%(name)s:%(lineno)d) - %(message)s"
# Control characters, line and paragraph separators, halves of surrogates, and what turns the direction of writing:
# they could end a line, move a terminal's cursor, or show a line as another.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_QUIET = {"uvicorn.access": "WARNING", "urllib3.connectionpool": "ERROR"}


def one_line(text: str) -> str:
    r"""A text whose unprinted characters are written out: a line end is ``\n``."""
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class OneLine(logging.Formatter):
    """Text whose entries cannot be told apart from others by what is in them: only tracebacks have lines of their own.

    Those are indented, so that no line of them looks like an entry.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The entry without its traceback."""
        return one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        """The traceback."""
        return "\n".join(f"    | {one_line(line)}" for line in super().formatException(ei).splitlines())


class JsonLines(logging.Formatter):
    """A JSON object for each entry, with time (UTC), level, logger, message and, after a failure, the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The entry."""
        entry = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def log_config(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What ``logging.config.dictConfig`` gets: everything to the standard error output, which the system keeps.

    Raises:
        SettingsError: ``MONAI_SAM_LOG_FORMAT`` is neither text nor json.
    """
    wanted = environment.get(LOG_FORMAT, "text").strip().lower()
    if wanted not in ("text", "json"):
        raise SettingsError(f"{LOG_FORMAT} must be text or json, got {wanted!r}")
    formatter = {"()": f"{__name__}.JsonLines"} if wanted == "json" else {"()": f"{__name__}.OneLine", "format": _TEXT}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ours": formatter},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "ours"}},
        "root": {"level": "INFO", "handlers": ["console"]},
        "loggers": {
            "uvicorn": {"level": "INFO"},
            **{name: {"level": level} for name, level in _QUIET.items()},
        },
    }


def write_log_config(folder: Path) -> Path:
    """The configuration in a file, as MONAI Label's command line takes it."""
    path = folder / "logging.json"
    path.write_text(json.dumps(log_config()), encoding="utf-8")
    return path
