"""A training step's batch, made of samples that were drawn one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor


class Sample(NamedTuple):
    """One image with what is known about it; a stack of D slices has D behind the channel axis.

    Attributes:
        image: (3, S, S) or (3, D, S, S) float32 network input.
        masks: (K, S, S) bool, the objects to ask for; none of a stack.
        labels: (S, S) or (D, S, S) int16 label map in the model square.
        annotated: the label values that somebody looked for, None for all.
        draw: the draw number.
        patient: who it shows.
        window: whether it shows the window around an object, as a box is answered in use, instead of the whole slice.
    """

    image: Tensor
    masks: Tensor
    labels: Tensor
    annotated: tuple[int, ...] | None
    draw: int
    patient: str
    window: bool = False


@dataclass
class SampleBatch:
    """Images with the objects to segment in them.

    Attributes:
        images: (B, 3, S, S) float32 network input, of stacks (B, 3, D, S, S).
        masks: (N, S, S) bool, one object each.
        image_index: (N,) long, the image that each object is in.
        draws: (B,) long, the draw numbers, from which simulated prompts take their seed.
        labels: (B, S, S) or (B, D, S, S) int16 label maps.
        annotated: per image, the label values that somebody looked for, None for all.
        patients: per image, who it shows.
        windows: (B,) bool, whether an image shows the window around an object.
        step: number of the training step, from 1; the trainer sets it.
    """

    images: Tensor
    masks: Tensor
    image_index: Tensor
    draws: Tensor
    labels: Tensor
    annotated: tuple[tuple[int, ...] | None, ...]
    patients: tuple[str, ...]
    windows: Tensor
    step: int = 0

    def to(self, device: torch.device | str) -> SampleBatch:
        """The batch on another device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return SampleBatch(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in values.items()})

    def split(self, parts: int) -> list[SampleBatch]:
        """The batch in at most ``parts`` pieces of consecutive images."""
        return [self._of(chosen) for chosen in self._every_image().chunk(parts)]

    def by_view(self) -> list[SampleBatch]:
        """The images that show windows, and those that show whole slices; without what there is none of."""
        return [self._of(chosen) for view in (self.windows, ~self.windows) if len(chosen := self._every_image()[view])]

    def _every_image(self) -> Tensor:
        return torch.arange(len(self.images), device=self.image_index.device)

    def _of(self, chosen: Tensor) -> SampleBatch:
        """The images of these numbers, which ascend, with their objects."""
        objects = torch.isin(self.image_index, chosen)
        numbers = chosen.tolist()
        return SampleBatch(
            self.images[chosen],
            self.masks[objects],
            torch.searchsorted(chosen, self.image_index[objects]),
            self.draws[chosen],
            self.labels[chosen],
            tuple(self.annotated[i] for i in numbers),
            tuple(self.patients[i] for i in numbers),
            self.windows[chosen],
            self.step,
        )


def collate(samples: Sequence[Sample]) -> SampleBatch:
    """Join samples with different numbers of objects."""
    images, masks, labels, annotated, draws, patients, windows = zip(*samples, strict=True)
    index = torch.repeat_interleave(torch.arange(len(masks)), torch.tensor([len(m) for m in masks]))
    return SampleBatch(
        torch.stack(images),
        torch.cat(masks),
        index,
        torch.tensor(draws),
        torch.stack(labels),
        annotated,
        patients,
        torch.tensor(windows),
    )
