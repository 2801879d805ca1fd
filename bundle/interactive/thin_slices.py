"""Slices so thin that not each of them is asked: how far the next one lies that is, and what the ones between show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bundle.interactive.fill import fill_between
from bundle.interactive.slice_model import SliceMask
from bundle.prompts.simulation import tight_box

_SHARE = 1 / 8  # of an object's diameter on its slice


@dataclass(frozen=True)
class Distances:
    """Of slices and pixels, in mm.

    Attributes:
        slices: from one slice to the next.
        pixels: (dy, dx) on a slice.
        farthest: from a slice to the next one that is asked, see ``PropagationRule.farthest_mm``.
    """

    slices: float
    pixels: tuple[float, float]
    farthest: float

    def stride(self, mask: np.ndarray) -> int:
        """How many slices on the next one lies that has to be asked, from one that shows an object as (H, W) bool.

        A large object changes little within a few millimetres: what it shows there follows from its shape on both
        sides. Where slices are thicker, or the object is small, each one is asked.
        """
        diameter = 2 * math.sqrt(np.count_nonzero(mask) * math.prod(self.pixels) / math.pi)
        return max(1, math.floor(min(self.farthest, _SHARE * diameter) / self.slices + 1e-6))

    def between(self, low: tuple[int, SliceMask], high: tuple[int, SliceMask]) -> dict[int, SliceMask] | None:
        """What the slices between two answers show, see ``fill.fill_between``.

        Args:
            low, high: index and answer of a slice, the lower and the higher one.

        Returns:
            Slice index -> answer, none of them empty, with the lower predicted IoU of both and the mean of their
            logits; None where the two do not show one shape, so that the slices between have to be asked.
        """
        (first, below), (last, above) = low, high
        if last - first < 2:
            return {}
        if not (below.mask.any() and above.mask.any()):
            return None
        part = _around(below.mask | above.mask)
        found = fill_between({first: below.mask[part], last: above.mask[part]}, pixel_spacing=self.pixels)
        if not all(mask.any() for mask in found.values()):
            return None
        return {index: _mean(below, above, (index - first) / (last - first), found[index], part) for index in found}


def strides(masks: Sequence[np.ndarray], distances: Distances) -> list[int]:
    """The places, in a row of neighbouring slices with these masks, that are asked: the first, the last, some between.

    Args:
        masks: (H, W) bool each.
        distances: of the slices and their pixels.
    """
    places = [0]
    while places[-1] < len(masks) - 1:
        places.append(min(places[-1] + distances.stride(masks[places[-1]]), len(masks) - 1))
    return places


def _around(mask: np.ndarray) -> tuple[slice, slice]:
    """The part of a slice around a mask with a pixel to spare, outside of which nothing is near."""
    x0, y0, x1, y1 = tight_box(mask).astype(int)
    return slice(max(y0 - 1, 0), y1 + 2), slice(max(x0 - 1, 0), x1 + 2)


def _mean(below: SliceMask, above: SliceMask, weight: float, shape: np.ndarray, part: tuple[slice, slice]) -> SliceMask:
    """The answer between two, ``weight`` being that of the higher one and ``shape`` its mask on a part of the slice."""
    mask = np.zeros_like(below.mask)
    mask[part] = shape
    found = replace(below, mask=mask, logits=None, iou=min(below.iou, above.iou), encoded=0, encode_seconds=0.0)
    if below.logits is None or below.placement is None:
        return found
    logits = (1 - weight) * below.slice_logits() + weight * above.slice_logits()
    return replace(found, logits=below.placement.logits_to_square(logits, below.logits.shape[-1])[0, 0])
