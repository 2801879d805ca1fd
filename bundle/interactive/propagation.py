"""How a slice's answer travels to its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np

from bundle.data.volume import Volume
from bundle.interactive.slice_model import SliceMask, SlicePrompt
from bundle.interactive.thin_slices import EACH, Distances
from bundle.networks.interface import PROPAGATED
from bundle.prompts.simulation import tight_box
from bundle.transforms.frames import SliceFrame, nearest_index

Ask = Callable[[int, SlicePrompt], SliceMask]
"""Answers a prompt on a slice: (slice index, prompt) -> mask."""
Picture = Callable[[int], np.ndarray]
"""The intensities of a slice: slice index -> (H, W), or (H, W, 3) colour."""
_FLAT = 0.01  # of the range of a slice's intensities: no tissue is as even as that
_MAD_TO_DEVIATION = 1.4826  # of normally distributed values


@dataclass(frozen=True)
class PropagationRule:
    """When to go on and with which prompt.

    The next slice is asked with the box of the previous mask, a little wider, with the previous logits as a mask
    prompt, or with both, as the network's spec says (micro-sam calls it the projection). The object has ended where
    the mask is empty or overlaps the previous one too little.

    Attributes:
        propagated: what of the previous answer is handed on, "box", "mask" or both.
        margin: the box grows by this share of its sides, and by at least one pixel, because the object may, ...
        growth: ... but stays below this multiple of the largest seed's box: it may wander, not swell.
        smallest_iou: stop when the masks of two neighbours overlap less than this.
        smallest_share: stop when a mask has shrunk below this share of the largest one seen on the way.
        shade: stop when the median intensity inside a mask differs from that of the seed by more than so many of the
            seed's (robust) standard deviations: a network that is asked for an object finds one on every slice, and
            where the object ends it finds its neighbour, mostly of another shade. Not asked where no picture is given.
        surer: a correction is carried on to a neighbour whose predicted IoU it raises by so much, ...
        unsure: ... or lowers by at most so much, ...
        swells: ... while it changes at most so many times as many pixels as on the slice that was corrected.
        farthest_mm: the next slice that is asked lies so far away at most, and nearer where the object is small; what
            the slices between show follows from its shape.
    """

    propagated: tuple[str, ...] = PROPAGATED
    margin: float = 0.05
    growth: float = 1.15
    smallest_iou: float = 0.5
    smallest_share: float = 0.02
    shade: float = 4.0
    surer: float = 0.02
    unsure: float = 0.05
    swells: float = 2.0
    farthest_mm: float = 2.0

    def distances(self, frame: SliceFrame, volume: Volume) -> Distances:
        """Of a volume's slices, by which thin ones are passed over; none of a stack of pictures, whose mm nobody knows.

        Args:
            frame: the slices.
            volume: the image.
        """
        farthest = self.farthest_mm if volume.placed else 0.0
        return Distances(float(volume.spacing[frame.slice_axis]), frame.pixel_spacing(volume.spacing), farthest)

    def next_prompt(
        self, previous: SliceMask, limit: np.ndarray | None, largest: np.ndarray | None = None
    ) -> SlicePrompt | None:
        """The prompt for a neighbour; None where the previous mask is empty.

        Args:
            previous: the answer on the slice before.
            limit: (4,) box (x0, y0, x1, y1) that the user's 3D box leaves, or None.
            largest: (2,) sides (x, y) of the largest seed's box, or None.
        """
        if not previous.mask.any():
            return None
        box = self._next_box(previous, limit, largest) if "box" in self.propagated else None
        return SlicePrompt(box=box, previous=previous if "mask" in self.propagated else None)

    def _next_box(self, previous: SliceMask, limit: np.ndarray | None, largest: np.ndarray | None) -> np.ndarray:
        low, high = np.split(tight_box(previous.mask).astype(float), 2)
        grow = np.maximum(1.0, self.margin * (high - low + 1))
        if largest is not None:
            grow = np.minimum(grow, (self.growth * largest - (high - low + 1)) / 2)
        height, width = previous.mask.shape
        floor, ceiling = (limit[:2], limit[2:]) if limit is not None else ((0, 0), (width - 1, height - 1))
        return np.concatenate([np.clip(low - grow, floor, ceiling), np.clip(high + grow, floor, ceiling)])

    def fades(self, before: SliceMask, after: SliceMask, changed: int, corrected: int) -> bool:
        """Whether a correction is not carried on to a neighbour.

        Args:
            before: the answer on the neighbour.
            after: its answer with the correction.
            changed: pixels that this would change there.
            corrected: pixels that changed on the slice that was corrected.
        """
        gain = after.iou - before.iou if after.mask.any() else 0.0  # of nothing the network estimates nothing
        return gain < self.surer and (gain < -self.unsure or changed > self.swells * corrected)

    def ended(self, previous: SliceMask, current: SliceMask, largest: int) -> bool:
        """Whether the object is no longer on the current slice."""
        size = int(current.mask.sum())
        if size == 0 or size < self.smallest_share * largest:
            return True
        overlap = int((previous.mask & current.mask).sum())
        return overlap < self.smallest_iou * int((previous.mask | current.mask).sum())


@dataclass(frozen=True)
class IntensityProfile:
    """The intensities inside an object: median, and robust standard deviation."""

    middle: float
    spread: float

    @classmethod
    def of(cls, picture: np.ndarray, mask: np.ndarray) -> IntensityProfile | None:
        """Of what a mask covers; None of an empty one. Colours are averaged to grey."""
        if not mask.any():
            return None
        grey = picture.mean(axis=2) if picture.ndim == 3 else picture
        values = grey[mask]
        middle = float(np.median(values))
        low, high = np.percentile(grey, (5, 95))
        spread = _MAD_TO_DEVIATION * float(np.median(np.abs(values - middle)))
        return cls(middle, max(spread, _FLAT * float(high - low)))

    def differs(self, other: IntensityProfile | None, spreads: float) -> bool:
        """Whether another median lies more than so many standard deviations away."""
        return other is not None and abs(other.middle - self.middle) > spreads * self.spread


def propagate(
    seeds: Mapping[int, SliceMask],
    ask: Ask,
    *,
    first: int,
    last: int,
    limit: np.ndarray | None = None,
    rule: PropagationRule | None = None,
    picture: Picture | None = None,
    distances: Distances = EACH,
) -> dict[int, SliceMask]:
    """Carry the masks of prompted slices through a range of slices.

    From the outermost seeds the object is followed until it ends or the range does. Between two seeds the object is
    known to go on, so both sides walk on to the middle without a stop. Of thin slices not each is asked, but for those
    around the object's end.

    Args:
        seeds: the answers on the slices that were prompted.
        ask: answers a prompt on a slice.
        first, last: range of slices, both included.
        limit: (4,) box in pixels that no answer but a seed leaves, or None.
        rule: when to stop, and how the next slice is asked.
        picture: gives the intensities, by which the end of the object is seen; without it masks alone tell.
        distances: of slices and pixels.

    Returns:
        The seeds and every slice that the object was found on.
    """
    rule = rule or PropagationRule()
    answers = dict(seeds)
    order = sorted(seeds)
    largest = largest_sides(seeds.values()) if limit is None else None  # a limit says it better
    walk = partial(_walk, answers, ask, limit=limit, rule=rule, largest=largest, picture=picture, distances=distances)
    for low, high in pairwise(order):
        middle = (low + high) // 2
        walk(low, range(low + 1, middle + 1), stop=False)
        walk(high, range(high - 1, middle, -1), stop=False)
    walk(order[0], range(order[0] - 1, first - 1, -1), stop=True)
    walk(order[-1], range(order[-1] + 1, last + 1), stop=True)
    return answers


def largest_sides(seeds: Iterable[SliceMask]) -> np.ndarray | None:
    """(2,) sides (x, y) of the largest box around a seed; None when all are empty."""
    boxes = [tight_box(seed.mask).astype(float) for seed in seeds if seed.mask.any()]
    return np.max([box[2:] - box[:2] + 1 for box in boxes], axis=0) if boxes else None


def within(answer: SliceMask, limit: np.ndarray | None) -> SliceMask:
    """The answer without what lies outside of the limit."""
    if limit is None:
        return answer
    height, width = answer.mask.shape
    x0, y0, x1, y1 = nearest_index(limit, (width, height, width, height))
    mask = np.zeros_like(answer.mask)
    mask[y0 : y1 + 1, x0 : x1 + 1] = answer.mask[y0 : y1 + 1, x0 : x1 + 1]
    return replace(answer, mask=mask)


def _walk(
    answers: dict[int, SliceMask],
    ask: Ask,
    start: int,
    indices: range,
    *,
    limit: np.ndarray | None,
    rule: PropagationRule,
    largest: np.ndarray | None,
    picture: Picture | None,
    distances: Distances,
    stop: bool,
) -> None:
    at, previous = start, answers[start]
    seed = IntensityProfile.of(picture(start), previous.mask) if picture is not None and stop else None
    biggest = int(previous.mask.sum())
    one_by_one = 0  # of the next slices
    while len(indices):
        stride = 1 if one_by_one else min(distances.stride(previous.mask), len(indices))
        one_by_one = max(0, one_by_one - 1)
        prompt = rule.next_prompt(previous, limit, largest)
        if prompt is None:
            return
        index = indices[stride - 1]
        current = within(ask(index, prompt), limit)
        gone = stop and rule.ended(previous, current, biggest)
        gone = gone or (seed and seed.differs(IntensityProfile.of(picture(index), current.mask), rule.shade))
        if gone and stride == 1:
            return
        passed = None if gone else distances.between((at, previous), (index, current))
        if passed is None:
            one_by_one = stride  # where on the way?
            continue
        answers.update(passed)
        answers[index] = current
        biggest = max(biggest, int(current.mask.sum()))
        at, previous, indices = index, current, indices[stride:]
