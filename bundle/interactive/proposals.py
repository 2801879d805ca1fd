"""Objects that something found by itself, on their way into a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bundle.errors import SessionError
from bundle.interactive.regions import Region


@dataclass(frozen=True, eq=False)
class Proposal:
    """An object that was not prompted: from everything mode, a semantic head or a class prompt.

    Attributes:
        name: of the object.
        mask: (A, B, C), nonzero on the object.
        low: (3,) voxel index (i, j, k) where the mask begins; by default it covers the image.
        predicted_iou: the model's own estimate, one for all slices or slice index -> estimate; None where it has none.
        axis: stored axis of these slices.
        label: value of the object in the label map; by default the next one.
    """

    name: str
    mask: np.ndarray
    low: Sequence[int] = (0, 0, 0)
    predicted_iou: float | Mapping[int, float] | None = None
    axis: int = 2
    label: int | None = None

    def region(self, shape: Sequence[int]) -> Region:
        """Its voxels in a volume of (I, J, K) voxels.

        Raises:
            SessionError: it does not lie in the volume.
        """
        mask, low = np.asarray(self.mask) != 0, np.asarray(self.low)
        inside = mask.ndim == 3 and low.shape == (3,) and (low >= 0).all() and (low + mask.shape <= shape).all()
        if not inside or self.axis not in (0, 1, 2):
            raise SessionError(
                f"the proposal {self.name!r} must be (A, B, C) voxels within {tuple(shape)} and its axis 0, 1 or 2, "
                f"got {mask.shape} at {np.ravel(low).tolist()} and axis {self.axis!r}"
            )
        return Region.of(mask, low)

    def scores(self, region: Region) -> dict[int, float | None]:
        """Slice index -> predicted IoU, of every slice that a region lies on."""
        if region.is_empty:
            return {}
        used = region.voxels.any(axis=tuple(other for other in range(3) if other != self.axis))
        slices = (np.flatnonzero(used) + region.low[self.axis]).tolist()
        said = self.predicted_iou
        return {index: said.get(index) if isinstance(said, Mapping) else said for index in slices}


def proposals_of(
    labels: np.ndarray,
    names: Mapping[str, int],
    *,
    predicted_iou: Mapping[str, float | Mapping[int, float]] | None = None,
    axis: int = 2,
) -> list[Proposal]:
    """The objects of a label map, as a semantic head gives them; those that it does not show are left out.

    Args:
        labels: (I, J, K) integers.
        names: name -> value.
        predicted_iou: name -> estimate, see ``Proposal``.
        axis: stored axis of the slices of these estimates.
    """
    said, found = predicted_iou or {}, []
    for name, value in names.items():
        region = Region.of(labels == value)
        if not region.is_empty:
            found.append(Proposal(name, region.voxels, tuple(region.low.tolist()), said.get(name), axis))
    return found
