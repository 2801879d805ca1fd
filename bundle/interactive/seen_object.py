"""An object that a network of volumes corrects: what of its answer is taken, and how it keeps up with every change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy  # its modules are imported when they are used

from bundle.interactive.candidates import is_coarse, predicted_iou
from bundle.interactive.cube_answers import CubesAnswer
from bundle.interactive.parts import PartSlices, around, bounds_of
from bundle.interactive.propagation import Ask
from bundle.interactive.refinement import refined
from bundle.interactive.slice_model import SliceMask
from bundle.interactive.sliced import SlicedInteraction, limit_of
from bundle.interactive.thin_slices import Distances
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
        now = SeenObject(dict(answers), self.origin, tuple(given), self.seen)
        nothing = SliceMask(np.zeros((frame.height, frame.width), dtype=bool))
        changed, mask = {}, {}
        for index in self.answers.keys() | answers.keys():
            before, after = self.answers.get(index, nothing), answers.get(index, nothing)
            if before is not after:
                changed[index], mask[index] = before.mask ^ after.mask, after.mask
        here = PartSlices.holding(frame, changed)
        if here is None:
            return now
        seen = self.seen.overwritten(here.voxels(here.cut(changed)), here.voxels(here.cut(mask)), here.part)
        return replace(now, seen=seen)


def changed_near(
    before: SeenObject, now: CubesAnswer, interaction: SlicedInteraction, frame: SliceFrame, walk: Walk
) -> tuple[SeenObject, np.ndarray, PartSlices] | None:
    """The object with those pieces of a change that an interaction lies in; None where the network ignored it.

    Slices that something else was drawn on stay as they are, and so does what lies under earlier points and scribbles,
    under what was drawn off the object, and beyond its limits. An interaction off the object adds nothing to it.

    All of it is decided on the part of the volume that the change and the interaction lie in: beside it nothing is
    other than it was.

    Args:
        before: the object.
        now: the answer of the network of volumes with the interaction.
        interaction: the last one.
        frame: of the slices.
        walk: knows how far the object may go.

    Returns:
        The object, (d, h, w) bool: the pieces, and the part of the volume that they lie in.
    """
    differing = now.differing(before.seen)
    if differing is None:
        return None
    covered = {index: interaction.covered(index, frame.height, frame.width) for index in interaction.slices}
    drawn = PartSlices.holding(frame, covered)
    here = PartSlices(frame, differing if drawn is None else around([differing, drawn.part]))
    stack, under = here.cut({index: one.mask for index, one in before.answers.items()}), here.cut(covered)
    answer = here.stack(now.mask_on(here.part))
    differs = answer ^ here.stack(before.seen.mask_on(here.part))
    differs &= _free(before, interaction, here, walk)
    if not interaction.positive:  # what is taken off the object makes it nowhere larger
        differs &= stack
    meant = under & (stack != interaction.positive) & (answer == interaction.positive)
    changed = _pieces(differs, meant)
    if changed is None:
        return None
    mask = np.where(changed, answer, stack)
    mask[under] = interaction.positive
    seen = now.changed_only(before.seen, here.voxels(changed), here.part)
    seen = seen.overwritten(here.voxels(under), here.voxels(under & mask), here.part)
    answers = dict(before.answers)
    for index, moved in here.pictures(mask ^ stack).items():
        shown = before.answers[index].mask ^ moved if index in before.answers else moved
        if shown.any() or index in interaction.slices:
            answers[index] = SliceMask(shown, iou=now.iou)
        else:
            answers.pop(index, None)
    return SeenObject(answers, before.origin, (*before.given, interaction), seen), changed, here


def outlined(
    found: SeenObject,
    changed: np.ndarray,
    here: PartSlices,
    ask: Ask,
    distances: Distances,
    propagated: Sequence[str],
) -> SeenObject:
    """The object with the model of slices' outlines in the pieces that changed, where those of the network are coarse.

    Args:
        found: the object.
        changed: (d, h, w) bool.
        here: the part of the volume that it lies in.
        ask: answers a prompt on a slice.
        distances: of the slices and their pixels.
        propagated: what the model of slices is asked with, see ``refined``.
    """
    frame = here.frame
    if not is_coarse(found.seen.cubes[-1].cell / min(distances.pixels)):
        return found
    last, pieces = found.given[-1], here.pictures(changed)
    rough = {index: found.answers[index] for index in pieces if found.shows(index)}
    answers = dict(found.answers)
    for index, seen in refined(rough, ask, propagated=propagated, distances=distances, asked=last.slices).items():
        mask = np.where(pieces[index], seen.mask, rough[index].mask)
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


def _pieces(differs: np.ndarray, meant: np.ndarray) -> np.ndarray | None:
    """The connected pieces of (d, h, w) bool that hold a voxel of another; None of none."""
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


def within_limit(given: Sequence[SlicedInteraction], frame: SliceFrame) -> np.ndarray:
    """(H, W) bool: the pixels that 3D boxes among interactions leave an object."""
    inside = np.ones((frame.height, frame.width), dtype=bool)
    if (limit := limit_of(given)) is not None:
        x0, y0, x1, y1 = nearest_index(limit, (frame.width, frame.height) * 2)
        inside = np.zeros_like(inside)
        inside[y0 : y1 + 1, x0 : x1 + 1] = True
    return inside


def _free(before: Followed, interaction: SlicedInteraction, here: PartSlices, walk: Walk) -> np.ndarray:
    """(d, h, w) bool: where in a part of the volume an interaction may change an object."""
    given, frame = (*before.given, interaction), here.frame
    first, last = walk.reach(given)
    inside = within_limit(given, frame)
    free = here.cut(
        {
            index: inside
            for index in here.indices
            if first <= index <= last and (index in interaction.slices or not before.drawn_on(index))
        }
    )
    for one in before.given:  # what holds where it lies; a box, a lasso or a mask of the object may be corrected
        if not one.positive or one.kind in ("point", "scribble"):
            _set(free, one, here, value=False)
    _set(free, interaction, here, value=True)
    return free


def _set(free: np.ndarray, one: SlicedInteraction, here: PartSlices, *, value: bool) -> None:
    """Set what lies under an interaction on a part, (d, h, w) bool."""
    for place, index in enumerate(here.indices):
        if index in one.slices:
            free[place][one.covered(index, here.frame.height, here.frame.width)[here.pixels]] = value
