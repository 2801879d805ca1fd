"""Slices so thin that not each of them is asked: how far the next one lies that is, and what the ones between show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import itemgetter

import cv2
import numpy as np

from bundle.interactive.fill import fill_between
from bundle.interactive.slice_model import SliceMask
from bundle.prompts.simulation import tight_box

# Chosen by looking at the objects of docs/results.md, "Thin slices".
_SHARE = 1 / 12  # of an object's diameter on its slice
_EDGE = 2  # pixels that an outline may move by, from a slice to the next
_THIN_MM = 4.0  # that parts have to be wide: twice as far as the next slice that is asked


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
        sides. Where slices are thicker, the object is small or has thin parts, which may go aslant, each one is asked.
        """
        if self.farthest < 2 * self.slices or self._has_thin_parts(mask):
            return 1
        diameter = 2 * math.sqrt(np.count_nonzero(mask) * math.prod(self.pixels) / math.pi)
        return max(1, math.floor(min(self.farthest, _SHARE * diameter) / self.slices + 1e-6))

    def between(self, *ends: tuple[int, SliceMask]) -> dict[int, SliceMask] | None:
        """What the slices between two answers show, see ``fill.fill_between``.

        They do not show one shape where from a slice to the next something would come or disappear that is not at the
        edge, as a branch that ends, or where the other one has thin parts.

        Args:
            ends: index and answer of both slices.

        Returns:
            Slice index -> answer, with the lower predicted IoU of both and the mean of their logits; None where the
            two do not show one shape, so that the slices between have to be asked.
        """
        (first, below), (last, above) = sorted(ends, key=itemgetter(0))
        if last - first < 2:
            return {}
        if not (below.mask.any() and above.mask.any()):
            return None
        if self._has_thin_parts(below.mask) or self._has_thin_parts(above.mask):
            return None
        part = _around(below.mask | above.mask)
        found = fill_between({first: below.mask[part], last: above.mask[part]}, pixel_spacing=self.pixels)
        row = [below.mask[part], *(found[index] for index in sorted(found)), above.mask[part]]
        if not all(differ_at_edges(one, other, _EDGE) for one, other in pairwise(row)):
            return None
        return {index: _mean(below, above, (index - first) / (last - first), found[index], part) for index in found}

    def _has_thin_parts(self, mask: np.ndarray) -> bool:
        """Whether parts of a (H, W) mask that reach beyond its edge are thinner than ``_THIN_MM``, or than 3 pixels."""
        if not mask.any():
            return False
        mask = mask[_around(mask)]
        height, width = (1 + 2 * math.ceil(_THIN_MM / side / 2) for side in self.pixels)
        # Beyond the slice there is nothing of it: a strip along its edge is as thin as it is.
        beyond = {"borderType": cv2.BORDER_CONSTANT, "borderValue": 0}
        wide = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((height, width), np.uint8), **beyond)
        return not differ_at_edges(mask, wide > 0, _EDGE)


EACH = Distances(1.0, (1.0, 1.0), farthest=0.0)
"""By which each slice is asked."""


def differ_at_edges(one: np.ndarray, other: np.ndarray, pixels: int) -> bool:
    """Whether no pixel of either (H, W) mask lies farther than so many pixels from the other mask."""
    near = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    first, second = one.astype(np.uint8), other.astype(np.uint8)
    return not ((first > cv2.dilate(second, near)).any() or (second > cv2.dilate(first, near)).any())


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
    found = SliceMask(mask, iou=min(below.iou, above.iou), asked=False)
    if below.logits is None or above.logits is None or below.placement is None:
        return found
    logits = (1 - weight) * below.slice_logits() + weight * above.slice_logits()
    found = replace(found, placement=below.placement)
    return replace(found, logits=below.placement.logits_to_square(logits, below.logits.shape[-1])[0, 0])
