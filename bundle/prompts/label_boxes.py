"""Box prompts from label maps, as MONAI dictionary transforms: of one object on a slice, of all objects of a volume."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_numpy

from bundle.errors import CaseError, PromptError
from bundle.prompts.prompts import ObjectPrompts
from bundle.prompts.simulation import jitter_box, shift_box, tight_box

DIMENSIONS = (2, 3)


class SliceBoxd(MapTransform):
    """The box around one object of a slice's label map, as a hand may draw it.

    Args:
        keys: one key, of a label map (1, H, W) of integers, or a mask.
        object_key: where the data say the object's label value; without it every value above 0 is the object.
        box_key: where the box goes.
        shift: pixels by which every side moves outward (inward where negative), up to the edge of the slice.
        jitter: after that each side moves outward by its own uniform draw of up to so many pixels.
        pixels_of: ``shift`` and ``jitter`` are counted as if the longer side of the slice had so many pixels; None
            counts the slice's own.
        seed: with the data's ``draw_key`` it decides the draws, so that an object gets the same box every time.
        draw_key: where the data have a number of their own.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        object_key: str = "object",
        box_key: str = "box",
        shift: float = 0.0,
        jitter: float = 0.0,
        pixels_of: float | None = None,
        seed: int = 0,
        draw_key: str = "draw",
    ) -> None:
        super().__init__(keys)
        self.object_key, self.box_key, self.draw_key = object_key, box_key, draw_key
        self.shift, self.jitter, self.pixels_of, self.seed = shift, jitter, pixels_of, seed

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the box, (4,) float32 (x0, y0, x1, y1) in pixels of the slice, both corners inclusive.

        Raises:
            EmptyMaskError: the slice does not show the object.
            PromptError: the label map is no (1, H, W), or there is jitter and no number to draw it by.
        """
        (key,) = self.keys
        labels = convert_to_numpy(data[key])
        if labels.ndim != 3 or len(labels) != 1:
            raise PromptError(f"{key!r} must be the label map (1, H, W) of a slice, got the shape {labels.shape}")
        truth = labels[0] == data[self.object_key] if self.object_key in data else labels[0] > 0
        box = tight_box(truth)
        if self.shift:
            box = shift_box(box, self._pixels(self.shift, truth), truth.shape)
        if self.jitter:
            if self.draw_key not in data:
                raise PromptError(
                    f"jitter needs a number to draw by; add {self.draw_key!r} to the data, or take jitter 0"
                )
            rng = np.random.default_rng((self.seed, int(data[self.draw_key])))
            box = jitter_box(box, rng, max_pixels=self._pixels(self.jitter, truth), shape=truth.shape)
        return {**data, self.box_key: box}

    def _pixels(self, amount: float, truth: np.ndarray) -> float:
        return amount if self.pixels_of is None else amount * max(truth.shape) / self.pixels_of


class VolumeBoxesd(MapTransform):
    """Box prompts around the objects of a volume's label map: what ``InteractiveSession`` and a batch run are asked.

    Args:
        keys: one key, of a label map (1, I, J, K) of integers.
        dimension: 3, one box for each object; 2, one for each object and slice, one voxel thick.
        axis: array axis 0, 1 or 2 that slices are stacked along.
        shift: voxels by which the sides of a box move outward (inward where negative) within its slices; the range of
            slices stays.
        names_key: where the data have name -> value; without it every value above 0 is ``label_<value>``.
        prompts_key: where the prompts go.

    Raises:
        CaseError: on another dimension or axis.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        dimension: int = 3,
        axis: int = 2,
        shift: float = 0.0,
        names_key: str = "names",
        prompts_key: str = "prompts",
    ) -> None:
        super().__init__(keys)
        _check(dimension, axis)
        self.dimension, self.axis, self.shift = dimension, axis, shift
        self.names_key, self.prompts_key = names_key, prompts_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add a list of ``ObjectPrompts`` in voxel indices (i, j, k), without the objects that the label map lacks.

        Raises:
            PromptError: the label map is no (1, I, J, K).
        """
        (key,) = self.keys
        labels = convert_to_numpy(data[key])
        if labels.ndim != 4 or len(labels) != 1:
            raise PromptError(f"{key!r} must be the label map (1, I, J, K) of a volume, got the shape {labels.shape}")
        names = data[self.names_key] if self.names_key in data else names_of_values(labels)
        prompts = boxes_of_label(labels[0], names, dimension=self.dimension, axis=self.axis, shift=self.shift)
        return {**data, self.prompts_key: prompts}


def names_of_values(labels: np.ndarray) -> dict[str, int]:
    """``label_<value>`` -> value for every value above 0 of a label map of any shape."""
    return {f"label_{value}": int(value) for value in np.unique(labels) if value > 0}


def boxes_of_label(
    labels: np.ndarray, names: Mapping[str, int], *, dimension: int = 3, axis: int = 2, shift: float = 0.0
) -> list[ObjectPrompts]:
    """Box prompts around the objects of a label map; objects that it does not show get none.

    Args:
        labels: (I, J, K) integers.
        names: name -> value.
        dimension: 3, one box for each object; 2, one for each object and slice, one voxel thick.
        axis: stored axis that slices are stacked along.
        shift: voxels by which the sides of a box move outward (inward where negative) within its slices; the range of
            slices stays.

    Raises:
        CaseError: on another dimension or axis.
    """
    _check(dimension, axis)
    prompts = []
    for name, value in names.items():
        mask = labels == value
        around = tight_box(mask).reshape(2, 3).astype(int) if mask.any() else None
        if around is None:
            continue
        first, last = (int(index) for index in around[:, axis])
        ranges = [(first, last)] if dimension == 3 else [(k, k) for k in range(first, last + 1)]
        for low, high in ranges:
            part = mask[tuple(slice(low, high + 1) if other == axis else slice(None) for other in range(3))]
            if part.any():
                prompts.append(ObjectPrompts(box=_box(part, axis, low, high, shift), name=name, label=value))
    return prompts


def _box(part: np.ndarray, axis: int, low: int, high: int, shift: float) -> np.ndarray:
    """(2, 3) corners around a part of the volume that spans the slices `low` to `high`."""
    corners = shift_box(tight_box(part), shift, part.shape).reshape(2, 3)
    corners[:, axis] = low, high
    return corners


def _check(dimension: int, axis: int) -> None:
    if dimension not in DIMENSIONS or axis not in (0, 1, 2):
        raise CaseError(f"dimension must be 2 or 3 and axis 0, 1 or 2, got {dimension!r} and {axis!r}")
