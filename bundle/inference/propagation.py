"""How a slice's answer travels to its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bundle.inference.predictor import SliceMask, SlicePrompt

Ask = Callable[[int, SlicePrompt], SliceMask]
"""Answers a prompt on a slice: (slice index, prompt) -> mask."""


@dataclass(frozen=True)
class PropagationRule:
    """When to go on and with which prompt.

    The next slice is asked with the box of the previous mask, a little wider, and with the previous logits as a mask
    prompt (the ``mask`` projection of micro-sam). The object has ended where the mask is empty or overlaps the previous
    one too little.

    Attributes:
        margin: the box grows by this share of its sides, and by at least one pixel, because the object may.
        smallest_iou: stop when the masks of two neighbours overlap less than this.
        smallest_share: stop when a mask has shrunk below this share of the largest one seen on the way.
        use_logits: hand the previous logits on.
    """

    margin: float = 0.15
    smallest_iou: float = 0.5
    smallest_share: float = 0.02
    use_logits: bool = True

    def next_prompt(self, previous: SliceMask, limit: np.ndarray | None) -> SlicePrompt | None:
        """The prompt for a neighbour; None where the previous mask is empty.

        Args:
            previous: the answer on the slice before.
            limit: (4,) box (x0, y0, x1, y1) that the user's 3D box leaves, or None.
        """
        rows, columns = np.flatnonzero(previous.mask.any(axis=1)), np.flatnonzero(previous.mask.any(axis=0))
        if len(rows) == 0:
            return None
        low, high = np.array([columns[0], rows[0]], float), np.array([columns[-1], rows[-1]], float)
        grow = np.maximum(1.0, self.margin * (high - low + 1))
        height, width = previous.mask.shape
        floor, ceiling = (limit[:2], limit[2:]) if limit is not None else ((0, 0), (width - 1, height - 1))
        box = np.concatenate([np.clip(low - grow, floor, ceiling), np.clip(high + grow, floor, ceiling)])
        return SlicePrompt(box=box, logits=previous.logits if self.use_logits else None)

    def ended(self, previous: SliceMask, current: SliceMask, largest: int) -> bool:
        """Whether the object is no longer on the current slice."""
        size = int(current.mask.sum())
        if size == 0 or size < self.smallest_share * largest:
            return True
        overlap = int((previous.mask & current.mask).sum())
        return overlap < self.smallest_iou * int((previous.mask | current.mask).sum())


def propagate(
    seeds: Mapping[int, SliceMask],
    ask: Ask,
    *,
    first: int,
    last: int,
    limit: np.ndarray | None = None,
    rule: PropagationRule | None = None,
) -> dict[int, SliceMask]:
    """Carry the masks of prompted slices through a range of slices.

    From the outermost seeds the object is followed until it ends or the range does. Between two seeds the object is
    known to go on, so both sides walk on to the middle without a stop.

    Args:
        seeds: the answers on the slices that were prompted.
        ask: answers a prompt on a slice.
        first, last: range of slices, both included.
        limit: (4,) box in pixels that no prompt leaves, or None.
        rule: when to stop, and how the next slice is asked.

    Returns:
        The seeds and every slice that the object was found on.
    """
    rule = rule or PropagationRule()
    answers = dict(seeds)
    order = sorted(seeds)
    for low, high in pairwise(order):
        middle = (low + high) // 2
        _walk(answers, ask, low, range(low + 1, middle + 1), limit, rule, stop=False)
        _walk(answers, ask, high, range(high - 1, middle, -1), limit, rule, stop=False)
    _walk(answers, ask, order[0], range(order[0] - 1, first - 1, -1), limit, rule, stop=True)
    _walk(answers, ask, order[-1], range(order[-1] + 1, last + 1), limit, rule, stop=True)
    return answers


def _walk(
    answers: dict[int, SliceMask],
    ask: Ask,
    start: int,
    indices: range,
    limit: np.ndarray | None,
    rule: PropagationRule,
    *,
    stop: bool,
) -> None:
    previous = answers[start]
    largest = int(previous.mask.sum())
    for index in indices:
        prompt = rule.next_prompt(previous, limit)
        if prompt is None:
            return
        current = ask(index, prompt)
        if stop and rule.ended(previous, current, largest):
            return
        answers[index] = current
        largest = max(largest, int(current.mask.sum()))
        previous = current
