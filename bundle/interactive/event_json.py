"""Events as plain JSON, for the journal."""

from __future__ import annotations

import base64
from dataclasses import MISSING, fields
from typing import Any

from bundle.errors import JournalError, MonaiSamError
from bundle.interactive import events, mask_events
from bundle.interactive.answer_options import AnswerOptions
from bundle.interactive.events import Event
from bundle.interactive.objects import THIRD
from bundle.prompts.interaction_json import interaction_from_json

_KINDS: dict[str, type[Event]] = {
    made.kind: made
    for module in (events, mask_events)
    for made in vars(module).values()
    if isinstance(made, type) and issubclass(made, Event) and made is not Event
}


def event_to_json(event: Event) -> dict[str, Any]:
    """Plain JSON that ``event_from_json`` reads."""
    return {"kind": event.kind} | {f.name: _CODECS[f.name][0](getattr(event, f.name)) for f in fields(event)}


def event_from_json(entry: Any, most_voxels: int) -> Event:
    """Read what ``event_to_json`` wrote.

    Raises:
        JournalError: it is something else.
    """
    try:
        made = _KINDS[entry["kind"]]
        said = [f for f in fields(made) if f.name != "interaction" and (f.default is MISSING or f.name in entry)]
        values = {f.name: _CODECS[f.name][1](entry[f.name]) for f in said}
        if "interaction" in entry:
            values["interaction"] = interaction_from_json(entry["interaction"], "an event", most_voxels=most_voxels)
        return made(**values)
    except (KeyError, TypeError, ValueError, AttributeError, MonaiSamError) as error:
        raise JournalError(f"the record of a session holds what is no event ({error}): {entry!r:.120}") from error


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise JournalError(f"expected a whole number, got {value!r:.40}")
    return value


def _one_of(value: Any, known: tuple[Any, ...]) -> Any:
    if isinstance(value, bool) or value not in known:
        raise JournalError(f"expected one of {known}, got {value!r:.40}")
    return value


def _of(kind: type) -> Any:
    def read(value: Any) -> Any:
        if not isinstance(value, kind):
            raise JournalError(f"expected {kind.__name__}, got {value!r:.40}")
        return value

    return read


# name of a field -> how it is written, how it is read
_CODECS: dict[str, tuple[Any, Any]] = {
    "object": (int, _whole),
    "name": (str, _of(str)),
    "label": (int, _whole),
    "model": (str, _of(str)),
    "color": (list, lambda value: tuple(map(float, value))),
    "locked": (bool, _of(bool)),
    "confirmed": (bool, _of(bool)),
    "repainted": (bool, _of(bool)),
    "position": (int, _whole),
    "index": (int, _whole),
    "axis": (int, _whole),
    "client": (lambda value: value, lambda value: value if value is None else _of(str)(value)),
    "along": (int, lambda value: THIRD if value is None else _whole(value)),  # null in journals of earlier versions
    "dimension": (lambda value: value and int(value), lambda value: _one_of(value, (None, 2, 3))),
    "interaction": (lambda value: value.to_json(), None),
    "base": (lambda value: base64.b64encode(value).decode(), lambda value: base64.b64decode(value, validate=True)),
    "slices": (lambda value: value and list(value), lambda value: value and tuple(map(_whole, value))),
    "scores": (
        lambda value: [[int(index), iou if iou is None else float(iou)] for index, iou in value.items()],
        lambda value: {_whole(index): iou if iou is None else float(iou) for index, iou in value},
    ),
    "options": (lambda value: value.to_json(), AnswerOptions.from_json),
    "warnings": (list, lambda value: tuple(map(_of(str), value))),
}
