"""The answer for one object in a volume, and the time that it took."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np

from bundle.interactive.slice_model import SliceMask

GIVEN = math.inf
"""The score of a slice whose mask the user gave."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The answer for one object.

    Attributes:
        mask: (I, J, K) bool on the grid of the volume.
        scores: slice index -> the network's own estimate of the mask's IoU, for every slice that was answered, of one
            that was passed over the lower one of its neighbours (`SliceMask.asked`); `GIVEN` where the user gave the
            mask.
        axis: the stored axis that the slices are stacked along.
        seconds: time spent in ``encode``, ``decode`` and in all (``total``).
        encoded: how many times the encoder had to run.
    """

    mask: np.ndarray
    scores: dict[int, float]
    axis: int
    seconds: dict[str, float] = field(default_factory=dict)
    encoded: int = 0


@dataclass(eq=False)
class Timer:
    """Adds up the time spent in each kind of work of one request."""

    seconds: dict[str, float] = field(default_factory=lambda: {"encode": 0.0, "decode": 0.0})
    started: float = field(default_factory=time.perf_counter)
    encoded: int = 0

    def add(self, answer: SliceMask, seconds: float) -> None:
        """Count an answer that took so many seconds."""
        self.encoded += answer.encoded
        self.seconds["encode"] += answer.encode_seconds
        self.seconds["decode"] += seconds - answer.encode_seconds

    def total(self) -> dict[str, float]:
        """All times so far."""
        return {**self.seconds, "total": time.perf_counter() - self.started}
