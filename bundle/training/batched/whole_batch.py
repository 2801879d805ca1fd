"""What batches that are drawn whole have in common."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TypeVar

import torch

from bundle.errors import TrainingError

Whole = TypeVar("Whole", bound="WholeBatch")


class WholeBatch:
    """The part of ``Batch`` that hangs on no field but ``draws`` and ``step``; for dataclasses of tensors."""

    def to(self: Whole, device: torch.device | str) -> Whole:
        """The batch on another device; the draw number stays where it can be read without waiting."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name not in ("draws", "step")}
        return replace(self, **moved)

    def split(self: Whole, parts: int) -> list[Whole]:
        """The batch in pieces.

        Raises:
            TrainingError: for more than one: a batch that is too large is better drawn smaller.
        """
        if parts != 1:
            raise TrainingError(
                f"batched training does not divide a batch, got accumulation {parts}; take 1 and a smaller batch_size"
            )
        return [self]
