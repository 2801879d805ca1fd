"""What answers prompts through a volume: following slice by slice, a network of volumes, or one with a memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from bundle.data.volume import Volume
from bundle.interactive.segmentation import Segmentation
from bundle.prompts.prompts import ObjectPrompts

Progress = Callable[[int], None]
"""Called with the index of every slice that was answered."""


@dataclass(frozen=True, eq=False)
class VolumePrediction:
    """What a volume model answers.

    Attributes:
        segmentation: of the object.
        memory: what the model wants to see again with the next prompts of the object; only the model knows what it is.
    """

    segmentation: Segmentation
    memory: Any = None


class VolumeModel(Protocol):
    """Answers the prompts of one object in a volume."""

    @property
    def identity(self) -> str:
        """Tells this model from one that may answer otherwise."""
        ...

    def start(self, volume: Volume) -> Any:
        """Do what is done once per volume; the state that ``predict`` takes."""
        ...

    def predict(
        self,
        state: Any,
        prompts: ObjectPrompts,
        previous: VolumePrediction | None,
        *,
        axis: int = 2,
        progress: Progress | None = None,
        limits: tuple[int, int] | None = None,
    ) -> VolumePrediction:
        """Segment an object through the volume.

        Args:
            state: of ``start``.
            prompts: all prompts of the object so far, valid for the volume, in voxel index.
            previous: the answer to earlier prompts of this object; the answer to the same prompts in the same order
                must not depend on it, only the time that it takes.
            axis: stored axis that slices are stacked along.
            progress: of the slices.
            limits: first and last slice that the object may lie on, both included; None for all.

        Raises:
            PromptError: prompts that cannot be used.
        """
        ...
