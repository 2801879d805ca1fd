"""Objects that may overlap, gathered into one label map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bundle.data.volume import smallest_unsigned
from bundle.interactive.session import Segmentation


class LabelMap:
    """Gathers objects that may overlap: a voxel goes to the object of higher predicted IoU on its slice.

    Between equal ones the object that came first keeps it.

    Args:
        shape: (I, J, K).
        highest: the largest label that will be added.
    """

    def __init__(self, shape: Sequence[int], highest: int) -> None:
        self.labels = np.zeros(shape, smallest_unsigned(highest))
        self._best = np.zeros(shape, np.float32)
        self._contested = np.zeros(shape, bool)

    def add(self, segmentation: Segmentation, label: int) -> None:
        """Add an object, or a part of one."""
        for index, iou in segmentation.scores.items():
            at = tuple(index if axis == segmentation.axis else slice(None) for axis in range(3))
            mask, labels, best = segmentation.mask[at], self.labels[at], self._best[at]
            taken = labels != 0
            self._contested[at] |= mask & taken & (labels != label)
            won = mask & (~taken | (iou > best))
            labels[won], best[won] = label, iou

    @property
    def contested_voxels(self) -> int:
        """Voxels that more than one object claimed."""
        return int(self._contested.sum())
