"""MONAI's bundle runner over layers of `configs/`, for the scripts that compare several runs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import monai.bundle

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
