"""What a user wants of an answer, beside the prompts: slices that it may lie on, and how its mask is cleaned, in mm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from bundle.errors import PromptError
from bundle.interactive.postprocessing import fill_holes, remove_islands, smooth
from bundle.interactive.regions import Region

_MOST_MM = 1000.0  # of any option in mm: longer than a trunk


@dataclass(frozen=True)
class AnswerOptions:
    """How the answers for an object are bounded and cleaned.

    Attributes:
        limits: first and last slice that an answer through the volume may lie on, both included; None for all.
        limits_axis: stored axis of these slices.
        islands_mm: pieces smaller than a ball of this diameter go, but for the largest and what was prompted.
        holes_mm: holes up to a ball of this diameter are filled.
        smoothing_mm: standard deviation of the Gaussian that the mask is smoothed with.

    On a slice that is asked by itself a disc stands for the ball.
    """

    limits: tuple[int, int] | None = None
    limits_axis: int = 2
    islands_mm: float = 0.0
    holes_mm: float = 0.0
    smoothing_mm: float = 0.0

    def validated(self, shape: Sequence[int]) -> AnswerOptions:
        """The options as plain numbers, if they fit a volume of (I, J, K) voxels; without limits, of the default axis.

        Raises:
            PromptError: they do not.
        """
        lengths = {name: _millimetres(getattr(self, name), name) for name in LENGTHS}
        if self.limits_axis not in (0, 1, 2):
            raise PromptError(f"the axis of limits must be 0, 1 or 2, got {self.limits_axis!r:.80}")
        # Options that ask the same are equal, whatever plane a client speaks of.
        axis = AnswerOptions.limits_axis if self.limits is None else self.limits_axis
        return replace(self, limits=_slices(self.limits, shape[axis]), limits_axis=axis, **lengths)

    @property
    def cleans(self) -> bool:
        """Whether masks are changed."""
        return any(getattr(self, name) > 0 for name in LENGTHS)

    def along(self, axis: int) -> tuple[int, int] | None:
        """The limits of a walk along a stored axis."""
        return self.limits if axis == self.limits_axis else None

    def within_limits(self, mask: np.ndarray) -> np.ndarray:
        """The part of an (I, J, K) mask that lies within the limits."""
        if self.limits is None:
            return mask
        kept = np.zeros_like(mask)
        first, last = self.limits
        part = tuple(slice(first, last + 1) if axis == self.limits_axis else slice(None) for axis in range(3))
        kept[part] = mask[part]
        return kept

    def cleaned(self, mask: np.ndarray, spacing: Sequence[float], drawn: np.ndarray) -> np.ndarray:
        """A mask without islands and holes, smoothed.

        Args:
            mask: (A, B, C) bool; an axis of one voxel, as of a slice, counts for nothing.
            spacing: (3,) mm.
            drawn: (A, B, C) bool, where the mask stays as it is.
        """
        whole = Region.of(mask)
        if not self.cleans or whole.is_empty:
            return mask
        room = [math.ceil(4 * self.smoothing_mm / step) + 1 for step in spacing]
        low = np.maximum(whole.low - room, 0)
        high = np.minimum(whole.low + whole.voxels.shape + room, mask.shape)
        part = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        before, kept = mask[part], drawn[part]
        after = remove_islands(before, spacing, self.islands_mm, kept=kept & before)
        after = smooth(fill_holes(after, spacing, self.holes_mm), spacing, self.smoothing_mm)
        result = np.zeros_like(mask)
        result[part] = np.where(kept, before, after)
        return result

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that ``from_json`` reads."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return found | {"limits": None if self.limits is None else list(self.limits)}

    @classmethod
    def from_json(cls, value: Any) -> AnswerOptions:
        """Read what ``to_json`` wrote.

        Raises:
            TypeError, ValueError: it is something else.
        """
        made = cls(**value)
        return made if made.limits is None else replace(made, limits=tuple(map(int, made.limits)))


NO_OPTIONS = AnswerOptions()
LENGTHS = ("islands_mm", "holes_mm", "smoothing_mm")
"""The options that are lengths."""


def _millimetres(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_MM:
        raise PromptError(f"{name} must be a number from 0 to {_MOST_MM:g} (mm), got {value!r:.80}")
    return float(value)


def _slices(value: Any, depth: int) -> tuple[int, int] | None:
    if value is None:
        return None
    try:
        first, last = value
        ends = int(first), int(last)
    except (TypeError, ValueError, OverflowError) as error:
        raise PromptError(f"limits must be the first and the last slice, got {value!r:.80}") from error
    if ends != (first, last) or not 0 <= ends[0] <= ends[1] < depth:
        raise PromptError(f"limits must be the first and the last of slices 0 to {depth - 1}, got {value!r:.80}")
    return ends
