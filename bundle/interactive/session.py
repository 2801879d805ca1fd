"""One image that is being worked on: prompts in voxel index in, masks on the image's own grid out."""

from __future__ import annotations

import threading
from dataclasses import replace

from bundle.data.volume import Volume
from bundle.interactive.propagation import PropagationRule
from bundle.interactive.segmentation import Segmentation, Timer
from bundle.interactive.slice_following import SliceFollowing
from bundle.interactive.slice_model import SliceMask, SlicePredictor, SlicePrompt
from bundle.interactive.volume_model import Progress, VolumeModel, VolumePrediction
from bundle.interactive.volume_slices import VolumeSlices, prompts_of_slices, slice_range
from bundle.prompts.prompts import ObjectPrompts, PromptError
from bundle.transforms.frames import SliceFrame


class InteractiveSession:
    """A volume with the answers given so far. Safe to use from many threads: requests wait for each other.

    A client sends all prompts of an object with every request. Where they continue an earlier request (its points come
    first, the box is the same), the earlier answer goes along as a mask prompt, as in training; otherwise the object
    starts anew. In a volume every point is an interaction of its own: it corrects the answer to those before it, also
    where several come with the first request. So the same prompts in the same order always give the same answer, and
    taking a point back gives the answer from before it. What was asked already is not computed again.

    Args:
        volume: the image.
        predictor: the model of slices.
        volume_model: answers through the volume; by default the model of slices, which follows the object.
        rule: of that following.
    """

    def __init__(
        self,
        volume: Volume,
        predictor: SlicePredictor,
        *,
        volume_model: VolumeModel | None = None,
        rule: PropagationRule | None = None,
    ) -> None:
        self.volume, self.predictor = volume, predictor
        self._slices = VolumeSlices(volume, predictor)
        self._volume_model = volume_model or SliceFollowing(predictor, rule=rule)
        self._state = self._slices if volume_model is None else volume_model.start(volume)
        self._history: dict[tuple[str, int, int], list[tuple[SlicePrompt, SliceMask]]] = {}
        # Of one object only: a model's memory may hold a mask and logits of every slice.
        self._last: tuple[str, VolumePrediction] | None = None
        self._lock = threading.Lock()

    def segment_slice(self, prompts: ObjectPrompts, *, axis: int = 2) -> Segmentation:
        """Segment an object on the slices that its prompts lie on.

        Args:
            prompts: of one object, in voxel index.
            axis: stored axis that slices are stacked along; 2 is what Slicer calls K.

        Raises:
            PromptError: for prompts that cannot be used; among them a box of several slices without a point that says
                which of them is meant.
        """
        with self._lock:
            timer = Timer()
            frame = self.frame(axis)
            prompts = prompts.validated(self.volume.shape, affine=self.volume.affine)
            asked = prompts_of_slices(prompts, frame)
            if not asked:
                low, high = slice_range(prompts, frame)
                raise PromptError(
                    f"the box covers slices {low} to {high}; a 2D prompt needs one slice, so make the box one voxel "
                    "thick along the slice axis, add a point, or segment in 3D"
                )
            answers = {index: self._ask_again(prompts.name, frame, index, p, timer) for index, p in asked.items()}
            return self._slices.segmentation(answers, frame, timer)

    def segment_volume(
        self, prompts: ObjectPrompts, *, axis: int = 2, progress: Progress | None = None
    ) -> Segmentation:
        """Segment an object through the volume.

        Args:
            prompts: of one object, in voxel index.
            axis: stored axis to travel along.
            progress: called with the index of every slice that is asked, of some more than once.

        Raises:
            PromptError: for prompts that cannot be used.
        """
        with self._lock:
            prompts = prompts.validated(self.volume.shape, affine=self.volume.affine)
            name, previous = self._last or ("", None)
            previous = previous if name == prompts.name else None
            found = self._volume_model.predict(self._state, prompts, previous, axis=axis, progress=progress)
            self._last = prompts.name, found
            return found.segmentation

    def reset(self, name: str | None = None) -> None:
        """Forget the answers given for one object, or for all."""
        with self._lock:
            self._history = {key: value for key, value in self._history.items() if name is not None and key[0] != name}
            if self._last is not None and name in (None, self._last[0]):
                self._last = None

    def frame(self, axis: int) -> SliceFrame:
        """The slices of the volume along a stored axis."""
        return self._slices.frame(axis)

    def _ask_again(self, name: str, frame: SliceFrame, index: int, prompt: SlicePrompt, timer: Timer) -> SliceMask:
        """Ask with the answer that these prompts continue, and remember this one."""
        history = self._history.setdefault((name, frame.slice_axis, index), [])
        while history and not prompt.continues(history[-1][0]):
            history.pop()
        previous = history[-1][1] if history else None
        if history and history[-1][0].continues(prompt):
            return previous
        answer = self._slices.ask(frame, index, replace(prompt, previous=previous), timer)
        history.append((prompt, answer))
        return answer
