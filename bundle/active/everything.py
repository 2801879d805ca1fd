"""Everything on a slice: points on a grid, each asked for what it lies on, and what several of them found once.

As segment-anything's automatic masks (Kirillov et al. 2023), with the contract and windows of the family: kept is what
the network itself expects to be right and what stays the same where its logits are cut a little higher or lower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

import numpy as np

from bundle.active.places import content_box
from bundle.interactive.answer_options import NO_OPTIONS, AnswerOptions
from bundle.interactive.objects import SegmentedObject
from bundle.interactive.proposals import Proposal
from bundle.interactive.segmentation import Timer
from bundle.interactive.session import InteractiveSession
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
_NAME = "object "  # and a number


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
    session: InteractiveSession,
    index: int,
    *,
    axis: int = 2,
    options: AnswerOptions = NO_OPTIONS,
    anew: bool = False,
    progress: Callable[[], object] = lambda: None,
) -> list[Proposal]:
    """The same for a session, which decides where they overlap; changes nothing.

    Each has a name that no object has, ``object 1`` and so on, surest first. What the session has already is left out;
    only what was found on this slice before, and nobody has worked on since, is proposed anew under its name.

    Args:
        session: of the image.
        index, progress: as of ``everything``.
        axis: stored axis of the slice.
        options: how the masks are cleaned; what that leaves nothing of is left out.
        anew: whether earlier proposals that nobody touched will go, as with ``replace`` of ``propose``.
    """
    frame, proposals = session.frame(axis), []
    objects = [one for one in session.objects if not (anew and one.proposed)]
    there, taken = _Slice(session, objects, axis, index), {one.name for one in objects}
    spacing = (1.0, *frame.pixel_spacing(session.volume.spacing))
    names = (name for number in count(1) if (name := f"{_NAME}{number}") not in taken)
    for answer in everything(session.slices, frame, index, progress=progress):
        pixels = options.cleaned(answer.mask[None], spacing, np.zeros_like(answer.mask[None]))[0]
        if not pixels.any():
            continue
        mask = np.zeros(frame.shape, bool, order="F")
        frame.insert(mask, index, pixels)
        name = there.name_before(mask) or (None if there.has(mask) else next(names))
        if name is not None:
            proposals.append(Proposal(name, mask, predicted_iou=float(np.clip(answer.iou, 0, 1)), axis=axis))
    return proposals


class _Slice:
    """What objects of a session are on a slice."""

    def __init__(self, session: InteractiveSession, objects: Sequence[SegmentedObject], axis: int, index: int) -> None:
        low, high = np.zeros(3, int), np.array(session.volume.shape[:3])
        low[axis], high[axis] = index, index + 1
        self._part = tuple(map(slice, low, high))
        self._before: dict[str, np.ndarray] = {}  # found here by everything mode; nobody has worked on it
        self._others: list[np.ndarray] = []
        self._locked = np.zeros(high - low, bool)
        for one in objects:
            mask = session.mask(one.name, (low, high))
            if not mask.any():
                continue
            if one.proposed and one.name.startswith(_NAME) and np.ptp(session.region(one.name).box[:, axis]) == 1:
                self._before[one.name] = mask
            else:
                self._others.append(mask)
            if one.locked:
                self._locked |= mask

    def name_before(self, mask: np.ndarray) -> str | None:
        """The name under which the object of a mask (I, J, K) was found before; each is given once."""
        here = mask[self._part]
        name = next((name for name, before in self._before.items() if _iou(before, here) >= _SAME), None)
        self._before.pop(name, None)
        return name

    def has(self, mask: np.ndarray) -> bool:
        """Whether it is one of the other objects, or lies under those that are locked."""
        here = mask[self._part]
        return (here & self._locked).sum() >= _SAME * here.sum() or any(_iou(o, here) >= _SAME for o in self._others)


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
