"""What a slice is asked on a walk through the volume, and how far the walk may go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from bundle.interactive.propagation import Ask, Picture, PropagationRule, largest_sides, propagate
from bundle.interactive.slice_model import SliceMask, SlicePrompt
from bundle.interactive.sliced import SlicedInteraction, bounded, limit_of, on_slice, reach_of
from bundle.interactive.thin_slices import EACH, Distances


@dataclass(frozen=True, eq=False)
class Followed:
    """An object as it was answered after some interactions.

    Attributes:
        answers: slice index -> answer; an empty one where an interaction took the object off its slice.
        origin: the slice that the walk through the volume began on.
        given: the interactions that were answered, in their order, the one that started the object first.
    """

    answers: dict[int, SliceMask]
    origin: int
    given: tuple[SlicedInteraction, ...]

    def shows(self, index: int) -> bool:
        """Whether the object was found on a slice."""
        return index in self.answers and bool(self.answers[index].mask.any())

    def stops(self, index: int) -> bool:
        """Whether a walk ends before this slice: the object was started there, or something was drawn there."""
        return index == self.origin or self.drawn_on(index)

    def drawn_on(self, index: int) -> bool:
        """Whether something was drawn on this slice itself: not a 3D box or a segmentation, which cover many."""
        return any(index in one.slices and not one.thick for one in self.given)

    def was_given(self, index: int) -> bool:
        """Whether a segmentation of several slices has this one, which then stays where its neighbours go."""
        return any(index in one.slices and one.thick and one.positive and one.kind == "mask" for one in self.given)


class Walk:
    """The slices of one object.

    Args:
        ask: answers a prompt on a slice as the network does.
        start: what the object is started by.
        depth: slices of the volume.
        rule: how a slice's answer travels.
        picture: gives the intensities of a slice.
        limits: first and last slice that the object may be followed to.
        distances: of slices and pixels, by which thin ones are passed over in a 3D box.
    """

    def __init__(
        self,
        ask: Ask,
        start: SlicedInteraction,
        *,
        depth: int,
        rule: PropagationRule,
        picture: Picture,
        limits: tuple[int, int] | None = None,
        distances: Distances = EACH,
    ) -> None:
        self._ask, self._start, self._rule, self._picture = ask, start, rule, picture
        self._distances = distances
        self._limits = limits or (0, depth - 1)

    @property
    def limits(self) -> tuple[int, int]:
        """First and last slice that the object may lie on."""
        return self._limits

    def _walked(
        self, seeds: dict[int, SliceMask], given: Sequence[SlicedInteraction], first: int, last: int
    ) -> dict[int, SliceMask]:
        # In a 3D box the user has said where the object ends. Elsewhere each slice is asked: of two that lie apart the
        # farther one may show a neighbour of the object that has ended in between. So it is where a part of some slices
        # was taken off: those beside them have it.
        cut = any(one.thick and not one.positive for one in given)
        picture = None if bounded(given) else self._picture
        distances = self._distances if bounded(given) and not cut else EACH
        options = {"limit": limit_of(given), "rule": self._rule, "picture": picture, "distances": distances}
        return propagate(seeds, partial(self._carry, given), first=first, last=last, **options)

    def _carry(self, given: Sequence[SlicedInteraction], index: int, prompt: SlicePrompt) -> SliceMask:
        """The answer on a slice that nothing was drawn on, without what a box or mask of several slices takes off."""
        off = on_slice((one for one in given if one.thick and not one.positive), index)
        answer = self._ask(index, prompt)
        return SlicePrompt(interactions=off).honoured(answer) if off else answer

    def _on_slice(self, index: int, given: Sequence[SlicedInteraction], before: SliceMask | None) -> SlicePrompt:
        """All that is known of a slice: what was drawn there, the answer so far, and the box around both."""
        box = next(iter(bounded(given)), None)
        seen = on_slice((one for one in given if one is not box), index)
        prompt = SlicePrompt(interactions=seen, previous=before)
        if seen[-1].positive and seen[-1].kind in ("box", "mask"):
            return prompt.after(None)
        if before is None:
            return prompt.with_box(box.box() if box is not None and index in box.slices else prompt.box)
        kept = before if "mask" in self._rule.propagated else None
        return prompt.with_box(prompt.around() if "box" in self._rule.propagated else None).after(kept)

    def reach(self, given: Sequence[SlicedInteraction]) -> tuple[int, int]:
        """First and last slice that the object may be on: those of a 3D box, and of what lies on the object beside it.

        A segmentation of several slices ends where it ends.
        """
        bounds = bounded(given) or (given if self._start.thick else ())
        if not bounds:
            return self._limits
        first, last = reach_of(bounds)
        return max(first, self._limits[0]), min(last, self._limits[1])

    def _largest(self, now: Followed) -> np.ndarray | None:
        """(2,) sides that the object may grow to; None where a 3D box says it."""
        if bounded(now.given):
            return None
        return largest_sides(now.answers[index] for index in now.answers if now.stops(index))
