"""A session before its model: what is asked, and what is answered without becoming a step."""

from __future__ import annotations

import time
from itertools import groupby
from typing import Any, TypeVar

import numpy as np

from bundle.data.volume import Volume
from bundle.engines.interruption import Idle, holding
from bundle.errors import SessionError
from bundle.interactive.answer_memory import Memory
from bundle.interactive.answer_options import NO_OPTIONS, AnswerOptions
from bundle.interactive.answers import Answers, Asked
from bundle.interactive.journal import Journal
from bundle.interactive.measures import object_measures
from bundle.interactive.objects import Scope
from bundle.interactive.prompted_volume import PromptedVolume
from bundle.interactive.propagation import PropagationRule
from bundle.interactive.recorded_session import RecordedSession
from bundle.interactive.segmentation import Segmentation
from bundle.interactive.slice_model import SlicePredictor
from bundle.interactive.steps import Draft
from bundle.interactive.update import Update
from bundle.interactive.volume_model import Progress, VolumeModel
from bundle.interactive.volume_slices import VolumeSlices
from bundle.prompts.prompts import ObjectPrompts
from bundle.transforms.frames import SliceFrame

Session = TypeVar("Session", bound="ModelSession")  # typing.Self is of Python 3.11


class ModelSession(RecordedSession):
    """A volume before a model, and the objects of it.

    Args:
        volume: the image.
        predictor: the model of slices.
        volume_model: answers through the volume; by default the model of slices, which follows the object.
        rule: of that following.
        journal: keeps the session on disk; what it holds already is restored, without asking the model.

    Raises:
        JournalError: the journal cannot be used.
    """

    def __init__(
        self,
        volume: Volume,
        predictor: SlicePredictor,
        *,
        volume_model: VolumeModel | None = None,
        rule: PropagationRule | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._begin(PromptedVolume(volume, predictor, volume_model=volume_model, rule=rule), journal)

    def for_user(self: Session, journal: Journal | None = None) -> Session:
        """A session of another user on the same image and model; it shares what was prepared of them, nothing else."""
        other = type(self).__new__(type(self))
        other._begin(self._image, journal)
        return other

    def answer_with(self, other: ModelSession, *, idle: Idle = time.sleep) -> None:
        """Let the model of another session on the same image answer from now on, as after a training.

        Objects, masks, steps and journal stay as they are, and so does what the model before has said, until an
        interaction asks anew: then all interactions of its object are asked of the new one.

        Args:
            other: the session.
            idle: waits some seconds for a step that is being computed, see ``wait_until``.

        Raises:
            SessionError: the other image has another shape.
        """
        if other.volume.shape != self.volume.shape:
            raise SessionError(f"the image has {self.volume.shape} voxels, the other session's {other.volume.shape}")
        if self._image is other._image:  # nearly always; who asks does not wait for a step that is being computed
            return
        with holding(self._lock, idle=idle):
            self._image, self._memory, self._answers = other._image, Memory(), Answers(other._image)

    def _begin(self, image: PromptedVolume, journal: Journal | None) -> None:
        self._image, self._memory, self._answers = image, Memory(), Answers(image)
        super().__init__(image.volume.shape, journal)

    @property
    def volume(self) -> Volume:
        """The image."""
        return self._image.volume

    @property
    def predictor(self) -> SlicePredictor:
        """The model of slices."""
        return self._image.predictor

    @property
    def slices(self) -> VolumeSlices:
        """The volume's slices before the model, such as for ``precompute``."""
        return self._image.slices

    def frame(self, axis: int) -> SliceFrame:
        """The slices of the volume along a stored axis."""
        return self._image.frame(axis)

    # ---- answers that change nothing --------------------------------------------------------------------------------

    def segment_slice(
        self, prompts: ObjectPrompts, *, axis: int = 2, options: AnswerOptions = NO_OPTIONS
    ) -> Segmentation:
        """Segment an object on the slices that its prompts lie on, without making it part of the session.

        All prompts of an object are given each time. Where they continue an earlier request (its points come first, the
        box is the same), the earlier answer goes along as a mask prompt, as in training; otherwise the object starts
        anew, as it does after so many others that the answer was not kept (``answer_memory.Memory``). What was asked
        already is not computed again.

        Args:
            prompts: of one object, in voxel index.
            axis: stored axis that slices are stacked along; 2 is what Slicer calls K.
            options: how the answer is cleaned.

        Raises:
            PromptError: for prompts that cannot be used; among them a box of several slices without a point that says
                which of them is meant.
        """
        with self._lock:
            return self._image.segment_slice(prompts.name, prompts, self._memory, axis=axis, options=options)

    def segment_volume(
        self,
        prompts: ObjectPrompts,
        *,
        axis: int = 2,
        options: AnswerOptions = NO_OPTIONS,
        progress: Progress | None = None,
    ) -> Segmentation:
        """Segment an object through the volume, without making it part of the session.

        Every point is an interaction of its own: it corrects the answer to those before it, also where several come
        with the first request. So the same prompts in the same order always give the same answer, and taking a point
        back gives the answer from before it.

        Args:
            prompts: of one object, in voxel index.
            axis: stored axis to travel along.
            options: how the answer is bounded and cleaned.
            progress: called before every slice that is asked, of some more than once; see ``HowFar``.

        Raises:
            PromptError: for prompts that cannot be used.
        """
        with self._lock:
            return self._image.segment_volume(
                prompts.name, prompts, self._memory, axis=axis, options=options, progress=progress
            )

    def statistics(self, name: str, *, axis: int = 2) -> dict[str, Any]:
        """What would be measured of an object as it is shown; see ``object_measures``.

        Args:
            name: of the object.
            axis: stored axis of the slices of long and short axis.

        Returns:
            ``ml``, axes in ``..._mm``, ``slice``, ``mean``, ``std``, and ``predicted_iou``, the mean over the slices
            that the model answered; None without any.

        Raises:
            SessionError: there is no such object.
        """
        with self._lock:
            said = [iou for found in self.object(name).predicted_iou.values() for iou in found.values()]
            iou = round(float(np.mean(said)), 4) if said else None
            return object_measures(self.segmentation(name).mask, self.volume, axis=axis) | {"predicted_iou": iou}

    def reset(self, name: str | None = None) -> Update:
        """As ``RecordedSession.reset``; also forgets what ``segment_slice`` and ``segment_volume`` answered."""
        with self._lock:
            self._forget(name)
            return super().reset(name)

    def remove_object(self, name: str) -> Update:
        """As ``RecordedSession.remove_object``; also forgets what was answered of it."""
        with self._lock:
            self._forget(name)
            return super().remove_object(name)

    def _forget(self, name: str | None) -> None:
        """Forget the answers of an object, by its name and by its id, or all answers."""
        ids = [one.id for one in self.objects if one.name == name]
        self._memory.forget(*(() if name is None else (name, *ids)))

    # ---- parts of a step --------------------------------------------------------------------------------------------

    def _finish(
        self, draft: Draft, key: int, scopes: list[Scope], progress: Progress | None, *, taken_back: bool = False
    ) -> Update:
        """Answer the scopes that are not answered as they are now, and make it a step.

        Where an interaction was taken back and nothing is left to ask, the mask is that which the object began with.
        """
        one, shape = draft.of(key), self.volume.shape
        wanted = [scope for scope in scopes if not one.answered(scope, shape, self._image.identity)]
        unasked = [scope for scope in wanted if not one.can_ask(one.of_scope(scope, shape))]
        asked = Asked()
        if unasked and (taken_back or one.base):
            wanted = [scope for scope in wanted if scope not in unasked]
            asked = self._answers.unasked(draft, key, unasked) if taken_back else asked
        for (axis, in_volume), together in groupby(wanted, key=lambda scope: (scope[0], scope[1] is None)):
            if in_volume:
                found = self._answers.through_volume(draft, key, self._memory, axis=axis, progress=progress)
            else:
                slices = [index for _, index in together]
                found = self._answers.on_slices(draft, key, self._memory, axis=axis, slices=slices)
            asked = asked.then(found) if asked.predicted else found
        return self._commit(draft, **vars(asked))
