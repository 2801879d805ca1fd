"""DICOM SEG: which name and colour belong to which segment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.data.formats.stored import told_apart
from bundle.data.volume import Segment, Volume, write_label
from monailabel_app.errors import RequestError
from monailabel_app.wire.labels import segments_of

Color = tuple[float, float, float]


def match_label_info(label_info: list[dict[str, Any]], labels: np.ndarray) -> list[dict[str, Any]]:
    """One entry for each value that occurs in a label map, in rising order, with its value in ``idx``.

    Args:
        label_info: the client's entries, ``{"name": "liver", "idx": 1}``; entries without ``idx`` count from 1.
        labels: the label map.

    Raises:
        RequestError: no voxel is labelled, so that there is nothing to store, or the entries are none.
    """
    by_value = segments_of(label_info)
    values = [int(value) for value in np.unique(labels) if value]
    if not values:
        raise RequestError("the label is empty and DICOM SEG cannot hold that; draw something first")
    return [{**by_value.get(value, {"name": f"label {value}"}), "idx": value} for value in values]


def write_dicom_seg(labels: np.ndarray, image: Volume, label_info: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Write a label map as DICOM SEG with the names and colours of its segments.

    Args:
        labels: (I, J, K) on the grid of the image.
        image: read from a folder of DICOM files.
        label_info: as ``match_label_info`` gives it; ``color`` is red, green and blue from 0 to 255, and without it
            the colour is that of the value (``bundle.data.palette``).
        path: of the file, which ends in .dcm.

    Raises:
        RequestError: a colour that is none.
        VolumeError: the image is no series that a SEG can refer to.
    """
    told = told_apart({int(entry["idx"]): str(entry["name"]) or "label" for entry in label_info})
    names = {name: value for value, name in told.items()}
    colors = {int(entry["idx"]): _color_of(entry["color"]) for entry in label_info if entry.get("color") is not None}
    return write_label(labels, image, path, names=names, colors=colors)


def label_info_of(segments: Iterable[Segment]) -> list[dict[str, Any]]:
    """The segments of a file as a client is told of them."""
    return [
        {"name": segment.name, "idx": segment.value}
        | ({"color": [round(255 * part) for part in segment.color]} if segment.color is not None else {})
        for segment in segments
    ]


def _color_of(color: object) -> Color:
    try:
        red, green, blue = (float(part) / 255 for part in list(color)[:3])  # OHIF appends the opacity
    except (TypeError, ValueError):
        red = green = blue = -1.0
    if not all(0 <= part <= 1 for part in (red, green, blue)):
        raise RequestError(f"color in label_info must be [red, green, blue] from 0 to 255, got {color!r:.80}")
    return red, green, blue
