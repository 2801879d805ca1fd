"""napari with nnInteractive's widget, in a window of a screen that nobody sees, at our server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import nnInteractive.inference.remote as remote
import numpy as np
import pytest
from nninteractive_room import ball, balls, bright_opener, running

pytestmark = pytest.mark.clients

PYTHON = "MONAI_SAM_NAPARI"
SPACING = [3.0, 2.0, 2.0]
BOX = {"tool": "box", "from": [15, 4, 4], "to": [15, 20, 20]}
OFF = {"tool": "point", "at": [15, 9, 12], "positive": False}


def test_a_box_a_correction_and_undo_in_napari(tmp_path):
    python, screen = os.environ.get(PYTHON), shutil.which("xvfb-run")
    if python is None or screen is None:
        pytest.skip(f"needs napari: {PYTHON} names a Python that has napari-nninteractive, and xvfb is installed")
    np.save(tmp_path / "image.npy", balls())
    steps = {"spacing": SPACING, "steps": [BOX, OFF, {"tool": "undo"}, {"tool": "undo"}]}
    (tmp_path / "steps.json").write_text(json.dumps(steps))
    script = Path(__file__).with_name("napari_client.py")
    with running(bright_opener()) as url:
        command = [screen, "-a", "-s", "-screen 0 1280x900x24", python, str(script), url, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment(tmp_path))
        assert done.returncode == 0, done.stdout + done.stderr
        masks = np.load(tmp_path / "masks.npy")
        with remote.nnInteractiveRemoteInferenceSession(url) as client:
            client.set_image(balls()[None], {"spacing": SPACING})
            client.set_target_buffer(np.zeros(balls().shape, np.uint8))
            client.add_bbox_interaction([[15, 16], [4, 20], [4, 20]], True)
            np.testing.assert_array_equal(masks[0], client.target_buffer)
    first, corrected, back, begun = masks > 0
    assert 2 * (first & ball(0)).sum() / (first.sum() + ball(0).sum()) > 0.9
    assert not corrected[15, 9, 12] and first[15, 9, 12]
    np.testing.assert_array_equal(back, first)
    assert not begun.any()
    assert (tmp_path / "window.png").stat().st_size > 10_000


def environment(home: Path) -> dict[str, str]:
    """Of a napari that nobody has used yet, without this project's packages."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**kept, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "QT_QPA_PLATFORM": "xcb"}
