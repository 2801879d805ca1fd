"""A volume as a slice model sees it: its slices along an axis, each with the contract's intensity views."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from bundle.data.volume import Volume
from bundle.interactive.segmentation import Segmentation, Timer
from bundle.interactive.slice_model import SliceMask, SlicePredictor, SlicePrompt, SliceView
from bundle.prompts.prompts import ObjectPrompts
from bundle.transforms.frames import SliceFrame


class VolumeSlices:
    """The slices of a volume before a slice model.

    Args:
        volume: the image.
        predictor: the model.
    """

    def __init__(self, volume: Volume, predictor: SlicePredictor) -> None:
        self.volume, self.predictor = volume, predictor
        self.intensity = predictor.contract.intensity(volume.array, volume.modality)

    def frame(self, axis: int) -> SliceFrame:
        """The slices along a stored axis."""
        return SliceFrame.along(self.volume.shape, self.volume.affine, axis)

    def ask(self, frame: SliceFrame, index: int, prompt: SlicePrompt, timer: Timer) -> SliceMask:
        """The answer to a prompt on a slice."""
        started = time.perf_counter()
        picture = frame.extract(self.volume.array, index)
        view = SliceView(picture, self.intensity, frame.pixel_spacing(self.volume.spacing))
        answer = self.predictor.predict(view, prompt)
        timer.add(answer, time.perf_counter() - started)
        return answer

    def segmentation(self, answers: Mapping[int, SliceMask], frame: SliceFrame, timer: Timer) -> Segmentation:
        """The answers on some slices, put into the volume."""
        mask = np.zeros(self.volume.shape, dtype=bool, order="F")  # as files store it: saving is several times as fast
        for index, answer in answers.items():
            frame.insert(mask, index, answer.mask)
        scores = {index: answers[index].iou for index in sorted(answers)}
        return Segmentation(mask, scores, frame.slice_axis, timer.total(), timer.encoded)


def slice_range(prompts: ObjectPrompts, frame: SliceFrame) -> tuple[int, int]:
    """First and last slice of the box, or of the points where there is no box."""
    where = prompts.points if prompts.box is None else prompts.box
    _, indices = frame.to_pixels(where)
    return int(indices.min()), int(indices.max())


def box_on_slice(prompts: ObjectPrompts, frame: SliceFrame) -> np.ndarray | None:
    """The box seen along the slices: (4,) pixels (x0, y0, x1, y1)."""
    if prompts.box is None:
        return None
    corners, _ = frame.to_pixels(prompts.box)
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])


def prompts_of_slices(prompts: ObjectPrompts, frame: SliceFrame) -> dict[int, SlicePrompt]:
    """What each slice is asked: its points, and the box on every slice with a foreground point or that it is flat on.

    A slice that has background points alone is left out: there is nothing to segment on it.
    """
    xy, indices = frame.to_pixels(prompts.points)
    box = box_on_slice(prompts, frame)
    first, last = slice_range(prompts, frame)
    if prompts.box is None:
        wanted = set(indices[prompts.point_labels == 1].tolist())
    elif first == last:
        wanted = {first, *indices[prompts.point_labels == 1].tolist()}
    else:
        wanted = set(indices.tolist())
    asked = {}
    for index in sorted(wanted):
        here = indices == index
        inside = box is not None and first <= index <= last
        asked[index] = SlicePrompt(xy[here], prompts.point_labels[here], box if inside else None)
    return asked
