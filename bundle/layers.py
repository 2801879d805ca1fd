"""MONAI's bundle runner over layers of `configs/`, for our commands and for the scripts that compare several runs."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.errors import OptionError, RunStateError
from bundle.files import read_json, write_text
from bundle.root import BUNDLE_ROOT

_log = logging.getLogger(__name__)

# What MONAI does to a text that begins so: run it, look it up, replace it while reading.
_MEANINGFUL = ("$", "@", "%")


def command_of(layers: Sequence[str], values: Mapping[str, Any]) -> str:
    """The `python -m monai.bundle run` that does the same as `run_layers`, to be copied into a shell.

    Args:
        layers: names below `configs/` without their ending, such as ``recipes/default``.
        values: options by name; None leaves the config's own value.
    """
    files = [str(_file_of(layer)) for layer in layers]
    given = {name: value for name, value in values.items() if value is not None}
    words = [part for name, value in given.items() for part in (f"--{name}", _as_typed(value))]
    config = files[0] if len(files) == 1 else str(files)
    return shlex.join(["python", "-m", "monai.bundle", "run", "--config_file", config, *words])


def run_layers(layers: Sequence[str], values: Mapping[str, Any], *, wiring: Mapping[str, str] | None = None) -> None:
    """Run layers of `configs/` in this process, with values that stay what they are.

    A value of the top level is put where MONAI keeps what it has worked out, so that it never reads it: a file may be
    called ``$x`` or ``@image``. One of a nested option has to pass MONAI's parser and must not begin like its signs.

    Args:
        layers: as for `command_of`.
        values: as for `command_of`; lists, mappings and numbers as such.
        wiring: references and expressions of our own, such as ``{"items": "@dataset_items"}``.

    Raises:
        OptionError: an option that the layers do not have, or a nested text that MONAI would run.
    """
    from monai.bundle import ConfigWorkflow  # seconds

    from bundle.command_line import check_known, given_values

    files = [str(_file_of(layer)) for layer in layers]
    given = {name: value for name, value in values.items() if value is not None}
    check_known({"config_file": str(files), **dict.fromkeys(given)})
    nested = {name: value for name, value in given.items() if "#" in name}
    for name, value in nested.items():
        _check_plain(name, value)
    with given_values({name: value for name, value in given.items() if name not in nested}):
        workflow = ConfigWorkflow(config_file=files, logging_file=False, **nested, **(wiring or {}))
        workflow.initialize()
        workflow.run()
        workflow.finalize()


def run_unless(done: Path, layers: Sequence[str], **values: Any) -> None:
    """`run_layers` unless the file is there; the command is logged.

    Args:
        done: what the run leaves behind when it is finished.
        layers, values: as for `command_of`.
    """
    if done.exists():
        _log.info("%s is there", done)
        return
    _log.info("%s", command_of(layers, values))
    run_layers(layers, values)


def remember_settings(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Keep what a run depends on as `settings.json` in its folder.

    Raises:
        RunStateError: the folder holds a run with something else, which must not be continued.
    """
    path = folder / "settings.json"
    if path.exists():
        refuse_other_settings(folder, read_json(path), wanted, advice="choose another --output")
    write_text(path, json.dumps(wanted, indent=1))


def refuse_other_settings(
    folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any], *, advice: str = "choose another output folder"
) -> None:
    """Compare the settings of an earlier run with those of this one.

    Raises:
        RunStateError: naming each setting that differs, and no other.
    """
    differing = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
    if differing:
        parts = [f"{name} {_short(found.get(name))}, now {_short(wanted.get(name))}" for name in differing]
        raise RunStateError(f"{folder} holds results with {'; '.join(parts)}; {advice}")


def named_checkpoint(text: str) -> tuple[str, str]:
    """The name and the file of ``name=checkpoint``, as the type of an option of argparse.

    Raises:
        argparse.ArgumentTypeError: it is no such text.
    """
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise argparse.ArgumentTypeError(f"expected name=checkpoint, got {text!r}")
    return name, path


def _file_of(layer: str) -> Path:
    return BUNDLE_ROOT / "configs" / f"{layer}.json"


def _as_typed(value: Any) -> str:
    """A value as it is typed behind an option of python-fire."""
    return str(value) if isinstance(value, (str, Path, bool, int, float)) else repr(value)


def _check_plain(name: str, value: Any) -> None:
    parts = value if isinstance(value, list) else value.values() if isinstance(value, Mapping) else None
    if parts is not None:
        for part in parts:
            _check_plain(name, part)
    elif isinstance(value, str) and (value.startswith(_MEANINGFUL) or "@" in value):
        raise OptionError(f"{name} must be a plain value, got {value!r}, which MONAI would run or replace")


def _short(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
