"""napari with nnInteractive's widget, in a window of a screen that nobody sees, at our server."""

from __future__ import annotations

import nnInteractive.inference.remote as remote
import numpy as np
import pytest
from napari_room import use_napari
from nninteractive_room import ball, balls, bright_opener, running

pytestmark = pytest.mark.clients

SPACING = [3.0, 2.0, 2.0]
BOX = {"tool": "box", "from": [15, 4, 4], "to": [15, 20, 20]}
OFF = {"tool": "point", "at": [15, 9, 12], "positive": False}


def test_a_box_a_correction_and_undo_in_napari(tmp_path):
    with running(bright_opener()) as url:
        masks = use_napari(url, tmp_path, balls(), SPACING, [BOX, OFF, {"tool": "undo"}, {"tool": "undo"}])
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
    assert (tmp_path / "window-4.png").stat().st_size > 10_000
