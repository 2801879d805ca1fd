"""An object that is followed through a volume: where the walk starts, and what each further click changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from bundle.interactive.correction import corrected, taken_over, touching
from bundle.interactive.propagation import Ask, Picture, PropagationRule, largest_sides, propagate, within
from bundle.interactive.slice_model import SliceMask, SlicePrompt
from bundle.prompts.simulation import tight_box

_LOOKS = 5  # slices of a 3D box's middle half that are asked for the start
_WALKS = 2  # of them that the object is followed from at most
_FILLED = 0.8  # of a 3D box, by the box around what was found in it: it is the object that was meant


@dataclass(frozen=True, eq=False)
class Click:
    """A point on one slice: its index, (2,) float pixel (x, y), and 1 on the object or 0 off it."""

    index: int
    xy: np.ndarray
    label: int

    def same(self, other: Click) -> bool:
        """Whether both say the same."""
        return (self.index, self.label) == (other.index, other.label) and np.array_equal(self.xy, other.xy)


@dataclass(frozen=True, eq=False)
class Start:
    """What an object is started by.

    Attributes:
        first, last: slices of the box; both the slice of the point where there is no box.
        box: (4,) pixels (x0, y0, x1, y1), or None.
        point: on the object, where there is no box.
    """

    first: int
    last: int
    box: np.ndarray | None = None
    point: Click | None = None

    @property
    def bounded(self) -> bool:
        """Whether it is a box of several slices, which says where the object ends."""
        return self.box is not None and self.last > self.first

    def same(self, other: Start) -> bool:
        """Whether both say the same."""
        if self.point is not None and other.point is not None:
            return self.point.same(other.point)
        slices = (self.first, self.last) == (other.first, other.last)
        return slices and self.box is not None and other.box is not None and np.array_equal(self.box, other.box)


@dataclass(frozen=True, eq=False)
class Followed:
    """An object as it was answered after some clicks.

    Attributes:
        answers: slice index -> answer; an empty one where a click took the object off its slice.
        origin: the slice that the walk through the volume began on.
        clicks: those that were answered, in their order.
    """

    answers: dict[int, SliceMask]
    origin: int
    clicks: tuple[Click, ...] = ()

    def shows(self, index: int) -> bool:
        """Whether the object was found on a slice."""
        return index in self.answers and bool(self.answers[index].mask.any())

    def stops(self, index: int) -> bool:
        """Whether a walk ends before this slice: the object was started there, or clicked on or off."""
        return index == self.origin or any(click.index == index for click in self.clicks)


class Follower:
    """Follows one object through a volume, and corrects what was found.

    A click corrects its slice, and its neighbours as far as the correction changes something there. Slices that the
    object was started on or that were clicked on are changed by clicks on themselves alone.

    Args:
        ask: answers a prompt on a slice.
        start: what the object is started by.
        depth: slices of the volume.
        rule: how a slice's answer travels.
        picture: gives the intensities of a slice.
    """

    def __init__(self, ask: Ask, start: Start, *, depth: int, rule: PropagationRule, picture: Picture) -> None:
        self._ask, self._start, self._depth, self._rule = ask, start, depth, rule
        self._picture = None if start.bounded else picture  # of a 3D box the user has said where the object ends

    def begin(self) -> Followed:
        """The object as its start alone shows it."""
        if self._start.bounded:
            return self._begin_in_box()
        origin = self._start.first
        return self._begin_at(origin, self._ask(origin, self._on_slice(origin, (), None)))

    def _begin_in_box(self) -> Followed:
        """The object in a 3D box.

        The box fits on few of its slices, those that show the object largest; on others it asks for a neighbour. So
        several slices of its middle half are asked, and the walk begins on the one whose answer the network is surest
        of: every other slice is asked with a box that fits the object there. Where what was found does not fill the
        box, it is another object, and the next sure slice is tried.
        """
        box = self._start.box
        tried = np.linspace(self._start.first, self._start.last, 2 * _LOOKS - 1)[_LOOKS // 2 : -(_LOOKS // 2)]
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

    def _begin_at(self, origin: int, seed: SliceMask) -> Followed:
        first, last = self._reach(())
        return Followed(self._walked({origin: seed}, (), first, last), origin)

    def _filled(self, found: Followed) -> float:
        """Share of the 3D box that the box around what was found in it has."""
        shown = [index for index in found.answers if found.shows(index)]
        if not shown:
            return 0.0
        low, high = np.split(tight_box(np.any([found.answers[index].mask for index in shown], axis=0)), 2)
        given = np.reshape(self._start.box, (2, 2))
        inside = np.append(high - low + 1, max(shown) - min(shown) + 1)
        whole = np.append(given[1] - given[0] + 1, self._start.last - self._start.first + 1)
        return float(np.prod(inside) / np.prod(whole))

    def correct(self, before: Followed, click: Click) -> Followed:
        """The object after one more click, which changes it where the click lies and as far as that carries."""
        now = Followed(dict(before.answers), before.origin, (*before.clicks, click))
        if before.shows(click.index):
            self._change(now, click)
        elif click.label == 1:
            self._extend(now, click)
        return now

    def _change(self, now: Followed, click: Click) -> None:
        """Correct a slice that shows the object, and its neighbours as far as the correction changes them."""
        index, before = click.index, now.answers[click.index]
        prompt = self._on_slice(index, now.clicks, before)
        after = self._corrected(now, index, prompt, before)
        now.answers[index] = after
        if not after.mask.any():
            self._end_at(now, index)
            return
        changed = before.mask ^ after.mask
        for step in (-1, 1):
            self._spread(now, index, step, changed)

    def _corrected(self, now: Followed, index: int, prompt: SlicePrompt, before: SliceMask | None) -> SliceMask:
        """The answer on a slice after a click, which may take the object off it unless it is known to be there."""
        started = index == now.origin and not self._start.bounded
        known = started or bool((prompt.point_labels == 1).any())
        fits = partial(_fits, known=largest_sides(now.answers.values()), rule=self._rule)
        after = corrected(partial(self._ask, index), prompt, before, fits=fits, may_empty=not known)
        return within(after, self._limit(now.clicks))

    def _spread(self, now: Followed, index: int, step: int, changed: np.ndarray) -> None:
        """Carry on what changed on a slice: each next one takes over what hangs together with the change before."""
        first, last = self._reach(now.clicks)
        limit = self._limit(now.clicks)
        while changed.any() and first <= index + step <= last and not now.stops(index + step):
            if not now.shows(index + step):
                self._walk_on(now, index, step)
                return
            prompt = self._rule.next_prompt(now.answers[index], limit, self._largest(now))
            if prompt is None:
                return
            index += step
            before = now.answers[index]
            after = within(self._ask(index, prompt), limit)
            changed = touching(before.mask ^ after.mask, changed)
            if changed.any():
                now.answers[index] = after if after.iou > before.iou else taken_over(before, after, changed)
            if not now.shows(index):
                self._end_at(now, index)
                del now.answers[index]
                return

    def _extend(self, now: Followed, click: Click) -> None:
        """Find the object on a slice that did not show it, then between there and where it was known, and beyond."""
        index = click.index
        known = [other for other in now.answers if now.shows(other)]
        nearest = min(known, key=lambda other: abs(other - index), default=None)
        prior = None if nearest is None else now.answers[nearest]
        now.answers[index] = self._corrected(now, index, self._on_slice(index, now.clicks, prior), None)
        for step in (-1, 1):
            between = nearest is not None and (nearest - index) * step > 0
            gap = range(index + step, nearest, step) if between else ()
            if between and not any(now.stops(other) for other in gap):
                seeds = {other: now.answers[other] for other in (index, nearest)}
                now.answers.update(self._walked(seeds, now.clicks, min(seeds), max(seeds)))
            else:
                self._walk_on(now, index, step)

    def _walk_on(self, now: Followed, index: int, step: int) -> None:
        """Follow the object from a slice in one direction, until it ends or the next slice is known."""
        first, last = self._reach(now.clicks)
        end = index
        while first <= end + step <= last and end + step not in now.answers and not now.stops(end + step):
            end += step
        seeds = {index: now.answers[index]}
        now.answers.update(self._walked(seeds, now.clicks, min(index, end), max(index, end)))

    def _end_at(self, now: Followed, index: int) -> None:
        """Drop what was followed beyond an emptied slice, seen from the origin, up to the next that was clicked on."""
        for step in (-1, 1):
            if (index - now.origin) * step < 0:
                continue
            beyond = index + step
            while beyond in now.answers and not now.stops(beyond):
                del now.answers[beyond]
                beyond += step

    def _walked(
        self, seeds: dict[int, SliceMask], clicks: tuple[Click, ...], first: int, last: int
    ) -> dict[int, SliceMask]:
        options = {"limit": self._limit(clicks), "rule": self._rule, "picture": self._picture}
        return propagate(seeds, self._ask, first=first, last=last, **options)

    def _on_slice(self, index: int, clicks: tuple[Click, ...], before: SliceMask | None) -> SlicePrompt:
        """All that is known of a slice: its points, the answer so far, and the box around both."""
        points = [click for click in (self._start.point, *clicks) if click is not None and click.index == index]
        boxed = self._start.first <= index <= self._start.last and (before is None or not self._start.bounded)
        prompt = SlicePrompt(
            np.reshape([click.xy for click in points], (-1, 2)).astype(float),
            np.array([click.label for click in points], dtype=int),
            self._start.box if boxed else None,
            before,
        )
        if before is None:
            return prompt
        kept = before if "mask" in self._rule.carried else None
        return replace(prompt, previous=kept, box=prompt.around() if "box" in self._rule.carried else None)

    def _reach(self, clicks: tuple[Click, ...]) -> tuple[int, int]:
        """First and last slice that the object may be on: those of a 3D box, and of clicks on the object beside it."""
        if not self._start.bounded:
            return 0, self._depth - 1
        known = [self._start.first, self._start.last, *(click.index for click in clicks if click.label == 1)]
        return min(known), max(known)

    def _limit(self, clicks: tuple[Click, ...]) -> np.ndarray | None:
        """(4,) pixels that a 3D box, widened to the clicks on the object, leaves; None without such a box."""
        if not self._start.bounded:
            return None
        corners = np.concatenate(
            [self._start.box.reshape(2, 2), *(click.xy[None] for click in clicks if click.label == 1)]
        )
        return np.concatenate([corners.min(axis=0), corners.max(axis=0)])

    def _largest(self, now: Followed) -> np.ndarray | None:
        """(2,) sides that the object may grow to; None where a 3D box says it."""
        if self._start.bounded:
            return None
        return largest_sides(now.answers[index] for index in now.answers if now.stops(index))


def _fits(answer: SliceMask, known: np.ndarray | None, rule: PropagationRule) -> bool:
    """Whether an answer is at most a little larger than the object is elsewhere; ``known`` are its largest sides."""
    sides = largest_sides([answer])
    return known is None or (sides is not None and bool((sides <= rule.growth * known).all()))
