"""A volume before a model: what is prepared of both once, and what was answered in a session already."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

import bundle
from bundle.data.volume import Volume
from bundle.errors import PromptError
from bundle.interactive.answer_memory import Answered, Key, Memory
from bundle.interactive.answer_options import NO_OPTIONS, AnswerOptions
from bundle.interactive.propagation import PropagationRule
from bundle.interactive.segmentation import Segmentation, Timer
from bundle.interactive.slice_following import SliceFollowing
from bundle.interactive.slice_model import SliceMask, SlicePredictor, SlicePrompt
from bundle.interactive.volume_model import Progress, VolumeModel
from bundle.interactive.volume_slices import VolumeSlices
from bundle.prompts.on_slices import prompts_of_slices, slice_range
from bundle.prompts.prompts import ObjectPrompts
from bundle.transforms.frames import SliceFrame


class PromptedVolume:
    """A volume before a model; any number of sessions share it.

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
        self._volume_model = volume_model or SliceFollowing(predictor, rule=rule)
        self._state = self._volume_model.start(volume)
        shared = isinstance(self._state, VolumeSlices) and self._state.predictor is predictor
        self._slices = self._state if shared else VolumeSlices(volume, predictor)

    @property
    def slices(self) -> VolumeSlices:
        """Its slices before the model of slices."""
        return self._slices

    @functools.cached_property
    def identity(self) -> str:
        """Tells this model from one that may answer otherwise, also for what computes it and how exactly."""
        model = self.predictor
        about = f"{bundle.__version__} {model.computation} {model.contract} {self._volume_model.identity}"
        return hashlib.sha256(about.encode()).hexdigest()[:16]

    def frame(self, axis: int) -> SliceFrame:
        """The slices of the volume along a stored axis."""
        return self._slices.frame(axis)

    def validated(self, prompts: ObjectPrompts) -> ObjectPrompts:
        """The prompts as they fit the volume.

        Raises:
            PromptError: they do not.
        """
        return prompts.validated(self.volume.shape, affine=self.volume.affine)

    def segment_slice(
        self,
        key: Key,
        prompts: ObjectPrompts,
        memory: Memory,
        *,
        axis: int,
        options: AnswerOptions = NO_OPTIONS,
    ) -> Segmentation:
        """Segment an object on the slices that its prompts lie on; see ``InteractiveSession.segment_slice``."""
        timer, frame, prompts = Timer(), self.frame(axis), self.validated(prompts)
        asked = self._asked(prompts, frame)
        answers = {index: self._continue(key, frame, index, p, memory, timer) for index, p in asked.items()}
        answers = {index: self._cleaned_slice(a, frame, asked[index], options) for index, a in answers.items()}
        return self._slices.segmentation(answers, frame, timer)

    def segment_volume(
        self,
        key: Key,
        prompts: ObjectPrompts,
        memory: Memory,
        *,
        axis: int,
        options: AnswerOptions = NO_OPTIONS,
        progress: Progress | None = None,
    ) -> Segmentation:
        """Segment an object through the volume; see ``InteractiveSession.segment_volume``."""
        last, previous = memory.volume or (key, None)
        previous = previous if last == key else None
        options, prompts = options.validated(self.volume.shape), self.validated(prompts)
        found = self._volume_model.predict(
            self._state, prompts, previous, axis=axis, progress=progress, limits=options.along(axis)
        )
        memory.volume = key, found
        return replace(found.segmentation, mask=self._cleaned(found.segmentation, prompts, options))

    def answer_chain(
        self,
        key: Key,
        chain: Sequence[ObjectPrompts],
        memory: Memory,
        *,
        axis: int,
        index: int,
        timer: Timer,
        options: AnswerOptions = NO_OPTIONS,
    ) -> SliceMask:
        """The answer on one slice to prompts that continue each other: each goes along with the answer before it.

        Args:
            key: of the object.
            chain: prompts on this slice alone, each with more interactions than those before it.
            memory: of the session; what it does not hold, as after a restart or without room, is asked again.
            axis: stored axis of the slice.
            index: of the slice.
            timer: of the request.
            options: how the answer is cleaned.

        Raises:
            PromptError: prompts that cannot be used, or that leave nothing to ask on the slice.
        """
        frame, wanted = self.frame(axis), []
        for prompts in chain:
            prompt = self._asked(self.validated(prompts), frame).get(index)
            if prompt is None:
                raise PromptError(f"nothing on the object lies on slice {index}; add a foreground point or a box there")
            if not wanted or not _same(prompt, wanted[-1]):
                wanted.append(prompt)
        history = memory.on_slice(key, axis, index)
        known = 0
        while known < min(len(history), len(wanted)) and _same(wanted[known], history[known].prompt):
            known += 1
        while known and history[known - 1].answer is None:
            known -= 1
        del history[known:]
        answer = history[-1].answer if history else None
        for prompt in wanted[known:]:
            answer = self._slices.ask(frame, index, replace(prompt, previous=answer), timer)
            history.append(Answered(prompt, answer))
        memory.trim()
        return self._cleaned_slice(answer, frame, wanted[-1], options)

    def _cleaned(self, found: Segmentation, prompts: ObjectPrompts, options: AnswerOptions) -> np.ndarray:
        """(I, J, K) bool of an answer through the volume, within its limits, on the slices that were answered."""
        mask = found.mask
        if options.cleans:
            drawn = np.zeros_like(mask)
            for one in prompts.interactions:
                one.mark(drawn, mask.shape)
            unanswered = np.setdiff1d(np.arange(mask.shape[found.axis]), list(found.scores))
            mask = options.cleaned(mask, self.volume.spacing, drawn)
            mask[tuple(unanswered if axis == found.axis else slice(None) for axis in range(3))] = False
        return options.within_limits(mask)

    def _cleaned_slice(
        self, answer: SliceMask, frame: SliceFrame, prompt: SlicePrompt, options: AnswerOptions
    ) -> SliceMask:
        """The answer on a slice, cleaned by itself."""
        options = options.validated(self.volume.shape)
        if not options.cleans:
            return answer
        named = [one for one in prompt.interactions if one.kind != "box" or not one.positive]
        drawn = np.zeros_like(answer.mask)
        for one in named:
            drawn |= one.pixels(*drawn.shape)
        spacing = (1.0, *frame.pixel_spacing(self.volume.spacing))
        return replace(answer, mask=options.cleaned(answer.mask[None], spacing, drawn[None])[0])

    def _asked(self, prompts: ObjectPrompts, frame: SliceFrame) -> dict[int, SlicePrompt]:
        asked = prompts_of_slices(prompts, frame)
        if not asked:
            low, high = slice_range(prompts, frame)
            raise PromptError(
                f"the box covers slices {low} to {high}; a 2D prompt needs one slice, so make the box one voxel "
                "thick along the slice axis, add a point, or segment in 3D"
            )
        return asked

    def _continue(
        self, key: Key, frame: SliceFrame, index: int, prompt: SlicePrompt, memory: Memory, timer: Timer
    ) -> SliceMask:
        """Ask with the answer that these prompts continue, and remember this one."""
        history = memory.on_slice(key, frame.slice_axis, index)
        while history and (history[-1].answer is None or not prompt.continues(history[-1].prompt)):
            history.pop()
        previous = history[-1].answer if history else None
        if previous is not None and _same(prompt, history[-1].prompt):
            return previous
        answer = self._slices.ask(frame, index, replace(prompt, previous=previous), timer)
        history.append(Answered(prompt, answer))
        memory.trim()
        return answer


def _same(prompt: SlicePrompt, other: SlicePrompt) -> bool:
    """Whether two prompts say the same, whatever was answered before."""
    return prompt.continues(other) and other.continues(prompt)
