"""What a click changes on its slice, and how much of that a neighbour takes over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from torch import Tensor

from bundle.inference.predictor import SliceMask, SlicePrompt

AskSlice = Callable[[SlicePrompt], SliceMask]
"""Answers a prompt on one slice."""
_EMPTIED = 0.5  # of the answer: what is left when a click takes the object off its slice


def corrected(ask: AskSlice, prompt: SlicePrompt, before: SliceMask, *, may_empty: bool) -> SliceMask:
    """The answer on a slice after the last point of a prompt.

    Only what hangs together with the click changes; the rest of the answer stays as it was. A point on what was right
    already changes the answer where the network is surer with it than without.

    Args:
        ask: answers a prompt on the slice.
        prompt: all points on the slice, the answer so far as a mask prompt, and the box around both.
        before: the answer so far.
        may_empty: a point off the object may take all of it off the slice. That it does so is seen in what the network
            finds when no box tells it that there is something: less than half of what was there.
    """
    point, wanted = pixel_of(prompt.points[-1], before.mask), bool(prompt.point_labels[-1])
    after = ask(prompt)
    if before.mask[point] == wanted:
        return after if after.iou > before.iou else before
    boxless = None
    if after.mask[point] != wanted or (may_empty and not wanted):
        boxless = ask(replace(prompt, box=None))
    if may_empty and not wanted and np.count_nonzero(boxless.mask) < _EMPTIED * np.count_nonzero(before.mask):
        return replace(boxless, mask=np.zeros_like(before.mask))
    if after.mask[point] != wanted:
        after = boxless
    after = _with_pixel(after, point, wanted)
    around = np.zeros_like(before.mask)
    around[point] = True
    return taken_over(before, after, touching(before.mask ^ after.mask, around))


def found(ask: AskSlice, prompt: SlicePrompt) -> SliceMask:
    """The answer on a slice where the object was not found before the last point of a prompt, which lies on it."""
    after = ask(prompt)
    point = pixel_of(prompt.points[-1], after.mask)
    if not after.mask[point] and (prompt.previous is not None or prompt.box is not None):
        after = ask(SlicePrompt(prompt.points, prompt.point_labels))
    return _with_pixel(after, point, True)


def pixel_of(xy: np.ndarray, mask: np.ndarray) -> tuple[int, int]:
    """(row, column) of the pixel of a mask that a point (x, y) lies on."""
    column, row = np.clip(np.round(xy).astype(int), 0, np.array(mask.shape[::-1]) - 1)
    return int(row), int(column)


def touching(changed: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(H, W) bool: the connected pieces of ``changed`` that meet ``where`` or a neighbour of it."""
    _, pieces = cv2.connectedComponents(changed.astype(np.uint8), connectivity=8)
    near = cv2.dilate(where.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    met = np.unique(pieces[near & changed])
    return np.isin(pieces, met) & changed


def taken_over(before: SliceMask, after: SliceMask, where: np.ndarray) -> SliceMask:
    """``before`` with ``after`` in some pixels, mask and logits; ``where`` is (H, W) bool."""
    mask = np.where(where, after.mask, before.mask)
    if np.array_equal(mask, after.mask) or after.placement is None or before.placement is None:
        return replace(after, mask=mask)
    logits = _on_slice(before)
    logits[..., where] = _on_slice(after)[..., where]
    return replace(after, mask=mask, logits=after.placement.logits_to_square(logits, after.logits.shape[-1])[0, 0])


def _with_pixel(answer: SliceMask, point: tuple[int, int], wanted: bool) -> SliceMask:
    """The answer with what the user said of one pixel: the network may have overlooked it, the user is right."""
    if answer.mask[point] == wanted:
        return answer
    answer = replace(answer, mask=answer.mask.copy())
    answer.mask[point] = wanted
    return answer


def _on_slice(answer: SliceMask) -> Tensor:
    """(1, 1, H, W) logits."""
    return answer.placement.logits_to_slice(answer.logits[None, None]).clone()
