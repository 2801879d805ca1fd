"""JSON from clients: bounded before it is used, and clean before it is kept."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from bundle.data.limits import LIMITS, variable_of
from bundle.files import nesting_of
from monailabel_app.errors import RequestError
from monailabel_app.wire.labels import is_entries, segments_of

LABEL_INFO = "label_info"  # in the info of a label: the names of its segments, which training reads
STRATEGY = "strategy"  # in the info of an image: the server's note of when a strategy gave it to whom
_LARGEST_NUMBER = 2**63  # a whole number beyond it cannot be read by most clients


def read_json(text: str, what: str, *, kept: bool = False) -> dict[str, Any]:
    """A JSON object of a request.

    Args:
        text: the JSON; empty is an empty object.
        what: its name in an error.
        kept: whether it is stored. NaN is understood in a prompt, as Python clients write it, and refused where it is
            used; it must not get into the index, which could then no longer be sent.

    Raises:
        RequestError: it is not a JSON object, or one that ``check_json`` refuses.
    """
    if len(text) > LIMITS.json_bytes:  # the least bytes that many letters take
        raise RequestError(_too_large(what), status=413)
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{what} must be JSON, got {text[:80]!r}") from error
    if not isinstance(value, dict):
        raise RequestError(f"{what} must be a JSON object, got {text[:80]!r}")
    check_json(value, what, kept=kept)
    return value


def check_json(value: object, what: str, *, kept: bool = False) -> None:
    """Refuse what could not be handled or sent again.

    Args:
        value: what ``json.loads`` returned.
        what: its name in an error.
        kept: whether it is stored, so that its numbers must be finite.

    Raises:
        RequestError: nested too deep, too large, text that is no Unicode, or numbers that cannot be stored.
    """
    deepest = nesting_of(value)
    if deepest > LIMITS.json_depth:
        raise RequestError(f"{what} is nested {deepest} deep, at most {LIMITS.json_depth} are taken; flatten it")
    try:
        encoded = json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise RequestError(f"{what} holds text that is no Unicode ({error.reason}); correct its encoding") from error
    if len(encoded) > LIMITS.json_bytes:
        raise RequestError(_too_large(what), status=413)
    if kept and not all(_is_storable(leaf) for leaf in _leaves(value)):
        raise RequestError(f"{what} must hold finite numbers, whole ones below 2**63; leave the others out")


def check_info(info: Mapping[str, Any], what: str) -> None:
    """Refuse information about an image or label that would break the datastore.

    Raises:
        RequestError: as ``check_json``, or the note of a strategy or the names of a label's segments are none.
    """
    check_json(dict(info), what, kept=True)
    notes = info.get(STRATEGY, {})
    if not isinstance(notes, dict) or not all(isinstance(note, dict) for note in notes.values()):
        raise RequestError(
            f"{what}: {STRATEGY!r} is the server's own note of who was given the image when; leave it out"
        )
    if info.get(LABEL_INFO):
        segments_of(info[LABEL_INFO])


def repaired_info(info: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The part of stored information that does not break the datastore, and the names of what was left out.

    Names of segments that no training could read stay: whoever reads the label says what is wrong with them.
    """
    kept, left_out = {}, []
    for name, value in info.items():
        try:
            if name == LABEL_INFO and is_entries(value):
                check_json({name: value}, name, kept=True)
            else:
                check_info({name: value}, name)
        except RequestError:
            left_out.append(name)
        else:
            kept[name] = value
    return kept, left_out


def _too_large(what: str) -> str:
    return f"{what} is larger than {LIMITS.json_bytes} bytes, the limit {variable_of('json_bytes')} of this server"


def _leaves(value: object) -> list[object]:
    found, waiting = [], [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, (list, dict)):
            waiting.extend(part.values() if isinstance(part, dict) else part)
        else:
            found.append(part)
    return found


def _is_storable(leaf: object) -> bool:
    if isinstance(leaf, int):  # bool too
        return -_LARGEST_NUMBER < leaf < _LARGEST_NUMBER
    return math.isfinite(leaf) if isinstance(leaf, float) else isinstance(leaf, str) or leaf is None
