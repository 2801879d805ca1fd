"""The answers to the start of an object through the volume, and which of them is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bundle.interactive.slice_model import SliceMask

FOLLOWING, NETWORK, REFINED, TOGETHER = "following", "3D", "3D refined", "together"
WAYS = (FOLLOWING, NETWORK, REFINED, TOGETHER)
# All were chosen on the objects that docs/results.md names under "Three ways through a volume".
_SURER = 0.01  # of the mean predicted IoU: less is no difference
KNOWN = 0.45  # IoU that the network of volumes expects of an answer at least
_DETAIL = 1.0  # pixels
_SAME = 0.2  # IoU of following with the network of volumes in a 3D box: both found the same object
_CUT = 0.25  # of its largest section, the object on a slice on which it does not end by itself
_SHARE, _SHARE_WHERE_CUT = 1 / 3, 1 / 2  # of the network of volumes in the mean of both
# Chosen on sixteen objects, see docs/results.md, "Corrections through a volume".
_SURE = 0.87  # IoU that is expected of an object's slices on average: it is outlined well
_LESS_SURE = 0.05  # the network of volumes may expect so much less than that


@dataclass(frozen=True, eq=False)
class Candidate:
    """An answer to the start of an object.

    Attributes:
        answers: slice index -> answer.
        seconds: that it took, of one that goes on from another as well what that took.
    """

    answers: Mapping[int, SliceMask]
    seconds: float

    def voxels(self, index: int) -> int:
        """Of the object on a slice."""
        return int(np.count_nonzero(self.answers[index].mask)) if index in self.answers else 0

    def size(self) -> int:
        """Voxels of the object."""
        return sum(map(self.voxels, self.answers))

    def overlap(self, other: Candidate) -> float:
        """IoU of both."""
        both = self.answers.keys() & other.answers.keys()
        shared = sum(int(np.count_nonzero(self.answers[i].mask & other.answers[i].mask)) for i in both)
        return shared / max(1, self.size() + other.size() - shared)


def predicted_iou(answers: Mapping[int, SliceMask]) -> float:
    """The mean of what the network estimates on the slices that it was asked on, weighted by the voxels of each.

    0 without any.
    """
    asked = [one for one in answers.values() if one.asked]
    weights = [int(np.count_nonzero(one.mask)) for one in asked]
    return float(np.average([one.iou for one in asked], weights=weights)) if any(weights) else 0.0


@dataclass(frozen=True)
class Evidence:
    """What is known of the answers without knowing the object.

    Attributes:
        agreement: IoU of following with the network of volumes.
        sure: mean predicted IoU of following, of the network of volumes, and of its answer refined.
        detail: side of a cell of the network of volumes, in pixels of a slice.
        outgrown: whether the object goes on beyond the cubes that were looked at, or needed several.
        boxed: whether a 3D box says how far the object reaches.
    """

    agreement: float
    sure: tuple[float, float, float]
    detail: float
    outgrown: bool
    boxed: bool = False


def chosen(evidence: Evidence) -> str:
    """The way whose answer is taken.

    The model of slices is the judge: it knows the outlines best, and it is asked on the slices of both. Where it is
    surer of what the network of volumes found than of what it followed itself, following went astray: it leaked into a
    neighbour of the same shade, or lost the object. That holds where the network of volumes believes in its answer,
    which it does not where it found another structure with clear outlines. The outlines are its own where it saw the
    object in as much detail as its pixels have; otherwise those of the model of slices.

    A 3D box says how far the object reaches. Of two different objects in it, that which was followed from end to end is
    the one that was meant. But nothing except the box ends what is followed, so that it is too large on the last
    slices, and the network of volumes ends it too early: where both found the same object, both count.
    """
    followed, network, outlined = evidence.sure
    if network < KNOWN or (evidence.boxed and evidence.agreement < _SAME):
        return FOLLOWING
    if outlined > followed + _SURER:
        return REFINED if is_coarse(evidence.detail) else NETWORK
    return TOGETHER if evidence.boxed else FOLLOWING


def share_of_network(followed: Mapping[int, SliceMask], ends: tuple[int, int], limits: tuple[int, int]) -> float:
    """How much the network of volumes counts beside what was followed in a 3D box.

    Args:
        followed: slice index -> answer.
        ends: first and last slice of the box.
        limits: first and last slice that the object may lie on, those of the volume or what the user said.

    It counts as much where the box cuts off on both of its ends what was followed: an object that fits its box does not
    end like that. At a limit it is not the box that cuts it.
    """
    sizes = {index: int(np.count_nonzero(one.mask)) for index, one in followed.items()}
    least = _CUT * max(sizes.values(), default=0)
    cut = all(limits[0] < end < limits[1] and sizes.get(end, 0) > least for end in ends)
    return _SHARE_WHERE_CUT if cut else _SHARE


def together(
    followed: Mapping[int, SliceMask], network: Mapping[int, np.ndarray], share: float
) -> dict[int, SliceMask]:
    """What was followed, with the outlines of the mean of both probabilities.

    Args:
        followed: slice index -> answer.
        network: slice index -> (H, W) probability by the network of volumes; nothing on a slice that is not there.
        share: of the network of volumes in the mean, at most one half, so that no slice is added.
    """
    found = {}
    for index, one in followed.items():
        both = (1 - share) * one.probability() + share * network.get(index, 0.0)
        if (mask := both > 0.5).any():
            found[index] = one.with_mask(mask)
    return found


def is_coarse(detail: float) -> bool:
    """Whether the network of volumes sees less than the pixels show: the outlines are then those of the slices.

    Args:
        detail: side of a cell, in pixels of a slice.
    """
    return detail > _DETAIL


def corrects(network: float, sure: float) -> bool:
    """Whether the network of volumes answers a correction; otherwise it is followed.

    Args:
        network: IoU that it expects of its answer.
        sure: mean predicted IoU of the object as it is, see ``predicted_iou``.

    It does where it is about as sure as the object is already, and, if it believes in its answer, wherever the object
    is not outlined well: what is good but for one place has nothing to gain from being seen anew. Of an object that is
    empty by now nobody is sure: there it has to believe in its answer.
    """
    if network < KNOWN:
        return 0 < sure <= network + _LESS_SURE
    return sure < _SURE or network >= sure - _LESS_SURE
