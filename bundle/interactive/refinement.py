"""An object that is known roughly, outlined by a model of slices."""

from __future__ import annotations

import numpy as np

from bundle.interactive.propagation import Ask
from bundle.interactive.slice_model import SliceMask, SlicePrompt
from bundle.prompts.simulation import tight_box
from bundle.transforms.frames import SliceFrame

_MARGIN = 0.06  # of a side of the box around the rough mask, at least a pixel


def refined(rough: np.ndarray, frame: SliceFrame, ask: Ask) -> dict[int, SliceMask]:
    """Each slice of a rough mask asked again, with the box around it, a little wider, and the mask as prompt.

    Args:
        rough: (I, J, K) bool.
        frame: of its slices.
        ask: answers a prompt on a slice.

    Returns:
        Slice index -> answer, for every slice that the rough mask is on.
    """
    stack = frame.stack(rough)
    return {int(index): ask(int(index), _prompt(stack[index])) for index in np.flatnonzero(stack.any(axis=(1, 2)))}


def _prompt(mask: np.ndarray) -> SlicePrompt:
    mask = np.ascontiguousarray(mask)
    low, high = np.split(tight_box(mask).astype(float), 2)
    grow = np.maximum(1.0, _MARGIN * (high - low + 1))
    last = np.array(mask.shape[::-1]) - 1
    box = np.concatenate([np.clip(low - grow, 0, last), np.clip(high + grow, 0, last)])
    return SlicePrompt(box=box, previous=SliceMask(mask))
