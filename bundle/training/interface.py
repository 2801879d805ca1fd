"""What the trainer asks of a batch, of what draws it, and of what is learned from it, whichever road made them.

Two roads fit: samples drawn one by one on the CPU (``samples.DrawnSamples``, ``batches.SampleBatch``, the objectives of
``objectives.py``), and whole batches drawn where the network is (``batched/``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from bundle.training.losses import LossTerms

Drawn = TypeVar("Drawn", covariant=True)


@runtime_checkable
class Batch(Protocol):
    """Images with objects to segment, of one step.

    Attributes:
        images: (B, 3, S, S) float32 network input, of stacks of D slices (B, 3, D, S, S).
        masks: (N, S, S) bool, one object each.
        draws: long, the draw numbers that the batch is a function of, from which simulated prompts take their seed.
        step: number of the training step, from 1; the trainer sets it.
    """

    images: Tensor
    masks: Tensor
    draws: Tensor
    step: int

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device."""
        ...

    def split(self, parts: int) -> Sequence[Batch]:
        """The batch in at most ``parts`` pieces, whose gradients the trainer sums.

        Raises:
            TrainingError: where this batch cannot be divided.
        """
        ...


@runtime_checkable
class Sampler(Protocol[Drawn]):
    """What a draw number stands for: one sample, or a whole batch. The same number always gives the same."""

    def __len__(self) -> int:
        """How many slices or objects there are to draw from."""
        ...

    def __getitem__(self, draw: int) -> Drawn:
        """The sample or batch of a draw number."""
        ...


class Objective(Protocol):
    """Maps a network and a batch to losses; the trainer makes one step of the optimiser for each of them."""

    def __call__(self, network: Any, batch: Any) -> Iterator[LossTerms]:
        """Prompt, compare, and yield the terms of each loss.

        Args:
            network: the one that is trained: a ``PromptableNetwork``, or a semantic one.
            batch: a ``Batch`` of the kind that the objective is made for.
        """
        ...
