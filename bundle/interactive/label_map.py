"""Objects that may overlap, gathered into one label map: the one overlap rule of app, batch and demo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bundle.data.values import smallest_unsigned
from bundle.interactive.segmentation import Segmentation
from bundle.prompts.prompts import ObjectPrompts


class LabelMap:
    """Gathers objects that may overlap.

    A voxel of a locked object is never painted over. A voxel that was drawn on an object, by a click, scribble, lasso
    or mask, belongs to that object, the last one where several were drawn there. Any other voxel goes to the object of
    higher predicted IoU on its slice, between equal ones to the one that came first.

    Args:
        shape: (I, J, K).
        highest: the largest label that will be added.
        locked: (I, J, K) unsigned integers, objects that stay as they are; 0 elsewhere. None without any.
    """

    def __init__(self, shape: Sequence[int], highest: int, *, locked: np.ndarray | None = None) -> None:
        highest = max(highest, 0 if locked is None else int(locked.max(initial=0)))
        # In the order that files have: writing is several times as fast.
        self.labels = np.zeros(shape, smallest_unsigned(highest), order="F")
        self._best = np.zeros(shape, np.float32, order="F")
        self._contested = np.zeros(shape, bool, order="F")
        if locked is not None:
            self.labels[...] = locked
            self._best[locked != 0] = np.inf
        self._locked = None if locked is None else locked != 0

    def add(self, segmentation: Segmentation, label: int, prompts: ObjectPrompts | None = None) -> None:
        """Add an object, or a part of one.

        Args:
            segmentation: of the object.
            label: its value.
            prompts: what it was asked with, valid for the volume; what was drawn on the object stays with it.
        """
        for index, iou in segmentation.scores.items():
            at = tuple(index if axis == segmentation.axis else slice(None) for axis in range(3))
            mask, labels, best = segmentation.mask[at], self.labels[at], self._best[at]
            taken = labels != 0
            self._contested[at] |= mask & taken & (labels != label)
            won = mask & (~taken | (iou > best))
            labels[won], best[won] = label, iou
        if prompts is not None:
            self._keep_drawn(segmentation, label, prompts)

    def _keep_drawn(self, segmentation: Segmentation, label: int, prompts: ObjectPrompts) -> None:
        for interaction in prompts.interactions:
            if interaction.positive:
                drawn = tuple(interaction.named_voxels(self.labels.shape).T)
                free = segmentation.mask[drawn] & (True if self._locked is None else ~self._locked[drawn])
                kept = tuple(indices[free] for indices in drawn)
                self.labels[kept], self._best[kept] = label, np.inf

    @property
    def contested_voxels(self) -> int:
        """Voxels that more than one object claimed."""
        return int(self._contested.sum())
