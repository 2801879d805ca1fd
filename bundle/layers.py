"""MONAI's bundle runner over layers of `configs/`, for the scripts that compare several runs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import monai.bundle

from bundle.errors import RunStateError
from bundle.files import read_json, write_text
from bundle.networks.families import BUNDLE_ROOT


def run_unless(done: Path, layers: Sequence[str], **values: Any) -> None:
    """`python -m monai.bundle run` with these layers and values, in this process, unless the file is there.

    Args:
        done: what the run leaves behind when it is finished.
        layers: names below `configs/` without their ending, such as ``recipes/default``.
        values: what else to set, as on the command line; the command is printed.
    """
    if done.exists():
        print(f"{done} is there")
        return
    files = [f"configs/{name}.json" for name in layers]
    words = [part for name, value in values.items() for part in (f"--{name}", str(value))]
    print(shlex.join(["python", "-m", "monai.bundle", "run", "--config_file", str(files), *words]), flush=True)
    monai.bundle.run(config_file=[str(BUNDLE_ROOT / file) for file in files], logging_file=False, **values)


def remember_settings(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Keep what a run depends on as `settings.json` in its folder.

    Raises:
        RunStateError: the folder holds a run with something else, which must not be continued.
    """
    path = folder / "settings.json"
    if path.exists() and (found := read_json(path)) != wanted:
        raise RunStateError(f"{folder} holds a run with {found}, got {wanted}; choose another --out")
    write_text(path, json.dumps(wanted, indent=1))
