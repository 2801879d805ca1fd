"""Where structures lie: what labelled images say about one that nobody has labelled.

A place is a box in shares of what the image shows (``content_box``), along the patient's axes, so that it can be
looked up in an image of another size, spacing or orientation. It knows nothing of how much of the body a scan covers:
between scans of different coverage it is a guess, which the model's answers correct or call doubtful.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np

from bundle.data.labels import find_labels
from bundle.data.volume import Volume

_SHOWN = 0.1  # of the range of intensities: what is darker is air or the rim of a picture
_LEAST_SPREAD = 0.05  # of a box's side: what one labelled image says is not exact
_STEP = 4  # voxels: the range of intensities is that of every fourth one


@dataclass(frozen=True, eq=False)
class Place:
    """The box of one structure in one or several images.

    Attributes:
        low, high: (3,) float, its corners in shares of the content, 0 to 1, along R, A and S.
        spread: (2, 3) float, how far the corners lie apart in the labelled images (one standard deviation).
    """

    low: np.ndarray
    high: np.ndarray
    spread: np.ndarray

    @classmethod
    def mean(cls, places: Sequence[Place]) -> Place:
        """Where the structure lies on average; ``places`` must hold one at least."""
        corners = np.array([(place.low, place.high) for place in places])  # (N, 2, 3)
        low, high = corners.mean(axis=0)
        least = np.broadcast_to(_LEAST_SPREAD * (high - low), (2, 3))
        return cls(low, high, np.maximum(corners.std(axis=0), least))

    def box_in(self, volume: Volume) -> np.ndarray:
        """(2, 3) float: its corners in voxel indices (i, j, k) of an image, lowest first, inside of it."""
        return self._in(volume, np.array([self.low, self.high]))

    def boxes_in(self, volume: Volume, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count, 2, 3) float: the box, and others as far from it as those of the labelled images are."""
        moved = np.array([self.low, self.high]) + rng.normal(size=(count, 2, 3)) * self.spread
        moved[0] = self.low, self.high
        return np.array([self._in(volume, corners) for corners in np.sort(moved, axis=1)])

    def _in(self, volume: Volume, corners: np.ndarray) -> np.ndarray:
        axes, flipped = _patient_axes(volume)
        shares = corners[:, axes]
        shares = np.where(flipped, 1 - shares, shares)
        first, last = content_box(volume)
        box = np.sort(first + shares * (last - first), axis=0)
        return np.clip(box, 0, np.array(volume.shape[:3]) - 1)

    def to_json(self) -> dict[str, Any]:
        """Plain values, of the place in one image."""
        return {"low": self.low.round(4).tolist(), "high": self.high.round(4).tolist()}


def places_of(image: Volume, labels: np.ndarray, names: Mapping[int, str]) -> dict[str, Place]:
    """Where the structures of a label map lie.

    Args:
        image: the volume.
        labels: (I, J, K) integer, on its grid.
        names: value -> name; values without one are passed over.
    """
    axes, flipped = _patient_axes(image)
    first, last = content_box(image)
    found = {}
    for value, box in find_labels(labels).items():
        if value in names:
            voxels = np.array([[part.start for part in box], [part.stop - 1 for part in box]])
            corners = (voxels - first) / np.maximum(last - first, 1)
            corners = np.sort(np.where(flipped, 1 - corners, corners), axis=0)
            along = np.zeros((2, 3))
            along[:, axes] = corners
            found[names[value]] = Place.mean([Place(along[0], along[1], np.zeros((2, 3)))])
    return found


def mean_places(images: Iterable[Mapping[str, Place]]) -> dict[str, Place]:
    """Where each structure lies on average over labelled images."""
    by_name: dict[str, list[Place]] = {}
    for places in images:
        for name, place in places.items():
            by_name.setdefault(name, []).append(place)
    return {name: Place.mean(places) for name, places in by_name.items()}


def content_box(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last voxel index (3,) of what an image shows: all that is not as dark as its rim."""
    array = volume.array if not volume.is_color else volume.array.max(axis=-1)
    low, high = np.percentile(array[::_STEP, ::_STEP, :: _STEP if volume.shape[2] > 1 else 1], (0.5, 99.5))
    shown = array > low + _SHOWN * (high - low)
    if not shown.any():
        return np.zeros(3), np.array(volume.shape, dtype=float) - 1
    along = [shown.any(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    first, last = np.array([np.flatnonzero(one)[[0, -1]] for one in along], dtype=float).T
    return first, last


def _patient_axes(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """For each of (i, j, k) the axis of R, A, S that it is nearest to, and whether it runs against it."""
    if not volume.placed:  # a picture lies nowhere in a patient
        return np.arange(3), np.zeros(3, bool)
    orientation = nibabel.orientations.io_orientation(volume.affine)
    return orientation[:, 0].astype(int), orientation[:, 1] < 0
