"""What the slices along an axis see of a box, a line and an area of the volume."""

from __future__ import annotations

import numpy as np

from bundle.prompts.drawing import densely_along
from bundle.prompts.slice_prompts import SliceInteraction
from bundle.transforms.frames import SliceFrame

Slices = dict[int, list[SliceInteraction]]
"""Slice index -> what that slice sees of an interaction."""


def section_of_box(corners: np.ndarray, frame: SliceFrame) -> tuple[np.ndarray, tuple[int, int]]:
    """(2, 2) pixels of a box's corners, lowest first, and the first and last slice that it covers."""
    xy, indices = frame.to_pixels(corners)
    return np.stack([xy.min(axis=0), xy.max(axis=0)]), (int(indices.min()), int(indices.max()))


def pieces_of_line(path: np.ndarray, frame: SliceFrame, positive: bool) -> Slices:
    """The pieces of a line, (N, 3) voxel indices, that lie on each slice."""
    # In voxels, where it is decided which of two a position between them lies in; a slice may be mirrored.
    xy, indices = frame.to_pixels(densely_along(path))
    found: Slices = {}
    for piece in np.split(np.arange(len(xy)), np.flatnonzero(np.diff(indices)) + 1):
        found.setdefault(int(indices[piece[0]]), []).append(SliceInteraction("scribble", xy[piece], positive))
    return found


def crossings_of_area(voxels: np.ndarray, frame: SliceFrame, positive: bool, *, share: float = 1.0) -> Slices:
    """Where slices cross an area of another plane, as scribbles.

    Args:
        voxels: (N, 3) int voxel indices of the area.
        frame: of the slices.
        positive: whether it lies on the object.
        share: the middle share of each crossing is taken. Below 1 the area was drawn or found roughly: then crossings
            shorter than this share of the longest, at its ends, are left out as well.
    """
    xy, indices = frame.to_pixels(voxels)
    runs: list[tuple[int, np.ndarray]] = []
    for index in np.unique(indices):
        here = xy[indices == index]
        here = here[np.lexsort(here.T)]
        gaps = np.flatnonzero(np.abs(np.diff(here, axis=0)).sum(axis=1) > 1) + 1
        runs += [(int(index), run) for run in np.split(here, gaps)]
    longest = max(len(run) for _, run in runs)
    found: Slices = {}
    for index, run in runs:
        if share == 1 or len(run) >= share * longest:
            cut = int(len(run) * (1 - share) / 2)
            line = run[cut : len(run) - cut]
            found.setdefault(index, []).append(SliceInteraction("scribble", line[[0, -1]], positive))
    return found
