"""The infer task of Slicer's scribbles panel: strokes that were painted on and off a segment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferType

from bundle.data.grid import check_grid
from bundle.data.guarded import read_label
from monailabel_app.errors import RequestError
from monailabel_app.tasks.interactive import SamTask
from monailabel_app.tasks.open_images import ImageSessions, OpenImage
from monailabel_app.wire import fields as wire
from monailabel_app.wire.painted import SELECTED, read_painted
from monailabel_app.wire.requests import ClickRequest


class ScribblesTask(SamTask):
    """Strokes in a label map in, label map out: the voxels under them are points of the selected segment."""

    def __init__(self, sessions: ImageSessions) -> None:
        """Args:
        sessions: the open images, shared between tasks.
        """
        super().__init__(sessions, dimension=3)
        self.type = InferType.SCRIBBLES
        self.description = "Segments an object in the volume from strokes on and off it"

    def _click(self, request: Mapping[str, Any], image: OpenImage, axis: int) -> ClickRequest:
        file = request.get(wire.PAINTED)
        if not file:
            raise RequestError("strokes come as a label map in the multipart field label; paint some and update")
        painted = check_grid(image.volume, read_label(Path(file))).array
        points = read_painted(request, painted, axis=axis)
        click = {
            wire.LABEL: str(request.get(SELECTED) or "object"),
            wire.INTERACTIONS: [point.to_json() for point in points],
            wire.ROI: request.get(wire.ROI) or None,
            wire.RESET_STATE: request.get(wire.RESET_STATE),
            wire.CLIENT_ID: request.get(wire.CLIENT_ID),
        }
        return super()._click(click, image, axis)
