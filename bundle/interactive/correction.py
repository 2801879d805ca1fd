"""What a click changes on its slice, and what a neighbour takes over of that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from bundle.interactive.slice_model import SliceMask, SlicePrompt

AskSlice = Callable[[SlicePrompt], SliceMask]
"""Answers a prompt on one slice."""
_DEEP = 0.4  # of the way from the edge to the innermost pixel of an answer
_LEFT = 0.5  # of the pixels of an answer


def corrected(
    ask: AskSlice, prompt: SlicePrompt, before: SliceMask | None, *, fits: Callable[[SliceMask], bool], may_empty: bool
) -> SliceMask:
    """The answer on a slice after the last point of a prompt.

    Args:
        ask: answers a prompt on the slice.
        prompt: all points on the slice, the answer so far as a mask prompt, and the box around both.
        before: the answer so far; None where the object was not found on the slice.
        fits: whether an answer is of a size that the object may have.
        may_empty: whether a point off the object may take all of it off the slice.
    """
    wanted = bool(prompt.point_labels[-1])
    after = ask(prompt)
    point = pixel_of(prompt.points[-1], after.mask)
    if before is not None and before.mask[point] == wanted:  # right already: the surer answer counts
        return after if after.iou > before.iou else before
    if wanted:
        after = _or_piece(ask(SlicePrompt(prompt.points[-1:], prompt.point_labels[-1:])), after, before, point, fits)
    else:
        boxless = ask(replace(prompt, box=None))
        if may_empty and _denies(point, boxless, before):
            return replace(boxless, mask=np.zeros_like(before.mask))
        if after.mask[point]:
            after = boxless
    return _with_pixel(after, point, wanted)


def pixel_of(xy: np.ndarray, mask: np.ndarray) -> tuple[int, int]:
    """(row, column) of the pixel of a mask that a point (x, y) lies on."""
    column, row = np.clip(np.floor(np.asarray(xy) + 0.5).astype(int), 0, np.array(mask.shape[::-1]) - 1)
    return int(row), int(column)


def touching(changed: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(H, W) bool: the connected pieces of ``changed`` that meet ``where`` or a neighbour of it."""
    _, pieces = cv2.connectedComponents(changed.astype(np.uint8), connectivity=8)
    near = cv2.dilate(where.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return changed & np.isin(pieces, np.unique(pieces[near & changed]))


def taken_over(before: SliceMask, after: SliceMask, where: np.ndarray) -> SliceMask:
    """``before`` with ``after`` in some pixels, mask and logits; ``where`` is (H, W) bool."""
    mask = np.where(where, after.mask, before.mask)
    if np.array_equal(mask, after.mask) or after.placement is None or before.placement is None:
        return replace(after, mask=mask)
    logits, new, changed = _on_slice(before), _on_slice(after), torch.from_numpy(where)
    logits[..., changed] = new[..., changed]
    return replace(after, mask=mask, logits=after.placement.logits_to_square(logits, after.logits.shape[-1])[0, 0])


def _or_piece(
    piece: SliceMask,
    after: SliceMask,
    before: SliceMask | None,
    point: tuple[int, int],
    fits: Callable[[SliceMask], bool],
) -> SliceMask:
    """What the click shows by itself, beside the answer so far, where the network is surer of that than of both.

    A mask prompt on the wrong place would hold the answer there.
    """
    apart = before is None or not (piece.mask & before.mask).any()
    surer = piece.iou > after.iou or not after.mask[point]
    if not (piece.mask[point] and apart and surer and fits(piece)):
        return after
    return piece if before is None else taken_over(before, piece, piece.mask)


def _denies(point: tuple[int, int], boxless: SliceMask, before: SliceMask) -> bool:
    """Whether a click off the object says that there is nothing of it on the slice.

    It does where it lies well inside of the answer, not at its edge, and the network, when no box tells it that there
    is something, finds less than half of what was there.
    """
    padded = np.pad(before.mask, 1).astype(np.uint8)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    left = np.count_nonzero(boxless.mask) / np.count_nonzero(before.mask)
    return bool(left < _LEFT and depth[point] >= _DEEP * depth.max())


def _with_pixel(answer: SliceMask, point: tuple[int, int], wanted: bool) -> SliceMask:
    """The answer with what the user said of one pixel, where the network has overlooked it."""
    if answer.mask[point] == wanted:
        return answer
    answer = replace(answer, mask=answer.mask.copy())
    answer.mask[point] = wanted
    return answer


def _on_slice(answer: SliceMask) -> Tensor:
    """(1, 1, H, W) logits; its own memory."""
    return answer.placement.logits_to_slice(answer.logits[None, None]).clone()
