"""Interactions as somebody wrote them: JSON of a request, a prompts file or a journal."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from bundle.errors import PromptError
from bundle.prompts.interactions import KINDS, Interaction, Mask, Point
from bundle.prompts.positions import as_rows


def interaction_from_json(entry: Any, what: str, *, most_voxels: int = 2**31) -> Interaction:
    """Read what ``Interaction.to_json`` wrote, or what somebody says that it wrote.

    Args:
        entry: of JSON.
        what: names the entry in messages.
        most_voxels: of a mask.

    Raises:
        PromptError: naming the key that is wrong. Whether the positions fit an image is for ``validated`` to say.
    """
    if not isinstance(entry, Mapping):
        raise PromptError(f"{what} must be a JSON object, got {entry!r:.80}")
    kind, positive = entry.get("kind"), entry.get("positive", True)
    if not isinstance(kind, str) or kind not in KINDS:
        raise PromptError(f'{what} needs a "kind", one of {", ".join(KINDS)}, got {kind!r:.80}')
    if not isinstance(positive, bool):
        raise PromptError(f'"positive" of {what} must be true or false, got {positive!r:.80}')
    made, fields = KINDS[kind], KINDS[kind].json_keys
    optional = {"corner"} if made is Mask else set()
    if unknown := sorted(map(str, set(entry) - {"kind", "positive", *fields, *optional})):
        raise PromptError(f"{what} has an unknown key {unknown[0]!r:.80}; a {kind} has {', '.join(fields)}")
    if missing := [name for name in fields if name not in entry]:
        raise PromptError(f"{what} needs {missing[0]!r}; a {kind} has {', '.join(fields)}")
    if made is Mask:
        voxels = _unpacked(entry["shape"], entry["bits"], what, most_voxels)
        return Mask(voxels, positive=positive, corner=_corner(entry.get("corner"), what))
    values = as_rows(entry[fields[0]], f'"{fields[0]}" of {what}', 3)
    return made(values[0] if made is Point else values, positive=positive)


def _unpacked(shape: Any, bits: Any, what: str, most_voxels: int) -> np.ndarray:
    sizes = shape if isinstance(shape, list) and len(shape) == 3 else [None]
    if not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes):
        raise PromptError(f'"shape" of {what} must be three whole numbers above 0, got {shape!r:.80}')
    count = sizes[0] * sizes[1] * sizes[2]
    if count > most_voxels:
        raise PromptError(f"the mask of {what} has {count} voxels, at most {most_voxels} are taken")
    size = -(-count // 8)
    try:
        unpack = zlib.decompressobj()
        data = unpack.decompress(base64.b64decode(bits, validate=True), size + 1)
    except (TypeError, ValueError, zlib.error) as error:
        raise PromptError(f'"bits" of {what} must be zlib in base64: {error}') from error
    if len(data) != size:
        raise PromptError(f'"bits" of {what} must hold {size} bytes for {count} voxels')
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count).astype(bool).reshape(sizes)


def _corner(value: Any, what: str) -> tuple[int, int, int] | None:
    if value is None:
        return None
    given = value if isinstance(value, list) and len(value) == 3 else [None]
    if not all(isinstance(index, int) and not isinstance(index, bool) and index >= 0 for index in given):
        raise PromptError(f'"corner" of {what} must be three whole numbers of at least 0, got {value!r:.80}')
    return tuple(given)
