"""A volume as a slice model sees it: its slices along an axis, each with the contract's intensity views."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property

import numpy as np

from bundle.data.volume import Volume
from bundle.interactive.segmentation import Segmentation, Timer
from bundle.interactive.slice_model import SliceMask, SlicePredictor, SlicePrompt, SliceView
from bundle.transforms.contract import Intensity
from bundle.transforms.frames import SliceFrame


class VolumeSlices:
    """The slices of a volume before a slice model.

    Args:
        volume: the image.
        predictor: the model.
    """

    def __init__(self, volume: Volume, predictor: SlicePredictor) -> None:
        self.volume, self.predictor = volume, predictor

    @cached_property
    def intensity(self) -> Intensity:
        """The contract's views of the volume; of a large MR they take a second."""
        return self.predictor.contract.intensity(self.volume.array, self.volume.modality)

    def frame(self, axis: int) -> SliceFrame:
        """The slices along a stored axis."""
        return SliceFrame.along(self.volume.shape, self.volume.affine, axis)

    def view(self, frame: SliceFrame, index: int) -> SliceView:
        """A slice as the predictor needs it."""
        picture = frame.extract(self.volume.array, index)
        return SliceView(picture, self.intensity, frame.pixel_spacing(self.volume.spacing))

    def ask(
        self, frame: SliceFrame, index: int, prompt: SlicePrompt, timer: Timer, *, honoured: bool = True
    ) -> SliceMask:
        """The answer to a prompt on a slice, as ``SlicePrompt.honoured`` makes it or as the network says."""
        started = time.perf_counter()
        answer = self.predictor.predict(self.view(frame, index), prompt)
        timer.add(answer, time.perf_counter() - started)
        return prompt.honoured(answer) if honoured else answer

    def describe(self, frame: SliceFrame, index: int) -> np.ndarray:
        """What a slice looks like to the network: (C,) float32, see ``SlicePredictor.describe``."""
        return self.predictor.describe(self.view(frame, index))

    def segmentation(self, answers: Mapping[int, SliceMask], frame: SliceFrame, timer: Timer) -> Segmentation:
        """The answers on some slices, put into the volume."""
        mask = np.zeros(self.volume.shape, dtype=bool, order="F")  # as files store it: saving is several times as fast
        for index, answer in answers.items():
            frame.insert(mask, index, answer.mask)
        scores = {index: answers[index].iou for index in sorted(answers)}
        return Segmentation(mask, scores, frame.slice_axis, timer.total(), timer.encoded)
