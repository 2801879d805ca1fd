"""napari with nnInteractive's widget, used with the mouse. Runs in an environment of its own (docs/nninteractive.md):

    python napari_client.py URL FOLDER

The folder holds image.npy, (Z, Y, X), and steps.json: the spacing in mm along these axes, and what is done, one after
the other, ``{"tool": "box", "from": [z, y, x], "to": [z, y, x]}``, ``{"tool": "point", "at": [z, y, x], "positive":
false}`` or ``{"tool": "undo"}``. Afterwards it also holds masks.npy, (steps, Z, Y, X) uint8, the label layer after each
of them, and the window after each with the canvas in it: window-1.png, canvas-1.png, ...
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import imageio.v3 as iio
import napari
import numpy as np
from napari_nninteractive import nnInteractiveWidget
from qtpy.QtCore import QPoint, QSettings, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

PATIENCE = 240.0  # seconds; only a broken client waits for them
POINT, BOX = 0, 1  # the widget's buttons


def main(url: str, folder: Path) -> None:
    """Do the steps of a folder at a server."""
    image, plan = np.load(folder / "image.npy"), json.loads((folder / "steps.json").read_text())
    QSettings.setPath(QSettings.NativeFormat, QSettings.UserScope, str(folder / "settings"))
    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(1200, 800)
    low, high = plan.get("window", [float(image.min()), float(image.max())])
    viewer.add_image(image, name="image", scale=plan["spacing"], contrast_limits=(low, high))
    widget = nnInteractiveWidget(viewer)
    viewer.window.add_dock_widget(widget, name="nnInteractive", area="right")
    QTest.qWait(200)
    viewer.reset_view()  # the dock took of the canvas
    widget.server_url_edit.setText(url)
    widget.init_button.click()  # connects, and sends the image
    until(lambda: widget._session_locked and widget._upload_dialog is None and widget.interaction_button.index == POINT)
    until(lambda: widget.point_layer_name in viewer.layers)
    masks = []
    for number, step in enumerate(plan["steps"], start=1):
        do(viewer, widget, step)
        masks.append(viewer.layers[widget.label_layer_name].data.copy())
        show_answer(viewer, widget)
        for name, is_canvas in (("window", False), ("canvas", True)):
            shown = viewer.screenshot(canvas_only=is_canvas, flash=False)
            iio.imwrite(folder / f"{name}-{number}.png", shown)
    np.save(folder / "masks.npy", np.stack(masks))
    widget._release_session()
    viewer.close()


def do(viewer: napari.Viewer, widget: nnInteractiveWidget, step: dict) -> None:
    """One step of a user; the widget waits for the answer before it goes on."""
    if step["tool"] == "undo":
        widget.undo_button.click()
        return
    widget.prompt_button._on_button_pressed(0 if step.get("positive", True) else 1)
    widget.interaction_button._on_button_pressed(POINT if step["tool"] == "point" else BOX)
    canvas = viewer.window._qt_viewer.canvas.native
    count = len(widget._interaction_history)
    if step["tool"] == "point":
        QTest.mouseClick(canvas, Qt.LeftButton, pos=pixel(viewer, step["at"]))
    else:
        start, stop = pixel(viewer, step["from"]), pixel(viewer, step["to"])
        QTest.mousePress(canvas, Qt.LeftButton, pos=start)
        for share in (0.3, 0.6, 1.0):
            QTest.mouseMove(canvas, start + (stop - start) * share)
            QTest.qWait(50)
        QTest.mouseRelease(canvas, Qt.LeftButton, pos=stop)
    until(lambda: len(widget._interaction_history) > count)


def show_answer(viewer: napari.Viewer, widget: nnInteractiveWidget) -> None:
    """Draw boxes as outlines, and the image smoothly, so that the answer is seen."""
    boxes = viewer.layers[widget.bbox_layer_name]
    if len(boxes.data):
        boxes.face_color = "transparent"
    viewer.layers["image"].interpolation2d = "linear"
    viewer.layers[widget.label_layer_name].opacity = 0.6
    QApplication.processEvents()


def pixel(viewer: napari.Viewer, voxel: Sequence[float]) -> QPoint:
    """Go to the slice of a voxel; where it lies on the canvas."""
    scale = viewer.layers["image"].scale
    viewer.dims.set_current_step(0, int(voxel[0]))
    QTest.qWait(100)
    canvas = viewer.window._qt_viewer.canvas.native
    _, y, x = (np.asarray(voxel) * scale - np.asarray(viewer.camera.center)) * viewer.camera.zoom
    return QPoint(round(canvas.width() / 2 + x), round(canvas.height() / 2 + y))


def until(condition: Callable[[], bool]) -> None:
    """Let the window live until a condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the widget did not come so far")
        QTest.qWait(20)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
