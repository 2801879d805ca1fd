"""An object that is followed through a volume: where the walk starts, and what each further interaction changes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from bundle.interactive.correction import corrected, taken_over, touching
from bundle.interactive.propagation import PropagationRule, largest_sides, within
from bundle.interactive.slice_model import SliceMask, SlicePrompt
from bundle.interactive.sliced import SlicedInteraction, limit_of, on_slice
from bundle.interactive.walk import Followed, Walk
from bundle.prompts.simulation import tight_box

_LOOKS = 5  # slices of a 3D box's middle half that are asked for the start
_WALKS = 2  # of them that the object is followed from at most
_FILLED = 0.8  # of a 3D box, by the box around what was found in it: it is the object that was meant


class Follower(Walk):
    """Follows one object through a volume, and corrects what was found.

    An interaction corrects the slices that it lies on, and their neighbours as far as the correction changes something
    there. Slices that the object was started on or that something was drawn on are changed by interactions on
    themselves alone. What is said to lie off the object adds nothing to it. Of a box or segmentation of several slices,
    see ``SlicedInteraction.thick``, the first says where the object ends, the second what it is.

    Args:
        ask: answers a prompt on a slice as the network does.
        start: what the object is started by.
        depth: slices of the volume.
        rule: how a slice's answer travels.
        picture: gives the intensities of a slice.
        limits: first and last slice that the object may be followed to.
        distances: of slices and pixels, by which thin ones are passed over in a 3D box.
    """

    # ---- the start --------------------------------------------------------------------------------------------------

    def begin(self) -> Followed:
        """The object as its start alone shows it."""
        if self._start.is_3d_box:
            return self._begin_in_box()
        if self._start.thick and self._start.kind == "mask":
            return self._begin_as_given()
        origin = self._start.where_most()
        prompt = SlicePrompt(interactions=self._start.slices[origin])
        found = self._begin_at(origin, prompt.honoured(self._ask(origin, prompt)))
        if len(self._start.slices) > 1:
            self._correct_slices(found, self._start)
        return found

    def _begin_in_box(self) -> Followed:
        """The object in a 3D box.

        The box fits on few of its slices, those that show the object largest; on others it asks for a neighbour. So
        several slices of its middle half are asked, and the walk begins on the one whose answer the network is surest
        of: every other slice is asked with a box that fits the object there. Where what was found does not fill the
        box, it is another object, and the next sure slice is tried.
        """
        box = self._start.box()
        tried = np.linspace(*self._start.ends, 2 * _LOOKS - 1)[_LOOKS // 2 : -(_LOOKS // 2)]
        looks = {int(index): self._ask(int(index), SlicePrompt(box=box)) for index in np.unique(np.rint(tried))}
        surest = sorted(looks, key=lambda index: (looks[index].mask.any(), looks[index].iou), reverse=True)
        best, fill = None, -1.0
        for origin in surest[:_WALKS]:
            found = self._begin_at(origin, within(looks[origin], box))
            if (filled := self._filled(found)) > fill:
                best, fill = found, filled
            if fill >= _FILLED:
                break
        return best

    def _begin_as_given(self) -> Followed:
        """A segmentation of several slices as it is; what lies between two of its slices is found."""
        prompts = {index: SlicePrompt(interactions=seen) for index, seen in self._start.slices.items()}
        seeds = {index: self._ask(index, prompt) for index, prompt in prompts.items()}
        origin = max(sorted(seeds), key=lambda index: np.count_nonzero(seeds[index].mask))
        given = (self._start,)
        return Followed(self._walked(seeds, given, *self._start.ends), origin, given)

    def _begin_at(self, origin: int, seed: SliceMask) -> Followed:
        given = (self._start,)
        return Followed(self._walked({origin: seed}, given, *self.reach(given)), origin, given)

    def _filled(self, found: Followed) -> float:
        """Share of the 3D box that the box around what was found in it has."""
        shown = [index for index in found.answers if found.shows(index)]
        if not shown:
            return 0.0
        low, high = np.split(tight_box(np.any([found.answers[index].mask for index in shown], axis=0)), 2)
        corners = self._start.box().reshape(2, 2)
        first, last = self._start.ends
        inside = np.append(high - low + 1, max(shown) - min(shown) + 1)
        whole = np.append(corners[1] - corners[0] + 1, last - first + 1)
        return float(np.prod(inside) / np.prod(whole))

    # ---- corrections ------------------------------------------------------------------------------------------------

    def correct(self, before: Followed, interaction: SlicedInteraction) -> Followed:
        """The object after one more interaction, which changes it where it lies and as far as that carries."""
        now = Followed(dict(before.answers), before.origin, (*before.given, interaction))
        if not interaction.thick:
            self._correct_slices(now, interaction)
        elif interaction.kind == "box" and interaction.positive:
            return self._confine(now, interaction)
        else:
            self._replace(now, interaction)
        return now if interaction.positive else self._lessened(before, now)

    def _lessened(self, before: Followed, followed: Followed) -> Followed:
        """An object after an interaction off it, without what that added, and ended where that leaves nothing."""
        last, answers = followed.given[-1], {}
        for index, after in followed.answers.items():
            if (known := before.answers.get(index)) is after:
                answers[index] = after
            elif known is not None:
                answers[index] = self._less(followed, index, known, after)
        return replace(followed, answers=self.ended(before, replace(followed, answers=answers), last))

    def _less(self, now: Followed, index: int, known: SliceMask, after: SliceMask) -> SliceMask:
        """What an interaction off the object leaves of it on a slice.

        It ends the object on the slices that it lies on alone: where another one would lose all of it, that is left as
        it was. Where the object is known to be, a point or scribble does not end it, but takes off what lies under it.
        """
        mask, last = after.mask & known.mask, now.given[-1]
        if mask.any() or not after.mask.any():
            return after.with_mask(mask)
        if index not in last.slices:
            return known
        if last.kind not in ("point", "scribble") or not self._is_known(now, index):
            return after.with_mask(mask)
        return known.with_mask(known.mask & ~last.covered(index, *known.mask.shape))

    def ended(self, before: Followed, found: Followed, interaction: SlicedInteraction) -> dict[int, SliceMask]:
        """The answers of an object that ends where an interaction off it has left nothing of it on a slice.

        Beyond, seen from where it started, nothing is left up to the next slice that something was drawn on.
        """
        now = Followed(dict(found.answers), found.origin, found.given)
        for index in () if interaction.positive else interaction.slices:
            if before.shows(index) and index in now.answers and index != now.origin and not now.shows(index):
                self._end_at(now, index)
        return now.answers

    def _correct_slices(self, now: Followed, interaction: SlicedInteraction) -> None:
        """Correct every slice that an interaction lies on, from the origin outward.

        Of one that crosses several slices, those are left as they are that say already what it says.
        """
        for index in sorted(interaction.slices, key=lambda index: (abs(index - now.origin), index)):
            if len(interaction.slices) > 1 and index in now.answers:
                mask = now.answers[index].mask
                if (mask[interaction.covered(index, *mask.shape)] == interaction.positive).all():
                    continue
            if now.shows(index):
                self._change(now, index)
            elif interaction.positive:
                self._extend(now, index)

    def _replace(self, now: Followed, interaction: SlicedInteraction) -> None:
        """Put a segmentation of several slices where it lies, or take off the object what lies in a box or in it."""
        for index, seen in interaction.slices.items():
            if interaction.positive:
                now.answers[index] = self._ask(index, SlicePrompt(interactions=seen))
            elif now.shows(index):
                mask = now.answers[index].mask
                now.answers[index] = now.answers[index].with_mask(mask & ~interaction.covered(index, *mask.shape))
                if not now.shows(index):
                    self._end_at(now, index)

    def _confine(self, now: Followed, box: SlicedInteraction) -> Followed:
        """Leave of the object what lies in a 3D box; where that is nothing, find it there."""
        limit = limit_of(now.given)
        for index in list(now.answers):
            if index in box.slices:
                now.answers[index] = within(now.answers[index], limit)
            elif not now.stops(index):
                del now.answers[index]
        if any(now.shows(index) for index in box.slices):
            return now
        middle = sum(box.ends) // 2
        seed = within(self._carry(now.given, middle, SlicePrompt(box=box.box())), limit)
        return Followed(self._walked({middle: seed}, now.given, *self.reach(now.given)), middle, now.given)

    def _change(self, now: Followed, index: int) -> None:
        """Correct a slice that shows the object, and its neighbours as far as the correction changes them."""
        before = now.answers[index]
        after = self._corrected(now, index, before, before)
        now.answers[index] = after
        if not after.mask.any():
            self._end_at(now, index)
            return
        changed = before.mask ^ after.mask
        for step in (-1, 1):
            self._spread(now, index, step, changed)

    def _corrected(self, now: Followed, index: int, prior: SliceMask | None, before: SliceMask | None) -> SliceMask:
        """The answer on a slice after an interaction, which may take the object off it unless it is known to be there.

        Args:
            now: with that interaction.
            index: of the slice.
            prior: the answer that goes along, of this slice or of a neighbour.
            before: the answer on this slice, None where it does not show the object.
        """
        known = self._is_known(now, index)
        fits = partial(_fits, known=largest_sides(now.answers.values()), rule=self._rule)
        prompt = self._on_slice(index, now.given, prior)
        after = corrected(partial(self._ask, index), prompt, before, fits=fits, may_empty=not known)
        return within(after, limit_of(now.given))

    def _is_known(self, now: Followed, index: int) -> bool:
        """Whether somebody said that the object is on a slice: on which it was started, or drawn on."""
        drawn = any(one.positive for one in on_slice((one for one in now.given if not one.thick), index))
        return drawn or (index == now.origin and not self._start.thick)

    def _spread(self, now: Followed, index: int, step: int, changed: np.ndarray) -> None:
        """Carry on what changed on a slice: each next one takes over what hangs together with the change before.

        It ends where that would make the object worse by what the network says of it, see ``PropagationRule.fades``.
        """
        at_first = np.count_nonzero(changed)
        first, last = self.reach(now.given)
        limit = limit_of(now.given)
        while changed.any() and first <= index + step <= last and not now.stops(index + step):
            if not now.shows(index + step):
                if now.given[-1].positive:  # what is taken off the object does not make it longer
                    self._walk_on(now, index, step)
                return
            prompt = self._rule.next_prompt(now.answers[index], limit, self._largest(now))
            if prompt is None:
                return
            index += step
            before = now.answers[index]
            after = within(self._carry(now.given, index, prompt), limit)
            if not before.asked:  # nobody has said how sure of it the network is: it is neither surer nor less sure now
                before = replace(before, iou=after.iou)
            changed = touching(before.mask ^ after.mask, changed)
            if self._rule.fades(before, after, np.count_nonzero(changed), at_first):
                return
            if changed.any():
                now.answers[index] = after if after.iou > before.iou else taken_over(before, after, changed)
            if not now.shows(index):
                self._end_at(now, index)
                del now.answers[index]
                return

    def _extend(self, now: Followed, index: int) -> None:
        """Find the object on a slice that did not show it, then between there and where it was known, and beyond."""
        known = [other for other in now.answers if now.shows(other)]
        nearest = min(known, key=lambda other: abs(other - index), default=None)
        prior = None if nearest is None else now.answers[nearest]
        now.answers[index] = self._corrected(now, index, prior, None)
        for step in (-1, 1):
            between = nearest is not None and (nearest - index) * step > 0
            gap = range(index + step, nearest, step) if between else ()
            if between and not any(now.stops(other) for other in gap):
                seeds = {other: now.answers[other] for other in (index, nearest)}
                now.answers.update(self._walked(seeds, now.given, min(seeds), max(seeds)))
            else:
                self._walk_on(now, index, step)

    def _walk_on(self, now: Followed, index: int, step: int) -> None:
        """Follow the object from a slice in one direction, until it ends or the next slice is known."""
        first, last = self.reach(now.given)
        end = index
        while first <= end + step <= last and end + step not in now.answers and not now.stops(end + step):
            end += step
        seeds = {index: now.answers[index]}
        now.answers.update(self._walked(seeds, now.given, min(index, end), max(index, end)))

    def _end_at(self, now: Followed, index: int) -> None:
        """Drop what was followed beyond an emptied slice, seen from the origin, up to the next that was drawn on."""
        for step in (-1, 1):
            if (index - now.origin) * step < 0:
                continue
            beyond = index + step
            while beyond in now.answers and not now.stops(beyond) and not now.was_given(beyond):
                del now.answers[beyond]
                beyond += step


def _fits(answer: SliceMask, known: np.ndarray | None, rule: PropagationRule) -> bool:
    """Whether an answer is at most a little larger than the object is elsewhere; ``known`` are its largest sides."""
    sides = largest_sides([answer])
    return known is None or (sides is not None and bool((sides <= rule.growth * known).all()))
