"""Which options of its builder a network was trained with, as its checkpoint says.

A network with adapters, LoRA or classes of its own needs the builder's options again to be opened. ``train.json``
writes them into the checkpoint's metadata as ``network_options``. A checkpoint is untrusted: only the options listed
here are taken from one, and only values of their kind and size; none of them names anything that could be imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Any

from bundle.errors import CheckpointError
from bundle.networks.tuning.peft import KINDS, PARTS

LORA_RANK = 4  # of `peft.apply_tuning` where a tuning does not say

Check = Callable[[Any], bool]


def trained_options(metadata: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The options that a checkpoint's metadata names; None where it says nothing of them.

    Args:
        metadata: of the checkpoint.
        name: of its file, for messages.

    Raises:
        CheckpointError: on an option that is not among those known here, or a value of the wrong kind or size.
    """
    if "network_options" not in metadata:
        return None
    options = metadata["network_options"]
    for key, value in options.items():
        if key not in _OPTIONS:
            raise CheckpointError(
                f"{name} was not opened: its metadata has the network option {key!r}; known are {', '.join(_OPTIONS)}"
            )
        expected, check = _OPTIONS[key]
        if not check(value):
            raise CheckpointError(
                f"{name} was not opened: its metadata's network option {key} must be {expected}, got {str(value)[:80]}"
            )
    return dict(options)


def agreed_options(
    metadata: Mapping[str, Any],
    name: str,
    given: Mapping[str, Any],
    *,
    own: Mapping[str, Any] | None,
    signature: Signature,
) -> dict[str, Any]:
    """The options to build a checkpoint's network with: those it names, and others that are given.

    Args:
        metadata: of the checkpoint; not trusted.
        name: of its file, for messages.
        given: options that are asked for.
        own: the arguments of the family that trained it; None where another family opens it, of whose arguments it says
            nothing.
        signature: of the builder.

    Raises:
        CheckpointError: if it names what cannot be an option or what the builder does not know, or if what is asked for
            contradicts what it was trained with.
    """
    trained = trained_options(metadata, name)
    if trained is None:
        return dict(given)
    if unknown := sorted(set(trained) - set(signature.parameters)):
        raise CheckpointError(
            f"{name} was trained with the option {unknown[0]!r}, which this family's network does not have"
        )
    known = dict(trained) if own is None else {**_defaults(signature), **own, **trained}
    for key, value in given.items():
        if key in known and _settled(key, value) != _settled(key, known[key]):
            raise CheckpointError(
                f"{name} was trained with {key} = {_shown(known[key])}, but network_options (or a layer of "
                f"configs/tuning) ask for {_shown(value)}; leave {key} out, a checkpoint of this project says it itself"
            )
    return {**given, **trained}


def _defaults(signature: Signature) -> dict[str, Any]:
    return {name: p.default for name, p in signature.parameters.items() if p.default is not Parameter.empty}


def _settled(key: str, value: Any) -> Any:
    """A value in a form in which equal ones compare equal: lists for tuples, and a tuning with its defaults."""
    if isinstance(value, (list, tuple)):
        return [_settled("", item) for item in value]
    if isinstance(value, Mapping):
        usual = {"part": "encoder", "blocks": None} | ({"rank": LORA_RANK} if value.get("kind") == "lora" else {})
        return {**usual, **{name: _settled("", item) for name, item in value.items()}}
    return value


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, Mapping) for item in value):
        parts = ([str(item[part]) for part in ("kind", "part", "rank") if part in item] for item in value)
        return " and ".join(" ".join(words) for words in parts)
    return "none" if value is None or value == [] or value == () else str(value)


def _whole(low: int, high: int) -> tuple[str, Check]:
    return f"a whole number from {low} to {high}", lambda value: type(value) is int and low <= value <= high


def _wholes(low: int, high: int, most: int) -> tuple[str, Check]:
    expected, check = _whole(low, high)
    return (
        f"up to {most} numbers, each {expected}",
        lambda value: isinstance(value, list) and 0 < len(value) <= most and all(check(item) for item in value),
    )


def _one_of(*choices: str | int) -> tuple[str, Check]:
    return f"one of {', '.join(map(str, choices))}", lambda value: any(
        type(value) is type(choice) and value == choice for choice in choices
    )


def _is_tuning(value: Any) -> bool:
    if not isinstance(value, Mapping) or set(value) - {"kind", "part", "blocks", "rank"}:
        return False
    _, blocks = _wholes(0, 255, 256)
    _, rank = _whole(1, 1024)
    return (
        value.get("kind") in KINDS
        and value.get("part", "encoder") in PARTS
        and blocks(value.get("blocks", [0]))
        and rank(value.get("rank", LORA_RANK))
    )


_FLAG = ("true or false", lambda value: type(value) is bool)
_OPTIONS: dict[str, tuple[str, Check]] = {
    "variant": _one_of("vit_b", "vit_l", "vit_h"),
    "image_size": _whole(16, 4096),
    "grid": _whole(1, 1024),
    "classes": _whole(2, 4096),
    "dimensions": _one_of(2, 3),
    "stem": _one_of("strided", "pointwise"),
    "neck": _one_of("sam", "pyramid"),
    "window_sizes": _wholes(1, 1024, 3),
    "window_before_norm": _FLAG,
    "raster_prompts": _FLAG,
    "fine": _FLAG,
    "widths": _wholes(8, 2048, 8),
    "depths": _wholes(1, 32, 8),
    "candidates": _one_of("ambiguous", "always"),
    "mask_prompt": _one_of("logits", "probability"),
    "propagated": (
        "a list of box, mask or both",
        lambda value: isinstance(value, list) and value in (["box"], ["mask"], ["box", "mask"], ["mask", "box"]),
    ),
    "tuning": (
        "a list of up to 16 objects with kind, part, blocks and rank as in configs/tuning",
        lambda value: isinstance(value, list) and len(value) <= 16 and all(_is_tuning(item) for item in value),
    ),
}
