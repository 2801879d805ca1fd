"""DICOM SEG: which name belongs to which segment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bundle.data.guarded import read_label
from monailabel_app.errors import RequestError
from monailabel_app.wire.labels import segments_of


def match_label_info(label_info: list[dict[str, Any]], label: Path) -> list[dict[str, Any]]:
    """One entry for each value that occurs in a label map, in rising order.

    MONAI Label gives the n-th entry's name to the n-th value that occurs, so that every organ after one that was not
    drawn would be stored under its neighbour's name.

    Args:
        label_info: the client's entries, ``{"name": "liver", "idx": 1}``; entries without ``idx`` count from 1.
        label: the label map.

    Raises:
        RequestError: no voxel is labelled, so that there is nothing to store, or the entries are none.
    """
    by_value = segments_of(label_info)
    values = [int(value) for value in np.unique(read_label(label).array) if value]
    if not values:
        raise RequestError("the label is empty and DICOM SEG cannot hold that; draw something first")
    return [by_value.get(value, {"name": f"label {value}", "idx": value}) for value in values]
