"""The files of families: JSON that may name a builder of ours and its arguments, and nothing else that could run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from torch import nn

from bundle.errors import FamilyError
from bundle.families import builders
from bundle.files import read_json_object

_BUILDERS = builders.__name__
PROMPT_TYPES = ("box", "point", "mask", "none")
_NOTHING = type(None)
# Each section with the types that JSON gives it; those of ``_NEEDED`` must be there.
_SECTIONS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "title": (str,),
    "network_def": (dict,),
    "contract": (dict,),
    "checkpoint": (dict, _NOTHING),
    "prompts": (list,),
    "trainable": (list,),
    "start": (str, _NOTHING),
    "volume": (str, _NOTHING),
    "notes": (str,),
    "variants": (list,),
}
_NEEDED = ("name", "title", "network_def", "contract")
_CHECKPOINT: dict[str, tuple[type, ...]] = {
    "file": (str,),
    "url": (str, _NOTHING),
    "page": (str, _NOTHING),
    "size": (int, _NOTHING),
    "sha256": (str, _NOTHING),
    "md5": (str, _NOTHING),
    "licence": (str,),
    "citation": (str,),
    "sources": (dict,),
}
_WORDS = {str: "a text", dict: "an object", list: "a list", int: "a whole number", _NOTHING: "null"}


def read_family_file(path: Path, choice: Sequence[str] = ()) -> dict[str, Any]:
    """The sections of a family, those of a variant laid over them; ``variants`` is gone.

    Args:
        path: of the file.
        choice: the name of one overlay of each axis of ``variants``; none for the family itself.

    Raises:
        FamilyError: naming the file, the section, what is there and what would be right.
    """
    config = _with_variant(_read(path), choice, path)
    if missing := [key for key in _NEEDED if key not in config]:
        raise FamilyError(f"{path.name} lacks the section {missing[0]!r}")
    _check_types(config, _SECTIONS, path, "")
    _name_of_builder(config["network_def"].get("_target_"), path.name)
    if "carried" in config["contract"]:  # where family files said it up to version 2.5
        raise FamilyError(f"carried of the contract of {path.name} is the option propagated of its network_def now")
    _check_checkpoint(config.get("checkpoint") or {"file": "-"}, path)
    for section in ("prompts", "trainable"):
        if not all(isinstance(word, str) for word in config.get(section, [])):
            raise FamilyError(f"{section} of {path.name} must be a list of texts, got {config[section]!r:.80}")
    if unknown := sorted(set(config.get("prompts", [])) - set(PROMPT_TYPES)):
        raise FamilyError(f"prompts of {path.name} must be among {', '.join(PROMPT_TYPES)}, got {unknown[0]!r:.80}")
    return config


def variants_of(path: Path) -> list[dict[str, Any]]:
    """The axes of a family's variants: on each, the name of an overlay -> the overlay.

    Raises:
        FamilyError: the file is wrong.
    """
    return _axes(_read(path), path)


def builder_named(target: object, where: str) -> Callable[..., nn.Module]:
    """The builder that a ``_target_`` names.

    The file is data: it may name one of `builders.BUILDERS`, and nothing that can be reached from there (a module that
    it imports leads to every other one).

    Raises:
        FamilyError: it names something else.
    """
    return getattr(builders, _name_of_builder(target, where))


def _name_of_builder(target: object, where: str) -> str:
    """The name in `builders.BUILDERS`; the builder itself may cost an import of seconds."""
    room, _, name = target.rpartition(".") if isinstance(target, str) else ("", "", "")
    if room != _BUILDERS or name not in builders.BUILDERS:
        raise FamilyError(f"network_def of {where} must have a builder in {_BUILDERS} as _target_, got {target!r:.80}")
    return name


def _read(path: Path) -> dict[str, Any]:
    return read_json_object(path, path.name, FamilyError)


def _check_types(section: Mapping[str, Any], types: Mapping[str, tuple[type, ...]], path: Path, where: str) -> None:
    for key, kinds in types.items():
        if key in section and type(section[key]) not in kinds:
            expected = " or ".join(_WORDS[kind] for kind in kinds)
            raise FamilyError(f"{where}{key} of {path.name} must be {expected}, got {section[key]!r:.80}")


def _check_checkpoint(checkpoint: Mapping[str, Any], path: Path) -> None:
    if "file" not in checkpoint:
        raise FamilyError(f"checkpoint of {path.name} lacks the key 'file', where the weights lie")
    _check_types(checkpoint, _CHECKPOINT, path, "checkpoint.")
    file = PurePosixPath(checkpoint["file"])
    if not file.parts or file.is_absolute() or ".." in file.parts or "\0" in checkpoint["file"]:  # downloads go there
        raise FamilyError(
            f"checkpoint.file of {path.name} must be a path below the bundle, got {checkpoint['file']!r:.80}"
        )


def _axes(config: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    axes = config.get("variants", [])
    if not isinstance(axes, list) or not all(isinstance(axis, dict) for axis in axes):
        raise FamilyError(f"variants of {path.name} must be a list of objects, name -> overlay, got {axes!r:.80}")
    overlays = {name: overlay for axis in axes for name, overlay in axis.items()}
    for name, overlay in overlays.items():
        if not isinstance(overlay, dict) or not isinstance(overlay.get("network_def", {}), dict):
            raise FamilyError(
                f"the variant {name!r:.80} of {path.name} must be an object of sections, got {overlay!r:.80}"
            )
    return axes


def _with_variant(config: dict[str, Any], choice: Sequence[str], path: Path) -> dict[str, Any]:
    """Lay one overlay of each axis of ``variants`` over a family; None takes a key of ``network_def`` away."""
    axes = _axes(config, path)
    config.pop("variants", None)
    if choice and (len(choice) != len(axes) or any(c not in axis for c, axis in zip(choice, axes, strict=True))):
        known = " and one of ".join(", ".join(axis) for axis in axes) or "no variants"
        raise FamilyError(f"family {config.get('name')} has one of {known}, got {'-'.join(choice)}")
    for name, axis in zip(choice, axes, strict=False):
        overlay = dict(axis[name])
        network_def = {**config["network_def"], **overlay.pop("network_def", {})}
        network_def = {key: value for key, value in network_def.items() if value is not None}
        config = {**config, **overlay, "network_def": network_def, "name": f"{config['name']}-{name}"}
    return config
