"""What a radiologist would measure of an object: its volume, its axes, and the values that the image has in it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import scipy  # its modules are imported when they are used

from bundle.data.volume import Volume
from bundle.interactive.regions import Region


def object_measures(mask: np.ndarray, image: Volume, *, axis: int = 2) -> dict[str, Any]:
    """Volume in ml, axes in mm, and mean and standard deviation of the image's values (HU in a CT).

    ``major_mm``, ``minor_mm`` and ``least_mm`` are the axes of the ellipsoid that has the object's second moments, 4
    times the roots of their eigenvalues, as pyradiomics' MajorAxisLength, MinorAxisLength and LeastAxisLength. Of an
    object on one slice the least is 0; the depth of a voxel is not counted.

    ``long_axis_mm`` is the largest diameter on any slice, and ``short_axis_mm`` the largest one perpendicular to it on
    that slice (``slice``), as RECIST 1.1 measures a lesion and a lymph node (Eisenhauer et al., Eur. J. Cancer 45,
    2009). They reach from edge to edge, through the midpoints of the outer faces of voxels as pyradiomics'
    Maximum2DDiameter, and are those of the convex hull.

    Args:
        mask: (I, J, K) bool on the grid of the image.
        image: (I, J, K), or (I, J, K, 3) of which the mean over colours is taken.
        axis: stored axis of the slices.

    Returns:
        These names, ``mean``, ``std`` and ``ml``; ``slice``, ``mean`` and ``std`` are None of an empty mask.
    """
    region = Region.of(mask)
    voxels = np.argwhere(region.voxels) + region.low
    lengths = ("major_mm", "minor_mm", "least_mm", "long_axis_mm", "short_axis_mm")
    if region.is_empty:
        return {"ml": 0.0, **dict.fromkeys(lengths, 0.0), "slice": None, "mean": None, "std": None}
    ml = len(voxels) * float(abs(np.linalg.det(image.affine[:3, :3]))) / 1000.0
    millimetres = (voxels - voxels.mean(axis=0)) @ image.affine[:3, :3].T
    moments = millimetres.T @ millimetres / len(voxels)
    least, minor, major = 4.0 * np.sqrt(np.clip(np.linalg.eigvalsh(moments), 0.0, None))
    index, long, short = _diameters(region, image.affine, axis)
    values = image.array[tuple(voxels.T)].astype(np.float64)
    values = values.mean(axis=1) if values.ndim == 2 else values
    found = zip(lengths, (major, minor, least, long, short), strict=True)
    return {
        "ml": round(ml, 3),
        **{name: round(float(length), 2) for name, length in found},
        "slice": index,
        "mean": round(float(values.mean()), 2),
        "std": round(float(values.std()), 2),
    }


def _diameters(region: Region, affine: np.ndarray, axis: int) -> tuple[int, float, float]:
    """The slice along an axis that shows the largest diameter, that in mm, and the largest one perpendicular to it."""
    first, second = (other for other in range(3) if other != axis)
    along, across = _plane(affine[:3, first], affine[:3, second])
    best = (0, -1.0, np.zeros((0, 2)), np.zeros(2))
    for number, picture in enumerate(np.moveaxis(region.voxels, axis, 0)):
        if not picture.any():
            continue
        edge = _hull(_face_midpoints(picture) @ np.stack([along, across]))
        distances = scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(edge))
        one, other = np.unravel_index(distances.argmax(), distances.shape)
        if distances[one, other] > best[1]:
            best = number, float(distances[one, other]), edge, edge[other] - edge[one]
    number, long, edge, direction = best
    return int(region.low[axis]) + number, long, _width(edge, direction / long)


def _plane(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(2,) mm of a step along each of two voxel axes, in right-angled axes of their plane; they may be sheared."""
    length = float(np.linalg.norm(first))
    along = float(second @ first) / length
    return np.array([length, 0.0]), np.array([along, np.sqrt(max(float(second @ second) - along**2, 0.0))])


def _face_midpoints(picture: np.ndarray) -> np.ndarray:
    """(N, 2) float indices of the midpoints of the edges between a (A, B) bool picture's pixels and what is beside."""
    padded = np.pad(picture, 1)
    found = []
    for axis, offset in ((0, (0.5, 0.0)), (1, (0.0, 0.5))):
        found.append(np.argwhere(np.diff(padded, axis=axis)) - 1 + offset)
    return np.concatenate(found)


def _hull(points: np.ndarray) -> np.ndarray:
    """(H, 2) corners of the convex hull in their order around it."""
    try:
        return points[scipy.spatial.ConvexHull(points).vertices]
    except scipy.spatial.QhullError:  # all on one line
        return points


def _width(edge: np.ndarray, direction: np.ndarray) -> float:
    """The longest chord of a convex polygon perpendicular to a unit vector.

    Along the vector the length of the chord is linear between two corners, so it is largest at one of them.
    """
    along, across = edge @ direction, edge @ np.array([-direction[1], direction[0]])
    chords = [_chord(along, across, place) for place in along]
    return max(chords)


def _chord(along: np.ndarray, across: np.ndarray, place: float) -> float:
    """Length of a convex polygon across one place along."""
    found = []
    for (a, x), (b, y) in pairwise([*zip(along, across, strict=True), (along[0], across[0])]):
        if min(a, b) <= place <= max(a, b):
            found += [x, y] if a == b else [x + (y - x) * (place - a) / (b - a)]
    return max(found) - min(found)
