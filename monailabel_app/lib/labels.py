"""The names that the app offers for segments."""

from __future__ import annotations

from bundle.data.labels import FLARE22_LABELS
from monailabel_app.lib.errors import RequestError


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
