"""Everything on a slice: points on a grid, each asked for what it lies on, and what several of them found once.

As segment-anything's automatic masks (Kirillov et al. 2023), with the contract and windows of the family: kept is what
the network itself expects to be right and what stays the same where its logits are cut a little higher or lower.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bundle.active.places import content_box
from bundle.interactive.answer_options import NO_OPTIONS, AnswerOptions
from bundle.interactive.proposals import Proposal
from bundle.interactive.segmentation import Timer
from bundle.interactive.slice_model import SliceMask
from bundle.interactive.volume_slices import VolumeSlices
from bundle.prompts.slice_prompts import SlicePrompt
from bundle.transforms.frames import SliceFrame, nearest_index

LEAST_IOU = 0.7  # predicted: below it the shipped model's answers are worse than it expects (docs/results.md)
LEAST_STABLE = 0.85  # IoU of the masks of logits above 1 and above -1
_OFFSET = 1.0
_SAME = 0.5  # IoU from which on two masks are one object
_LEAST_PIXELS = 16
_LARGEST = 0.6  # of the slice: more than that is the background


def everything(
    slices: VolumeSlices,
    frame: SliceFrame,
    index: int,
    *,
    side: int = 8,
    progress: Callable[[], object] = lambda: None,
) -> list[SliceMask]:
    """The objects that points on a grid find, surest first.

    Args:
        slices: a volume before a model.
        frame: of the slices.
        index: of the slice.
        side: points along each side of what the slice shows.
        progress: called before each point; what it raises ends it.
    """
    answers = []
    for point in grid_points(slices, frame, index, side):
        progress()
        column, row = np.clip(nearest_index(point, (frame.width, frame.height)), 0, (frame.width - 1, frame.height - 1))
        if any(answer.mask[row, column] for answer in answers):
            continue  # an object that was found already
        prompt = SlicePrompt(point[None], np.ones(1, int))
        answer = slices.ask(frame, index, prompt, Timer(), honoured=False)
        if _is_object(answer):
            answers.append(answer)
    kept: list[SliceMask] = []
    for answer in sorted(answers, key=lambda one: -one.iou):
        if all(_iou(answer.mask, other.mask) < _SAME for other in kept):
            kept.append(answer)
    return kept


def everything_proposed(
    slices: VolumeSlices,
    frame: SliceFrame,
    index: int,
    *,
    options: AnswerOptions = NO_OPTIONS,
    progress: Callable[[], object] = lambda: None,
) -> list[Proposal]:
    """The same for a session, which decides where they overlap; ``object 1`` is the surest.

    Args:
        slices, frame, index, progress: as of ``everything``.
        options: how the masks are cleaned; what that leaves nothing of is left out.
    """
    proposals, spacing = [], (1.0, *frame.pixel_spacing(slices.volume.spacing))
    for answer in everything(slices, frame, index, progress=progress):
        pixels = options.cleaned(answer.mask[None], spacing, np.zeros_like(answer.mask[None]))[0]
        if pixels.any():
            mask = np.zeros(frame.shape, bool, order="F")
            frame.insert(mask, index, pixels)
            name = f"object {len(proposals) + 1}"
            proposals.append(Proposal(name, mask, predicted_iou=float(np.clip(answer.iou, 0, 1))))
    return proposals


def grid_points(slices: VolumeSlices, frame: SliceFrame, index: int, side: int) -> np.ndarray:
    """(side ** 2, 2) pixels (x, y), evenly over what the slice shows."""
    first, last = content_box(slices.volume)
    shares = (np.arange(side) + 0.5) / side
    voxels = np.tile(first, (side * side, 1))
    rows, columns = np.meshgrid(shares, shares, indexing="ij")
    for axis, share in ((frame.row_axis, rows), (frame.col_axis, columns)):
        voxels[:, axis] = first[axis] + share.ravel() * (last[axis] - first[axis])
    voxels[:, frame.slice_axis] = index
    return frame.to_pixels(voxels)[0]


def _is_object(answer: SliceMask) -> bool:
    size = answer.mask.sum()
    if answer.iou < LEAST_IOU or size < _LEAST_PIXELS or size > _LARGEST * answer.mask.size:
        return False
    logits = answer.slice_logits()[0, 0].numpy()
    return _iou(logits > _OFFSET, logits > -_OFFSET) >= LEAST_STABLE


def _iou(mask: np.ndarray, other: np.ndarray) -> float:
    union = (mask | other).sum()
    return float((mask & other).sum() / union) if union else 1.0
