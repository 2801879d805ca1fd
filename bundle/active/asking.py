"""How a model is asked about an image without a user, and what its answers say of it.

Each structure is asked where labelled images have it, several times with boxes as far apart as theirs lie. Where no
image is labelled yet, points on a grid ask for whatever is there. The answers to one question are a committee (Seung et
al. 1992), whose mean is the probability that a pixel belongs to the object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bundle.active.everything import everything
from bundle.active.places import Place, content_box
from bundle.data.volume import Volume
from bundle.interactive.segmentation import Timer
from bundle.interactive.slice_model import SliceMask, SlicePredictor
from bundle.interactive.volume_slices import VolumeSlices
from bundle.prompts.simulation import tight_box
from bundle.prompts.slice_prompts import SlicePrompt
from bundle.transforms.frames import SliceFrame, nearest_index

ANYTHING = "object"
"""What is asked for where nothing is known: whatever a point lies on."""
_AXIS = 2  # the clients' slices
_SHARES = (0.5, 0.25, 0.75)  # of a structure's extent across the slices: where it is asked
_GRID = 3  # points along each side of what an image shows

Progress = Callable[[], object]
"""Called before each question; what it raises ends the asking."""


@dataclass(frozen=True, eq=False)
class Committee:
    """The answers to one question on one slice.

    Attributes:
        name: of the structure, or ``ANYTHING``.
        index: of the slice along the third stored axis.
        probabilities: (K, H, W) float32, of each answer.
        predicted_iou: of each answer, 0 to 1.
    """

    name: str
    index: int
    probabilities: np.ndarray
    predicted_iou: Sequence[float]

    @property
    def mean(self) -> np.ndarray:
        """(H, W): the probability that a pixel belongs to the object."""
        return self.probabilities.mean(axis=0)


def ask(
    volume: Volume,
    predictor: SlicePredictor,
    places: Mapping[str, Place],
    *,
    members: int = 4,
    seed: int = 0,
    progress: Progress = lambda: None,
) -> list[Committee]:
    """Ask for each structure where it should be; without any, for whatever is there.

    Args:
        volume: the image.
        predictor: the model of slices.
        places: name -> where labelled images have it.
        members: K, boxes of a question.
        seed: of the boxes.
        progress: before each question.
    """
    slices = VolumeSlices(volume, predictor)
    frame = slices.frame(_AXIS)
    asker = _Asker(slices, frame, progress)
    if not places:
        return asker.anything()
    rng = np.random.default_rng(seed)
    return [one for name, place in places.items() for one in asker.structure(name, place, members, rng)]


class _Asker:
    """One image before a model."""

    def __init__(self, slices: VolumeSlices, frame: SliceFrame, progress: Progress) -> None:
        self._slices, self._frame, self._progress = slices, frame, progress

    def structure(self, name: str, place: Place, members: int, rng: np.random.Generator) -> Iterator[Committee]:
        volume = self._slices.volume
        low, high = place.box_in(volume)[:, _AXIS]
        boxes = place.boxes_in(volume, members, rng)
        for index in dict.fromkeys(
            int(nearest_index(low + share * (high - low), self._frame.depth)) for share in _SHARES
        ):
            answers = [self._answer(index, self._box(box, index)) for box in boxes]
            yield _committee(name, index, answers)

    def anything(self) -> list[Committee]:
        """What points on a grid find, each with the answer to its own box."""
        first, last = content_box(self._slices.volume)
        index = int(nearest_index((first[_AXIS] + last[_AXIS]) / 2, self._frame.depth))
        answers = everything(self._slices, self._frame, index, side=_GRID, progress=self._progress)
        again = [self._answer(index, tight_box(answer.mask).astype(float)) for answer in answers]
        return [_committee(ANYTHING, index, pair) for pair in zip(answers, again, strict=True)]

    def _box(self, corners: np.ndarray, index: int) -> np.ndarray:
        """(4,): the box (x0, y0, x1, y1) of a volume's box on a slice."""
        on_slice = np.array(corners)
        on_slice[:, _AXIS] = index
        pixels, _ = self._frame.to_pixels(on_slice)
        return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])

    def _answer(self, index: int, box: np.ndarray) -> SliceMask:
        self._progress()
        return self._slices.ask(self._frame, index, SlicePrompt(box=box), Timer(), honoured=False)


def _committee(name: str, index: int, answers: Sequence[SliceMask]) -> Committee:
    probabilities = np.stack([torch.sigmoid(answer.slice_logits())[0, 0].numpy() for answer in answers])
    return Committee(name, index, probabilities, [float(np.clip(answer.iou, 0, 1)) for answer in answers])
