"""What `python -m monai.bundle run` was asked for, taken as it was typed, and refused before work starts.

Between the command line and a config stand python-fire, which makes a number of `20250101` and cuts `a#b` at the #, and
MONAI, which runs a value that starts with $ and looks up one that starts with @. That is wanted for numbers, lists and
references, and wrong for names of files. So every config begins with `start`, which puts the names back as they were
typed before anything uses them. Out of its reach is a value that starts with %, which MONAI replaces when it reads the
config: such a file is named with ./ before it.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY, MERGE_KEY

from bundle.config_references import RUN, unread_keys
from bundle.data.volume import check_ending
from bundle.errors import OptionError, explain_errors
from bundle.waiting import waits_actively

TEXT_OPTIONS = frozenset(
    {
        *("image", "prompts", "label", "label_names", "modality", "series", "output_ext"),
        *("output_dir", "dataset_dir", "data_dir", "embedding_dir", "before_dir", "slices_file", "mlflow_uri"),
        *("family_name", "checkpoint", "before_checkpoint", "start", "replay", "run_name", "before_name", "title"),
    }
)
"""Options of our configs that are names: never numbers, code or references."""

# What MONAI's `run` takes itself, and what it hands to its experiment tracking.
_OF_MONAI = {
    *("run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file"),
    *("workflow_name", "workflow_type", "properties_path"),
    *("tracking_uri", "experiment_name", "save_execute_config"),
}

_log = logging.getLogger(__name__)
_given: ContextVar[Mapping[str, Any] | None] = ContextVar("given", default=None)


@contextmanager
def given_values(values: Mapping[str, Any]) -> Iterator[None]:
    """Let the runs inside take their options from here instead of from what was typed behind `monai.bundle run`.

    Args:
        values: by name of the top level of a config; they are used as they are, never read by MONAI.
    """
    token = _given.set(values)
    try:
        yield
    finally:
        _given.reset(token)


def start(resolved: dict[str, Any] | None = None, *, resume: str = "") -> None:
    """Begin a run: what every config does first.

    Errors will end the program with one sentence, options that no config knows are refused, and names are taken as they
    were typed. Only the options of `python -m monai.bundle run` are looked at, not the arguments of other programs.

    Args:
        resolved: MONAI's values of the config by id, in an expression ``__local_refs``; names that were typed are
            written into it, where MONAI finds them before it would work them out.
        resume: how to go on after Ctrl-C, for the message.

    Raises:
        OptionError: an option that does not exist, or that has no value.
    """
    explain_errors(resume=resume)
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal's encoding lacks must not end a run
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if (given := _given.get()) is not None:
        if resolved is not None:
            resolved |= given
        return
    if sys.argv[1:2] != ["run"] or "fire" not in sys.modules:
        return
    if waits_actively():
        _log.warning(
            "the cores of this machine are busy, and threads that wait keep them busier; set OMP_WAIT_POLICY=PASSIVE "
            "in the environment to be several times as fast here"
        )
    options = typed_options(sys.argv[2:])
    check_known(options, run=run_ids(sys.argv[2:]))
    if resolved is not None:
        resolved |= typed_names(options)


def typed_options(arguments: Sequence[str]) -> dict[str, str | None]:
    """The options of a command line by name, split as python-fire does; None where no value follows (True).

    Args:
        arguments: what stands behind `run`.
    """
    if "--" in arguments:  # what follows are options for fire itself
        arguments = arguments[: len(arguments) - 1 - arguments[::-1].index("--")]
    found: dict[str, str | None] = {}
    words = iter(enumerate(arguments))
    for index, word in words:
        if not _is_option(word):
            continue
        name, equals, value = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        if equals:
            found[name] = value
        elif index + 1 < len(arguments) and not _is_option(arguments[index + 1]):
            found[name] = next(words)[1]
        elif name.startswith("no"):
            found[name.removeprefix("no")] = "False"
        else:
            found[name] = None
    return found


def _is_option(word: str) -> bool:
    return bool(re.match(r"--|-[a-zA-Z]", word))


def run_ids(arguments: Sequence[str]) -> tuple[str, ...]:
    """What is run besides `RUN`: the words before the first option, as in ``run gather --config_file ...``."""
    first = next((index for index, word in enumerate(arguments) if _is_option(word)), len(arguments))
    return tuple(arguments[:first])


def check_known(options: Mapping[str, str | None], *, run: Sequence[str] = ()) -> None:
    """Refuse options that neither MONAI nor the configs of the command know, and those that nothing in them reads.

    Both would change nothing, and MONAI would not say so.

    Args:
        options: as `typed_options` gives them, with `config_file`.
        run: ids of what is run besides `RUN`.

    Raises:
        OptionError: naming all of them, and what was probably meant.
    """
    config = ConfigParser({})
    if options.get("args_file"):
        config.update(ConfigParser.load_config_file(options["args_file"]))
    files = DefaultParseValue(options.get("config_file") or "") or config.get("config_file")
    config.update(ConfigParser.load_config_files(files))
    unknown = [part for name in options if (part := _unknown(name, config))]
    if unknown:
        raise OptionError(f"unknown option {' and '.join(unknown)}")
    ids = (options[key] for key in ("run_id", "init_id", "final_id") if options.get(key))
    _check_read(options, config, (*RUN, *run, *ids))


def _check_read(options: Mapping[str, str | None], config: ConfigParser, run: Sequence[str]) -> None:
    """Refuse options that the configs have but that nothing which is run refers to, such as those of another recipe."""
    typed = {_id_of(name): name for name in options if _id_of(name).split("#")[0] not in _OF_MONAI}
    for key, name in typed.items():
        if not name.startswith(MERGE_KEY):  # what is added to a list takes nothing away from it
            config[key] = DefaultParseValue(options[name] or "None")
    unread = unread_keys(config, run=run)
    ignored = [name for key, name in typed.items() if any(key == one or key.startswith(f"{one}#") for one in unread)]
    if not ignored:
        return
    first = _id_of(ignored[0])
    read = [str(key) for key in config.get() if key not in unread and not first.startswith(f"{key}#")]
    close = difflib.get_close_matches(first, read, n=1)
    raise OptionError(
        f"nothing in these configs reads {' and '.join(f'--{name}' for name in ignored)}, so the run would be the same "
        f"without" + (f" (did you mean --{close[0]}?)" if close else "; leave out what another recipe or overlay needs")
    )


def _id_of(name: str) -> str:
    return name.removeprefix(MERGE_KEY).replace(ID_SEP_KEY, "#")


def _unknown(name: str, config: ConfigParser) -> str | None:
    """How to speak of an option that does not exist; None for one that does."""
    parts = name.removeprefix(MERGE_KEY).replace("#", ID_SEP_KEY).split(ID_SEP_KEY)
    if parts[0] in _OF_MONAI:
        return None
    # Of a nested option the last part may be new: a component may take more arguments than its config gives.
    for depth in range(1, max(2, len(parts))):
        if ID_SEP_KEY.join(parts[:depth]) in config:
            continue
        level = config[ID_SEP_KEY.join(parts[: depth - 1])]
        close = difflib.get_close_matches(parts[depth - 1], [*map(str, level)] + [*_OF_MONAI] * (depth == 1), n=1)
        meant = "#".join([*parts[: depth - 1], *close, *parts[depth:]])
        return f"--{name}" + (f" (did you mean --{meant}?)" if close else " (docs/README.md lists them)")
    return None


def typed_names(options: Mapping[str, str | None]) -> dict[str, Any]:
    """The values of `TEXT_OPTIONS` as they were typed.

    A list or mapping stays one, as in ``--image "['a.nii.gz', 'b.nii.gz']"``, unless a file has that name; `None`
    leaves the config's own value, and `$None` is MONAI's way to set none.

    Raises:
        OptionError: an option without a value.
    """
    return dict(_names(options))


def _names(options: Mapping[str, str | None]) -> Iterator[tuple[str, Any]]:
    for name in options.keys() & TEXT_OPTIONS:
        text = options[name]
        if text is None:
            raise OptionError(f"--{name} needs a value; write it behind")
        value = None if text == "$None" else DefaultParseValue(text)
        if value is None and text != "$None":
            continue
        yield name, value if value is None or _is_list(text, value) else text


def _is_list(text: str, value: Any) -> bool:
    """Whether a list or mapping is meant: a name may also hold commas or be in brackets."""
    return isinstance(value, (list, tuple, dict)) and text.lstrip()[0] in "[({" and not Path(text).exists()


def check_run(
    *,
    output_dir: str | Path | None = None,
    output_ext: str | None = None,
    device: str | int | torch.device | None = None,
) -> None:
    """Refuse before the first step what would fail after the last.

    Args:
        output_dir: folder for results; is made where it is missing.
        output_ext: ending of label maps.
        device: where networks run.

    Raises:
        OptionError: nothing can be written there, or there is no such device.
        VolumeError: no label map is written with that ending.
    """
    if output_ext is not None:
        check_ending(output_ext)
    if device is not None:
        _check_device(device)
    if output_dir is not None:
        _check_writable(Path(str(output_dir)))


def _check_device(device: str | int | torch.device) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        known = [f"cuda:{number}" for number in range(torch.cuda.device_count())] + ["cpu"]
        raise OptionError(f"device {device} cannot be used here ({reason}); take {' or '.join(known)}") from error


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror or type(error).__name__
        raise OptionError(f"cannot write into the folder {os.fspath(folder)} ({reason}); choose another") from error
