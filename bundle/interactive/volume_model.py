"""What answers prompts through a volume: following slice by slice, a network of volumes, or one with a memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from bundle.data.volume import Volume
from bundle.interactive.segmentation import Segmentation
from bundle.prompts.prompts import ObjectPrompts


@dataclass(frozen=True)
class HowFar:
    """What is about to be asked for an object, and how far its answer is.

    Attributes:
        index: of the slice, or of the one in the middle of a cube that a network of volumes looks at.
        slices: different slices that were asked so far, this one included. A slice that is asked once more does not
            count again, and a cube is no slice.
        of: slices that may have to be asked at most: those of the volume, within the limits, of a 3D box. None where no
            slices are asked, but cubes.
    """

    index: int
    slices: int
    of: int | None


Progress = Callable[[HowFar], object]
"""Called before every slice or cube that is asked; what it raises ends the answer."""


Look = Callable[[int], object]
"""Called before every cube that is looked at, with the index of the slice in its middle."""


def not_told(index: int) -> None:
    """The ``Look`` of whoever wants to know nothing of it."""


class Teller:
    """Tells a ``Progress`` how far the answer for one object is.

    Args:
        progress: is told; None tells nobody.
        of: see ``HowFar``.
    """

    def __init__(self, progress: Progress | None, of: int | None) -> None:
        self._progress, self._of = progress, of
        self._asked: set[int] = set()

    def slice(self, index: int) -> None:
        """A slice is asked."""
        self._asked.add(index)
        self.cube(index)

    def cube(self, index: int) -> None:
        """A cube is looked at, with this slice in its middle."""
        if self._progress is not None:
            self._progress(HowFar(index, len(self._asked), self._of))


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
            progress: told how far it is.
            limits: first and last slice that the object may lie on, both included; None for all.

        Raises:
            PromptError: prompts that cannot be used.
        """
        ...
