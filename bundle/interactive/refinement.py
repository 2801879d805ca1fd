"""An object that is known roughly, outlined by a model of slices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bundle.interactive.propagation import Ask
from bundle.interactive.slice_model import SliceMask, SlicePrompt
from bundle.prompts.simulation import tight_box

_MARGIN = 0.06  # of a side of the box around the rough mask, at least a pixel


def refined(rough: Mapping[int, SliceMask], ask: Ask) -> dict[int, SliceMask]:
    """Each slice of a rough answer asked again, with the box around it, a little wider, and its mask as prompt.

    Args:
        rough: slice index -> answer, none of them empty.
        ask: answers a prompt on a slice.
    """
    return {index: ask(index, SlicePrompt(box=_around(one.mask), previous=one)) for index, one in rough.items()}


def _around(mask: np.ndarray) -> np.ndarray:
    """(4,) the box around a mask, a little wider, on its slice."""
    low, high = np.split(tight_box(mask).astype(float), 2)
    grow = np.maximum(1.0, _MARGIN * (high - low + 1))
    last = np.array(mask.shape[::-1]) - 1
    return np.concatenate([np.clip(low - grow, 0, last), np.clip(high + grow, 0, last)])
