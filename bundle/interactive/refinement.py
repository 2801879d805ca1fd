"""An object that is known roughly, outlined by a model of slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bundle.interactive.propagation import Ask
from bundle.interactive.slice_model import SliceMask, SlicePrompt
from bundle.networks.interface import PROPAGATED
from bundle.prompts.simulation import tight_box

_MARGIN = 0.06  # of a side of the box around the rough mask, at least a pixel


def refined(
    rough: Mapping[int, SliceMask], ask: Ask, *, propagated: Sequence[str] = PROPAGATED
) -> dict[int, SliceMask]:
    """Each slice of a rough answer asked again, with the box around it, a little wider, and its mask as prompt.

    Args:
        rough: slice index -> answer, none of them empty.
        ask: answers a prompt on a slice.
        propagated: of box and mask those that the network is asked with, see ``ModelSpec``.
    """
    return {index: ask(index, _prompt(one, propagated)) for index, one in rough.items()}


def _prompt(one: SliceMask, propagated: Sequence[str]) -> SlicePrompt:
    box = _around(one.mask) if "box" in propagated else None
    return SlicePrompt(box=box, previous=one if "mask" in propagated else None)


def _around(mask: np.ndarray) -> np.ndarray:
    """(4,) the box around a mask, a little wider, on its slice."""
    low, high = np.split(tight_box(mask).astype(float), 2)
    grow = np.maximum(1.0, _MARGIN * (high - low + 1))
    last = np.array(mask.shape[::-1]) - 1
    return np.concatenate([np.clip(low - grow, 0, last), np.clip(high + grow, 0, last)])
