"""napari in an environment of its own, in a window of a screen that nobody sees."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PYTHON = "MONAI_SAM_NAPARI"


def find_napari() -> tuple[str, str]:
    """The Python that has napari, and what starts a screen for it; the test skips where one is missing."""
    python, screen = os.environ.get(PYTHON), shutil.which("xvfb-run")
    if python is None or screen is None:
        pytest.skip(f"needs napari: {PYTHON} names a Python that has napari-nninteractive, and xvfb is installed")
    return python, screen


def use_napari(
    url: str, folder: Path, image: np.ndarray, spacing: Sequence[float], steps: Sequence[Mapping[str, Any]], **plan: Any
) -> np.ndarray:
    """Do the steps of a user (``napari_client.py``); the test skips where napari is not there.

    Args:
        url: of the server.
        folder: for the client's files; the window after each step is left there as window-1.png, ..., and its canvas
            as canvas-1.png, ...
        image: (Z, Y, X).
        spacing: mm along these axes.
        steps: what is done.
        plan: what else ``napari_client.py`` takes; ``window`` are the lowest and the highest value that is shown.

    Returns:
        (steps, Z, Y, X) uint8, the label layer after each step.
    """
    python, screen = find_napari()
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "image.npy", image)
    (folder / "steps.json").write_text(json.dumps({"spacing": list(spacing), "steps": list(steps), **plan}))
    script = Path(__file__).with_name("napari_client.py")
    command = [screen, "-a", "-s", "-screen 0 1280x900x24", python, str(script), url, str(folder)]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=_environment(folder), start_new_session=True
        )
    try:
        code = process.wait(300)
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)  # the screen, and napari with it
        raise
    assert code == 0, log.read_text()
    return np.load(folder / "masks.npy")


def _environment(home: Path) -> dict[str, str]:
    """Of a napari that nobody has used yet, without this project's packages."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**kept, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "QT_QPA_PLATFORM": "xcb"}
