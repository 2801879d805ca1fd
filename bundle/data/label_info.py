"""``label_info``: the names that MONAI Label's clients send with a label, and that its datastore keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.data.dataset_files import label_of, names_in, of_kind, segments_in
from bundle.data.formats.stored import told_apart
from bundle.errors import LayoutError


def sent_names(info: Any, label: Path | None, store: str | Path) -> dict[str, int]:
    """Name -> value of a label of a MONAI Label datastore, without the background (0); see ``datasets.monai_label``.

    Args:
        info: what the datastore knows about the label; ``label_info`` is what the client sent, of which entries
            without ``idx`` count from 1.
        label: its file; None where there is none. Segments of one name are told apart, as those of a file are.
        store: where ``info`` stands, for a message.

    Raises:
        LayoutError: see ``label_info_by_value``.
    """
    if label is None:
        return {}
    what = f"label_info of {label.name} in {store}"
    entries = of_kind(info, Mapping, what, "in an object").get("label_info") or []
    sent = label_info_by_value(_named(entries) if isinstance(entries, list) else entries, what)
    names = {value: entry["name"] for value, entry in sent.items() if value and entry["name"] != "background"}
    return segments_in(label) or {name: value for value, name in told_apart(names).items()} or names_in(label)


def _named(entries: list[Any]) -> list[Any]:
    """The entries that have a name, as text; a client also lists its background without one."""
    named: list[Any] = []
    for place, entry in enumerate(entries, start=1):
        if not isinstance(entry, Mapping):
            named.append(entry)  # ``label_info_by_value`` says what is wrong with it
        elif entry.get("name") is not None:
            named.append({"idx": place, **entry, "name": str(entry["name"])})
    return named


def label_info_by_value(label_info: Any, what: str) -> dict[int, dict[str, Any]]:
    """The entries that a client sent with a label, ``[{"name": "liver", "idx": 1}, ...]``, by their value in it.

    Args:
        label_info: as it was sent; entries without ``idx`` count from 1.
        what: its name in a message.

    Raises:
        LayoutError: it is no list of names and numbers, or one value has two names.
    """
    found: dict[int, dict[str, Any]] = {}
    for place, entry in enumerate(of_kind(label_info, list, what, "a list"), start=1):
        of_kind(entry, Mapping, what, 'a list of {"name", "idx"}')
        name = of_kind(entry.get("name"), str, f"name in {what}", "a text")
        value = label_of(entry.get("idx", place), f"idx in {what}")
        if value in found and found[value]["name"] != name:
            both = f"{found[value]['name']!r:.80} and {name!r:.80}"
            raise LayoutError(f"{what} must be names with a value of their own, got {both} with {value}")
        found[value] = dict(entry)
    return found
