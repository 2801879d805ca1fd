"""Which slice a draw number stands for: the endless stream of draws, and how a source is drawn from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
from torch.utils.data import Sampler

from bundle.data.labelled_slice import LabelledSlice, LabelledStack
from bundle.data.sampling import BalancedDraw

Labelled = LabelledSlice | LabelledStack


class DrawNumbers(Sampler[int]):
    """The endless stream of draw numbers, from ``first`` on; ``len`` is the draws of one epoch of this process.

    The stream does not restart with an epoch, so a resumed run only has to set ``first`` to see the data that the
    interrupted one would have seen.

    Args:
        draws_per_epoch: over all processes.
        rank, world_size: this process takes every ``world_size``-th draw.
    """

    def __init__(self, draws_per_epoch: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.draws_per_epoch, self.rank, self.world_size, self.first = draws_per_epoch, rank, world_size, 0

    def __len__(self) -> int:
        return self.draws_per_epoch // self.world_size

    def __iter__(self) -> Iterator[int]:
        return count(self.first + self.rank, self.world_size)


class PatientDraw:
    """Patient, then slice; any object of it may come first."""

    def __init__(self, slices: Sequence[Labelled]) -> None:
        patients: dict[str, list[Labelled]] = defaultdict(list)
        for labelled in slices:
            patients[labelled.patient].append(labelled)
        self.patients = list(patients.values())

    def __call__(self, rng: np.random.Generator) -> tuple[Labelled, None]:
        slices = self.patients[rng.integers(len(self.patients))]
        return slices[rng.integers(len(slices))], None


class OrganDraw:
    """Organ, then patient, then slice; the organ comes first."""

    def __init__(self, slices: Sequence[Labelled]) -> None:
        self.slices = slices
        self.balanced = BalancedDraw([s.patient for s in slices], [s.ids for s in slices])

    def __call__(self, rng: np.random.Generator) -> tuple[Labelled, int]:
        index, organ = self.balanced.draw(rng)
        return self.slices[index], organ


DRAWS = {"patients": PatientDraw, "organs": OrganDraw}
"""How a source is drawn from, by the word of ``DrawnSamples.balance``."""
