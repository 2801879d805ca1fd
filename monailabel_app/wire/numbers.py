"""Numbers of a request: whatever form a client gives them, finite and not too many."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from bundle.data.limits import LIMITS, variable_of
from monailabel_app.errors import RequestError


def read_array(params: Mapping[str, Any], key: str) -> np.ndarray | None:
    """Numbers, which may be strings, in a list, which may be JSON text; None where there is nothing."""
    value = params.get(key)
    try:
        value = json.loads(value) if isinstance(value, str) and value.strip() else value
        array = np.asarray([] if value is None or isinstance(value, str) else value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise RequestError(f"{key} must be a list of numbers, got {short(value)}") from error
    if not np.isfinite(array).all():
        raise RequestError(f"{key} must hold finite numbers, got {short(value)}; leave the prompt out instead")
    return array if array.size else None


def read_index(params: Mapping[str, Any], key: str) -> int | None:
    """One whole number, None where there is nothing."""
    value = read_array(params, key)
    if value is None:
        return None
    if value.size != 1 or float(value.item()) != int(value.item()):
        raise RequestError(f"{key} must be one whole number, got {short(params[key])}")
    return int(value.item())


def parsed(value: Any, key: str) -> Any:
    """JSON, or text that is JSON; None where there is nothing."""
    if not isinstance(value, str):
        return value or None
    try:
        return json.loads(value) if value.strip() else None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{key} must be JSON, got {short(value)}") from error


def check_count(count: int, what: str) -> None:
    """Refuse more points or objects than the networks have memory for."""
    most = getattr(LIMITS, what)
    if count > most:
        raise RequestError(
            f"got {count} {what}, this server takes {most} ({variable_of(what)}); send a box, or only those that matter"
        )


def short(value: object) -> str:
    """A value for a message, not longer than 80 letters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
