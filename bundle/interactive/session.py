"""One image that is being worked on by one user: a list of events, and what they lead to."""

from __future__ import annotations

from collections.abc import Sequence

from bundle.data.volume import Volume
from bundle.errors import SessionError
from bundle.interactive import events as happened
from bundle.interactive.answers import Answers, Asked, edits, scopes_of
from bundle.interactive.journal import Journal
from bundle.interactive.objects import Scope, lies_on, named
from bundle.interactive.prompted_volume import Memory, PromptedVolume
from bundle.interactive.propagation import PropagationRule
from bundle.interactive.recorded_session import RecordedSession
from bundle.interactive.segmentation import Segmentation
from bundle.interactive.slice_model import SlicePredictor
from bundle.interactive.steps import Draft
from bundle.interactive.update import Update
from bundle.interactive.volume_model import Progress, VolumeModel
from bundle.prompts.interactions import Interaction
from bundle.prompts.prompts import ObjectPrompts
from bundle.transforms.frames import SliceFrame


class InteractiveSession(RecordedSession):
    """A volume, its objects, and what was done to them. Safe to use from many threads: requests wait for each other.

        session = bundle.open("ct.nii.gz")
        session.add(bundle.Point((93, 52, 38)), object="liver")
        session.lock("liver")
        session.add(bundle.Box(((62, 23, 21), (109, 82, 50))), object="spleen")
        session.undo()
        labels = session.labels

    Each method that changes something is one step, which ``undo`` takes back bit for bit, and which is on the disk
    before the method returns, where there is a journal. One that raises leaves the session as it was. What is on the
    screen is a function of image, model and events; ``segment_slice`` and ``segment_volume`` answer without an event.

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

    def for_user(self, journal: Journal | None = None) -> InteractiveSession:
        """A session of another user on the same image and model; it shares what was prepared of them, nothing else."""
        other = type(self).__new__(type(self))
        other._begin(self._image, journal)
        return other

    def answer_with(self, other: InteractiveSession) -> None:
        """Let the model of another session on the same image answer from now on, as after a training.

        Objects, masks, steps and journal stay as they are, and so does what the model before has said, until an
        interaction asks anew: then all interactions of its object are asked of the new one.

        Raises:
            SessionError: the other image has another shape.
        """
        if other.volume.shape != self.volume.shape:
            raise SessionError(f"the image has {self.volume.shape} voxels, the other session's {other.volume.shape}")
        with self._lock:
            if self._image is not other._image:
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

    def frame(self, axis: int) -> SliceFrame:
        """The slices of the volume along a stored axis."""
        return self._image.frame(axis)

    # ---- answers that change nothing --------------------------------------------------------------------------------

    def segment_slice(self, prompts: ObjectPrompts, *, axis: int = 2) -> Segmentation:
        """Segment an object on the slices that its prompts lie on, without making it part of the session.

        All prompts of an object are given each time. Where they continue an earlier request (its points come first, the
        box is the same), the earlier answer goes along as a mask prompt, as in training; otherwise the object starts
        anew. What was asked already is not computed again.

        Args:
            prompts: of one object, in voxel index.
            axis: stored axis that slices are stacked along; 2 is what Slicer calls K.

        Raises:
            PromptError: for prompts that cannot be used; among them a box of several slices without a point that says
                which of them is meant.
        """
        with self._lock:
            return self._image.segment_slice(prompts.name, prompts, self._memory, axis=axis)

    def segment_volume(
        self, prompts: ObjectPrompts, *, axis: int = 2, progress: Progress | None = None
    ) -> Segmentation:
        """Segment an object through the volume, without making it part of the session.

        Every point is an interaction of its own: it corrects the answer to those before it, also where several come
        with the first request. So the same prompts in the same order always give the same answer, and taking a point
        back gives the answer from before it.

        Args:
            prompts: of one object, in voxel index.
            axis: stored axis to travel along.
            progress: called with the index of every slice that is asked, of some more than once.

        Raises:
            PromptError: for prompts that cannot be used.
        """
        with self._lock:
            return self._image.segment_volume(prompts.name, prompts, self._memory, axis=axis, progress=progress)

    # ---- interactions -----------------------------------------------------------------------------------------------

    def add(
        self,
        interaction: Interaction | Sequence[Interaction],
        object: str = "object",
        *,
        dimension: int = 3,
        axis: int = 2,
        predict: bool = True,
        progress: Progress | None = None,
    ) -> Update:
        """Add an interaction, or several at once, to an object, which begins with them where it is not there.

        Args:
            interaction: in voxel indices.
            object: name of the object.
            dimension: 3 answers through the volume, 2 on the slices that the interactions lie on.
            axis: stored axis that slices are stacked along.
            predict: whether the model is asked now; see ``predict``.
            progress: called with the index of every slice that is asked; what it raises stops the step.

        Raises:
            PromptError: an interaction that does not fit the image, or nothing on the object.
            SessionError: the object is locked.
        """
        added = [interaction] if isinstance(interaction, Interaction) else list(interaction)
        with self._draft() as draft:
            key = self._unlocked(draft, object, new=True)
            given = [self._valid(one, object) for one in added]
            for one in given:
                draft.add(happened.Add(key, len(draft.of(key).interactions), one))
            scopes = scopes_of(given, dimension, axis, self.volume.shape) if predict else []
            return self._finish(draft, key, scopes, progress)

    def move(
        self,
        position: int,
        interaction: Interaction,
        object: str = "object",
        *,
        dimension: int = 3,
        axis: int = 2,
        predict: bool = True,
        progress: Progress | None = None,
    ) -> Update:
        """Put another interaction in the place of the one at ``position`` of ``object(name).interactions``.

        In 2D the slices of both are answered. Other arguments and errors as ``add``.
        """
        with self._draft() as draft:
            key, former = self._at(draft, object, position)
            given = self._valid(interaction, object)
            draft.add(happened.Move(key, position, given))
            scopes = scopes_of([former, given], dimension, axis, self.volume.shape) if predict else []
            return self._finish(draft, key, scopes, progress, taken_back=True)

    def remove(
        self,
        position: int,
        object: str = "object",
        *,
        dimension: int = 3,
        axis: int = 2,
        predict: bool = True,
        progress: Progress | None = None,
    ) -> Update:
        """Take the interaction at ``position`` of ``object(name).interactions`` back.

        Where nothing is left on the object, its mask is that which it began with, or none. Other arguments and errors
        as ``add``.
        """
        with self._draft() as draft:
            key, former = self._at(draft, object, position)
            draft.add(happened.Remove(key, position))
            scopes = scopes_of([former], dimension, axis, self.volume.shape) if predict else []
            return self._finish(draft, key, scopes, progress, taken_back=True)

    def predict(
        self,
        object: str = "object",
        *,
        dimension: int = 3,
        axis: int = 2,
        progress: Progress | None = None,
    ) -> Update:
        """Answer the interactions as they are: through the volume, or on every slice that some lie on.

        For those that were added with ``predict=False``, and to carry an object that was segmented on slices through
        the volume. Arguments and errors as ``add``; without anything new the model is not asked.
        """
        with self._draft() as draft:
            key = self._unlocked(draft, object)
            given = draft.of(key).interactions
            return self._finish(draft, key, scopes_of(given, dimension, axis, self.volume.shape), progress)

    def set_prompts(
        self,
        prompts: ObjectPrompts,
        *,
        dimension: int = 3,
        axis: int = 2,
        reset: bool = False,
        progress: Progress | None = None,
    ) -> Update:
        """Make the interactions of an object those of a client that sends them all each time.

        What differs from the last time becomes events, and is answered as ``segment_volume`` or ``segment_slice`` would
        answer the same requests. In 2D, prompts are all that lie on their slices; what lies on others stays. Where
        nothing differs, nothing happens, and what the session shows is the answer.

        Args:
            prompts: of one object; its label in the session is the session's, not theirs.
            dimension: 3 answers through the volume, 2 on the slices that the prompts lie on.
            axis: stored axis that slices are stacked along.
            reset: whether the object starts anew.
            progress: called with the index of every slice that is asked; what it raises stops the step.

        Raises:
            PromptError: prompts that cannot be used.
            SessionError: the object is locked, and something would change.
        """
        prompts, shape = self._image.validated(prompts), self.volume.shape
        with self._draft() as draft:
            scopes = scopes_of(prompts.interactions, dimension, axis, shape)
            known = named(draft.objects, prompts.name)
            key = self._begin_object(draft, prompts.name) if known is None else known.id
            if reset and (draft.of(key).interactions or draft.of(key).base):
                self._reset(draft, self._unlocked(draft, prompts.name))
                self._memory.forget(key)
            for scope in scopes:
                wanted = [one for one in prompts.interactions if scope[1] is None or lies_on(one, *scope, shape)]
                for event in edits(draft.of(key), scope, wanted, shape):
                    draft.add(event)
            scopes = [scope for scope in scopes if not draft.of(key).answered(scope, shape, self._image.identity)]
            if draft.events or scopes:
                self._unlocked(draft, prompts.name)
            return self._finish(draft, key, scopes, progress)

    def reset(self, name: str | None = None) -> Update:
        """As ``RecordedSession.reset``; also forgets what ``segment_slice`` and ``segment_volume`` answered."""
        with self._lock:
            self._memory.forget(name)
            return super().reset(name)

    # ---- parts of a step --------------------------------------------------------------------------------------------

    def _finish(
        self, draft: Draft, key: int, scopes: list[Scope], progress: Progress | None, *, taken_back: bool = False
    ) -> Update:
        """Answer the scopes that are not answered as they are now, and make it a step.

        Where an interaction was taken back and nothing is left to ask, the mask is that which the object began with.
        """
        one, shape, axis = draft.of(key), self.volume.shape, scopes[0][0] if scopes else 2
        wanted = [scope for scope in scopes if not one.answered(scope, shape, self._image.identity)]
        unasked = [scope for scope in wanted if not one.can_ask(one.of_scope(scope, shape))]
        asked = Asked()
        if unasked and (taken_back or one.base):
            wanted = [scope for scope in wanted if scope not in unasked]
            asked = self._answers.unasked(draft, key, unasked) if taken_back else asked
        if (axis, None) in wanted:
            asked = self._answers.through_volume(draft, key, self._memory, axis=axis, progress=progress)
        elif wanted:
            slices = [index for _, index in wanted]
            asked = self._answers.on_slices(draft, key, self._memory, axis=axis, slices=slices)
        return self._commit(draft, **vars(asked))

    def _valid(self, one: Interaction, name: str) -> Interaction:
        return one.validated(self.volume.shape, affine=self.volume.affine, name=name)

    def _at(self, draft: Draft, name: str, position: int) -> tuple[int, Interaction]:
        key = self._unlocked(draft, name)
        given = draft.of(key).interactions
        if not 0 <= position < len(given):
            raise SessionError(f"object {name!r} has {len(given)} interactions, there is none at {position}")
        return key, given[position]
