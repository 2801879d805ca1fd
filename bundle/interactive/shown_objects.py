"""What a session shows of its objects: masks, label map, answers."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from bundle.errors import SessionError
from bundle.interactive.object_labels import label_map
from bundle.interactive.objects import SegmentedObject, existing, on_slice
from bundle.interactive.regions import Box, Region
from bundle.interactive.segmentation import Segmentation
from bundle.interactive.steps import History


class ShownObjects:
    """Objects with their masks as the steps of a history left them. Safe to use from many threads.

    Args:
        shape: (I, J, K) of the image.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._shape, self._history = shape, History(shape)
        self._lock = threading.RLock()

    @property
    def objects(self) -> tuple[SegmentedObject, ...]:
        """The objects in the order in which they began."""
        return self._history.objects

    def object(self, name: str) -> SegmentedObject:
        """The object of a name.

        Raises:
            SessionError: there is none.
        """
        return existing(self.objects, name)

    def mask(self, name: str, box: Box | Sequence[Sequence[int]] | None = None) -> np.ndarray:
        """(I, J, K) bool, all that an object takes; also where the label map shows another one.

        Args:
            name: of the object.
            box: (2, 3) int, half-open, for a part of the volume.
        """
        with self._lock:
            return self._history.mask(self.object(name).id).within(self._box(box))

    @property
    def labels(self) -> np.ndarray:
        """(I, J, K) unsigned, the label map of all objects by the overlap rule (``LabelMap``)."""
        return self.labels_in(None)

    def labels_in(self, box: Box | Sequence[Sequence[int]] | None) -> np.ndarray:
        """The label map of a box, (2, 3) int, half-open."""
        with self._lock:
            return label_map(self.objects, self._history.masks, self._box(box), self._shape)

    def region(self, name: str) -> Region:
        """All that an object takes of the volume."""
        with self._lock:
            return self._history.mask(self.object(name).id)

    def segmentation(self, name: str, *, axis: int = 2, index: int | None = None) -> Segmentation:
        """What the session shows of an object, without what other objects that are locked take.

        Args:
            name: of the object.
            axis: stored axis of its scores.
            index: of the one slice that is wanted; by default the whole volume.
        """
        with self._lock:
            one = self.object(name)
            region, scores = self._history.mask(one.id), one.predicted_iou.get(axis, {})
            if index is not None:
                region, scores = on_slice(region, axis, index), {i: iou for i, iou in scores.items() if i == index}
            mask = region.mask(self._shape)
            for other in self.objects:
                if other.locked and other.id != one.id and (box := self._history.mask(other.id).box) is not None:
                    mask[tuple(slice(*sides) for sides in box.T)] &= ~self._history.mask(other.id).voxels
            return Segmentation(mask, dict(sorted(scores.items())), axis)

    def _box(self, box: Box | Sequence[Sequence[int]] | None) -> Box:
        whole = np.array([(0, 0, 0), self._shape])
        if box is None:
            return whole
        box = np.asarray(box, dtype=int)
        if box.shape != (2, 3) or (box[0] < 0).any() or (box[1] > whole[1]).any() or (box[0] > box[1]).any():
            raise SessionError(f"a box must be two corners within {tuple(self._shape)} voxels, got {box.tolist()}")
        return box
