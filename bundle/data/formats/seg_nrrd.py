"""Segmentations of 3D Slicer (.seg.nrrd): segments with names and colours, which may overlap in layers.

The fields are those that Slicer's documentation names ("Segmentations file format"), read by ``slicerio``, which
Slicer's developers keep. ``SegmentN_LabelValue`` is the value that segment N has in the layer ``SegmentN_Layer``;
segments that overlap lie in several layers (4D, the layers along the first axis). The grid is that of the segments,
often cropped to them: ``bundle.data.grid.check_grid`` puts it back onto the image.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import nrrd
import numpy as np

from bundle.data.formats.stored import LPS_TO_RAS, Segment, Stored, in_mm, told_apart
from bundle.data.headers.lengths import mm_of
from bundle.data.headers.nrrd import read_header
from bundle.errors import VolumeError

logger = logging.getLogger(__name__)

_FIELD_OF_SEGMENT = re.compile(rb"Segment\d+_\w+:=")


def has_segments(path: Path) -> bool:
    """Whether the header of a NRRD file names segments; a plain label map under the name .seg.nrrd has none."""
    with path.open("rb") as file:
        header = takewhile(lambda line: line.strip(), iter(lambda: file.readline(2**16), b""))
        return any(_FIELD_OF_SEGMENT.match(line) for line in header)


def read_segments(path: Path) -> tuple[Segment, ...]:
    """The segments of a file, without its voxels.

    Raises:
        VolumeError: the header is damaged or says what is not understood.
    """
    return tuple(segment for segment, _, _ in _numbered(_read(path, skip_voxels=True)["segments"]))


def read_segmentation(path: Path, *, is_label: bool) -> Stored:
    """Read a segmentation as one label map, whose ``segments`` say which value is which.

    A segment keeps its label value; where two segments of different layers have the same one, all are numbered from 1
    in their order instead. Where segments overlap the later one wins, and a warning says how many voxels that are.

    Raises:
        VolumeError: it is asked for as an image, or is damaged, or holds something else than a binary label map.
    """
    if not is_label:
        raise VolumeError(f"{path} holds the segments of a segmentation, expected an image; give it as the label")
    content = _read(path, skip_voxels=False)
    if "fractional" in str(content.get("masterRepresentation", "")).lower():
        raise VolumeError(f"{path} holds a fractional segmentation, expected a binary one; export it as label map")
    voxels = content["voxels"]
    layers = voxels if voxels.ndim == 4 else voxels[None]
    if layers.ndim != 4 or layers.dtype.kind not in "bui":
        raise VolumeError(f"expected layers of label maps in {path}, got shape {voxels.shape} of {voxels.dtype}")
    numbered = _numbered(content["segments"])
    for segment, layer, _ in numbered:
        if not 0 <= layer < len(layers):
            last = len(layers) - 1
            raise VolumeError(f"segment {segment.name!r} of {path} lies in layer {layer}, expected 0 to {last}")
    array = _flattened(layers, numbered, path)
    segments = tuple(segment for segment, _, _ in numbered)
    stored = Stored(array, LPS_TO_RAS @ np.asarray(content["ijkToLPS"], dtype=np.float64), segments=segments)
    return in_mm(stored, mm_of(read_header(path).unit), path)


def _flattened(layers: np.ndarray, numbered: Sequence[tuple[Segment, int, int]], path: Path) -> np.ndarray:
    """(I, J, K) uint32 from (L, I, J, K) layers; later segments lie over earlier ones."""
    array = np.zeros(layers.shape[1:], np.uint32)
    covered = 0
    for segment, layer, stored_value in numbered:
        mask = layers[layer] == stored_value
        covered += np.count_nonzero(array[mask])
        array[mask] = segment.value
    if covered:
        logger.warning("segments overlap in %d voxels of %s; there the later segment is taken", covered, path)
    if nameless := np.count_nonzero(layers.any(axis=0) & (array == 0)):
        logger.warning("%d voxels of %s belong to no segment and are left out", nameless, path)
    return array


def _numbered(fields: Sequence[Mapping[str, Any]]) -> list[tuple[Segment, int, int]]:
    """Each segment with the layer and the value that it has there."""
    layers = [int(segment.get("layer", 0)) for segment in fields]
    stored = [int(segment.get("labelValue", 1)) for segment in fields]
    is_clear = len(set(stored)) == len(stored) and min(stored) > 0
    values = stored if is_clear else range(1, len(stored) + 1)
    names = [str(about.get("name") or about["id"]) for about in fields]  # slicerio invents ids where there are none
    names = told_apart(dict(zip(values, names, strict=True))).values()
    colors = [tuple(segment["color"]) if len(segment.get("color", ())) == 3 else None for segment in fields]
    segments = [Segment(*parts) for parts in zip(names, values, colors, strict=True)]
    return list(zip(segments, layers, stored, strict=True))


def _read(path: Path, *, skip_voxels: bool) -> dict[str, Any]:
    import slicerio  # a fifth of a second that only its users pay

    try:
        header = slicerio.read_segmentation(str(path), skip_voxels=True)
        if {"data file", "datafile"} & header.keys():
            raise VolumeError(f"{path} keeps its voxels in another file, expected them in the same one; save it again")
        return header if skip_voxels else slicerio.read_segmentation(str(path))
    except (nrrd.NRRDError, AttributeError, IndexError, TypeError) as error:  # what a wrong field becomes in there
        raise VolumeError(f"cannot read {path}, its header is damaged ({error})") from error
