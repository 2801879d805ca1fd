"""The names of segments: those that the app offers, and those that clients send."""

from __future__ import annotations

from typing import Any

from bundle.data.label_info import label_info_by_value
from bundle.data.labels import FLARE22_LABELS
from bundle.errors import LayoutError
from monailabel_app.errors import RequestError


def read_label_names(text: str | None) -> list[str]:
    """The names of ``--conf labels "liver,lesion"``; by default the organs of FLARE22.

    A class-agnostic model needs no list, but OHIF can only click on a name that the server lists. Spaces instead of
    underscores are what Slicer and OHIF choose an organ's colour by.

    Raises:
        RequestError: there is no name in it, or one twice.
    """
    if text is None:
        return [name.replace("_", " ") for name in FLARE22_LABELS]
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise RequestError(f"labels must be different names with commas between them, got {text!r}")
    return names


def is_entries(label_info: object) -> bool:
    """Whether it is a list of objects that have a name each, whatever else they say."""
    return isinstance(label_info, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in label_info
    )


def segments_of(label_info: object) -> dict[int, dict[str, Any]]:
    """The entries that a client sends with a label, by their value in it.

    Args:
        label_info: as training reads it, see ``label_info_by_value``.

    Raises:
        RequestError: training could not read it.
    """
    try:
        return label_info_by_value(label_info, "label_info")
    except LayoutError as error:
        raise RequestError(f'{error}; send [{{"name": "liver", "idx": 1}}, ...]') from error
