"""An object that a network of volumes corrects: what of its answer is taken, and how it keeps up with every change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy  # its modules are imported when they are used

from bundle.interactive.candidates import is_coarse, predicted_iou
from bundle.interactive.cube_answers import CubesAnswer, bounds_of
from bundle.interactive.propagation import Ask
from bundle.interactive.refinement import refined
from bundle.interactive.slice_model import SliceMask
from bundle.interactive.sliced import SlicedInteraction, limit_of
from bundle.interactive.walk import Followed, Walk
from bundle.transforms.frames import SliceFrame, nearest_index


@dataclass(frozen=True, eq=False)
class SeenObject(Followed):
    """An object with what the network of volumes is told of it.

    Attributes:
        seen: the answer that a correction goes on from: the network's own logits where it was answered by it, otherwise
            the object as it is.
    """

    seen: CubesAnswer

    def sure(self) -> float:
        """The mean predicted IoU of its slices, weighted by their voxels."""
        return predicted_iou(self.answers)

    def with_answers(
        self, answers: Mapping[int, SliceMask], given: Sequence[SlicedInteraction], frame: SliceFrame
    ) -> SeenObject:
        """With other answers on its slices, which somebody else than the network of volumes gave."""
        others = [i for i in self.answers.keys() | answers.keys() if self.answers.get(i) is not answers.get(i)]
        now = SeenObject(dict(answers), self.origin, tuple(given), self.seen)
        if not others:
            return now
        changed, mask = (np.zeros(frame.shape, dtype=bool, order="F") for _ in range(2))
        nothing = SliceMask(np.zeros((frame.height, frame.width), dtype=bool))
        for index in others:
            before, after = self.answers.get(index, nothing), answers.get(index, nothing)
            frame.insert(changed, index, before.mask ^ after.mask)
            frame.insert(mask, index, after.mask)
        return replace(now, seen=self.seen.overwritten(changed, mask))


def changed_near(
    before: SeenObject, now: CubesAnswer, interaction: SlicedInteraction, frame: SliceFrame, walk: Walk
) -> tuple[SeenObject, np.ndarray] | None:
    """The object with those pieces of a change that an interaction lies in; None where the network ignored it.

    Slices that something else was drawn on stay as they are, and so does what lies under earlier points and scribbles,
    under what was drawn off the object, and beyond its limits. An interaction off the object adds nothing to it.

    Args:
        before: the object.
        now: the answer of the network of volumes with the interaction.
        interaction: the last one.
        frame: of the slices.
        walk: knows how far the object may go.

    Returns:
        The object, and (D, H, W) bool: the pieces.
    """
    stack, answer = stacked(before, frame), frame.stack(now.mask(frame.shape))
    differs = answer ^ frame.stack(before.seen.mask(frame.shape))
    differs &= _free(before, interaction, frame, walk)
    if not interaction.positive:  # what is taken off the object makes it nowhere larger
        differs &= stack
    under = np.zeros_like(differs)
    for index in interaction.slices:
        under[index] = interaction.covered(index, frame.height, frame.width)
    meant = under & (stack != interaction.positive) & (answer == interaction.positive)
    changed = _pieces(differs, meant)
    if changed is None:
        return None
    mask = np.where(changed, answer, stack)
    mask[under] = interaction.positive
    seen = now.changed_only(before.seen, voxels_of(changed, frame))
    seen = seen.overwritten(voxels_of(under, frame), voxels_of(under & mask, frame))
    answers = dict(before.answers)
    for index in np.flatnonzero((mask ^ stack).any(axis=(1, 2))).tolist():
        if mask[index].any() or index in interaction.slices:
            answers[index] = SliceMask(mask[index].copy(), iou=now.iou)
        else:
            answers.pop(index, None)
    return SeenObject(answers, before.origin, (*before.given, interaction), seen), changed


def outlined(
    found: SeenObject,
    changed: np.ndarray,
    ask: Ask,
    frame: SliceFrame,
    spacing: Sequence[float],
    propagated: Sequence[str],
) -> SeenObject:
    """The object with the model of slices' outlines in the pieces that changed, where those of the network are coarse.

    Args:
        found: the object.
        changed: (D, H, W) bool.
        ask: answers a prompt on a slice.
        frame: of the slices.
        spacing: (i, j, k) in mm.
        propagated: what the model of slices is asked with, see ``refined``.
    """
    if not is_coarse(found.seen.cubes[-1].cell / min(frame.pixel_spacing(spacing))):
        return found
    last = found.given[-1]
    rough = {i: found.answers[i] for i in np.flatnonzero(changed.any(axis=(1, 2))).tolist() if found.shows(i)}
    answers = dict(found.answers)
    for index, seen in refined(rough, ask, propagated=propagated).items():
        mask = np.where(changed[index], seen.mask, rough[index].mask)
        if index in last.slices:
            mask[last.covered(index, frame.height, frame.width)] = last.positive
        answers[index] = SliceMask(mask, iou=seen.iou)
    return replace(found, answers=answers)


def changed_there(
    before: SeenObject, followed: Followed, interaction: SlicedInteraction, frame: SliceFrame
) -> SeenObject:
    """The object as it was, but on the slices that an interaction lies on, which are as they were followed."""
    answers = {index: one for index, one in before.answers.items() if index not in interaction.slices}
    answers |= {index: one for index, one in followed.answers.items() if index in interaction.slices}
    return before.with_answers(answers, followed.given, frame)


def stacked(found: Followed, frame: SliceFrame) -> np.ndarray:
    """(D, H, W) bool of an object on its slices."""
    stack = np.zeros((frame.depth, frame.height, frame.width), dtype=bool)
    for index, answer in found.answers.items():
        stack[index] = answer.mask
    return stack


def voxels_of(stack: np.ndarray, frame: SliceFrame) -> np.ndarray:
    """(I, J, K) bool of what is stacked on slices (D, H, W)."""
    voxels = np.zeros(frame.shape, dtype=bool, order="F")
    for index in np.flatnonzero(stack.any(axis=(1, 2))).tolist():
        frame.insert(voxels, index, stack[index])
    return voxels


def _pieces(differs: np.ndarray, meant: np.ndarray) -> np.ndarray | None:
    """The connected pieces of (D, H, W) bool that hold a voxel of another; None of none."""
    part = bounds_of(differs)
    if part is None:
        return None
    pieces, _ = scipy.ndimage.label(differs[part], structure=np.ones((3, 3, 3)))
    touched = np.setdiff1d(pieces[meant[part]], [0])
    if not len(touched):
        return None
    found = np.zeros_like(differs)
    found[part] = np.isin(pieces, touched)
    return found


def _free(before: Followed, interaction: SlicedInteraction, frame: SliceFrame, walk: Walk) -> np.ndarray:
    """(D, H, W) bool: where an interaction may change an object."""
    given = (*before.given, interaction)
    first, last = walk.reach(given)
    free = np.zeros((frame.depth, frame.height, frame.width), dtype=bool)
    limit = limit_of(given)
    columns, rows = slice(None), slice(None)
    if limit is not None:
        x0, y0, x1, y1 = nearest_index(limit, (frame.width, frame.height) * 2)
        columns, rows = slice(x0, x1 + 1), slice(y0, y1 + 1)
    for index in range(first, last + 1):
        if index in interaction.slices or not before.drawn_on(index):
            free[index, rows, columns] = True
    for one in before.given:  # what holds where it lies; a box, a lasso or a mask of the object may be corrected
        if not one.positive or one.kind in ("point", "scribble"):
            for index in one.slices:
                free[index][one.covered(index, frame.height, frame.width)] = False
    for index in interaction.slices:
        free[index][interaction.covered(index, frame.height, frame.width)] = True
    return free
