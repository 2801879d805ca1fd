"""Errors that a client meets: which status each becomes, always with one sentence as ``{"detail": ...}``."""

from __future__ import annotations

import errno
import logging
import re

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import (
    ImageNotFoundException,
    LabelNotFoundException,
    MONAILabelException,
)
from starlette.exceptions import HTTPException

from bundle.errors import BusyError, MonaiSamError
from monailabel_app.server.body_limits import TOO_LARGE

logger = logging.getLogger(__name__)
_RETRY_AFTER = 5  # seconds; a click on another image waits for less


class RequestError(MonaiSamError):
    """A request that cannot be served; the message says what to change.

    Attributes:
        status: HTTP status, 4xx; 5xx where something beside the server fails.
    """

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def install_error_replies(app: FastAPI) -> None:
    """Let every error reach the client as a status and one sentence; the server goes on."""
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(MonaiSamError, _bad_input)
    app.add_exception_handler(MONAILabelException, _monailabel_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OSError, _disk_error)
    app.add_exception_handler(Exception, _unexpected)


def without_folders(sentence: str) -> str:
    """The sentence with each absolute path cut down to its last part."""
    return re.sub(r"(?<![\w.])/(?:[^/\s'\"]+/)+", "", sentence)


def _reply(status: int, sentence: str) -> JSONResponse:
    logger.info("Refused with %d: %s", status, sentence)
    headers = {"Retry-After": str(_RETRY_AFTER)} if status == 503 else None
    return JSONResponse({"detail": sentence}, status_code=status, headers=headers)


def _request_error(_: Request, error: RequestError) -> JSONResponse:
    return _reply(error.status, str(error))


def _bad_input(_: Request, error: ValueError) -> JSONResponse:
    """Files are named without their folders: where the server keeps them is its own business."""
    return _reply(503 if isinstance(error, BusyError) else 400, without_folders(str(error)))


def _monailabel_error(_: Request, error: MONAILabelException) -> JSONResponse:
    missing = isinstance(error, (ImageNotFoundException, LabelNotFoundException))
    return _reply(404 if missing else 400, error.msg)


def _invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    return _reply(422, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")


def _http_error(_: Request, error: HTTPException) -> JSONResponse:
    """Starlette's and FastAPI's own refusals; that of a body's size has no sentence."""
    return _reply(error.status_code, TOO_LARGE if error.status_code == 413 else str(error.detail))


def _disk_error(_: Request, error: OSError) -> JSONResponse:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        logger.error("The disk is full: %s", error)
        return _reply(507, "the server's disk is full; nothing was changed, free space there and try again")
    raise error


def _unexpected(_: Request, error: Exception) -> JSONResponse:
    """A defect of ours: Starlette writes the traceback into the log after this reply."""
    return _reply(500, f"the server failed with {type(error).__name__}; its log says where")
