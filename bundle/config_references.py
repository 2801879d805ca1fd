"""Which keys of layered configs a run reads: the others are settings that change nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver
from monai.bundle.config_item import ConfigComponent, ConfigExpression
from monai.bundle.properties import InferProperties, TrainProperties
from monai.bundle.utils import ID_SEP_KEY
from monai.utils.enums import BundlePropertyConfig

RUN = ("initialize", "run", "finalize")
"""What MONAI's runner works out by itself."""
_OF_MONAI = ("imports", "_meta_")
# What MONAI's tools read of a bundle, whatever the run itself reads.
_PROPERTIES = {entry[BundlePropertyConfig.ID] for kind in (TrainProperties, InferProperties) for entry in kind.values()}


def unread_keys(config: ConfigParser, *, run: Sequence[str] = RUN) -> list[str]:
    """The keys that no expression and no component which is run refers to, at any depth.

    Args:
        config: the layers of a command, merged.
        run: the keys that are run.

    Returns:
        Ids as they are typed (``train#preprocessing``), sorted. Of a key that is unread as a whole its parts are not
        named, and neither are parts of what is read as a whole: a component takes all its arguments.
    """
    read: set[str] = set()
    waiting = [key for key in (*run, *_OF_MONAI) if key in config]
    while waiting:
        if (key := waiting.pop()) in read:
            continue
        read.add(key)
        waiting += [found for found in _references(config[key]) if found in config]
    return sorted(key.replace(ID_SEP_KEY, "#") for key in _unread(config.get(), read, ""))


def _references(value: Any) -> Iterator[str]:
    """Ids that a value refers to, in strings at any depth."""
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)
    elif isinstance(value, str) and (ConfigExpression.is_expression(value) or value.startswith("@")):
        for reference in ReferenceResolver.match_refs_pattern(value):
            yield ReferenceResolver.normalize_id(reference)


def _unread(level: Mapping[str, Any], read: set[str], above: str) -> Iterator[str]:
    for name, value in level.items():
        key = f"{above}{name}"
        if name.startswith("_") or key in read or key in _PROPERTIES:
            continue
        inside = any(one.startswith(key + ID_SEP_KEY) for one in read)
        if not inside:
            yield key
        elif isinstance(value, Mapping) and not ConfigComponent.is_instantiable(value):
            yield from _unread(value, read, key + ID_SEP_KEY)
