"""One image that is being worked on by one user: a list of events, and what they lead to."""

from __future__ import annotations

from collections.abc import Sequence

from bundle.errors import SessionError
from bundle.interactive import events as happened
from bundle.interactive import mask_events
from bundle.interactive.answer_options import AnswerOptions
from bundle.interactive.answers import check_about, edits, scopes_of, with_slices_of
from bundle.interactive.fill import fill_between
from bundle.interactive.model_session import ModelSession
from bundle.interactive.objects import lies_on, named
from bundle.interactive.regions import Region
from bundle.interactive.steps import Draft
from bundle.interactive.update import Update
from bundle.interactive.volume_model import Progress
from bundle.prompts.interactions import Interaction
from bundle.prompts.prompts import ObjectPrompts


class InteractiveSession(ModelSession):
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
            progress: called before every slice that is asked through the volume, see ``HowFar``; what it raises stops
                the step.

        Raises:
            PromptError: an interaction that does not fit the image, or nothing on the object.
            SessionError: the object is locked.
        """
        added = [interaction] if isinstance(interaction, Interaction) else list(interaction)
        check_about(dimension, axis)
        with self._draft() as draft:
            key = self._unlocked(draft, object, new=True)
            given = [self._valid(one, object) for one in added]
            for one in given:
                position = len(draft.of(key).interactions)
                draft.add(happened.Add(key, position, one, along=axis, dimension=dimension))
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
        check_about(dimension, axis)
        with self._draft() as draft:
            key, former = self._at(draft, object, position)
            given = self._valid(interaction, object)
            draft.add(happened.Move(key, position, given, along=axis, dimension=dimension))
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
        check_about(dimension, axis)
        with self._draft() as draft:
            key, former = self._at(draft, object, position)
            draft.add(happened.Remove(key, position, along=axis, dimension=dimension))
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

    def set_options(
        self, options: AnswerOptions, object: str = "object", *, progress: Progress | None = None
    ) -> Update:
        """Bound and clean the answers for an object otherwise: those that it shows, asked again, and later ones.

        Confirmed and filled slices, what was drawn and masks that were given stay as they are.

        Args:
            options: instead of those so far.
            object: name of the object, which begins where it is not there.
            progress: as of ``add``.

        Raises:
            PromptError: options that do not fit the image, or limits that leave nothing of the prompts.
            SessionError: the object is locked.
        """
        options = options.validated(self.volume.shape)
        with self._draft() as draft:
            key = self._unlocked(draft, object, new=True)
            one = draft.of(key)
            if options == one.options:
                return self._commit(draft)
            draft.add(happened.SetOptions(key, options))
            shown = [scope for scope in one.shown if one.can_ask(one.of_scope(scope, self.volume.shape))]
            return self._finish(draft, key, shown, progress)

    def fill_between(self, object: str = "object", *, axis: int = 2) -> Update:
        """Fill the slices between confirmed ones from their shape; see ``fill.fill_between``.

        Like confirmed slices, they stay as they are until something is drawn on them or they are filled again. Where
        something was drawn on them before, ``Update.warnings`` says that it no longer counts. Slices that were
        confirmed or filled along another axis stay where they cross them.

        Args:
            object: name of the object.
            axis: stored axis of the confirmed slices.

        Raises:
            SessionError: fewer than two slices along the axis are confirmed, or the object is locked.
        """
        with self._draft() as draft:
            key = self._unlocked(draft, object)
            known = sorted(index for along, index in draft.of(key).confirmed if along == axis)
            if len(known) < 2:
                raise SessionError(
                    f"object {object!r} has {len(known)} confirmed slices along axis {axis}; confirm the first and the "
                    "last slice of what is to be filled"
                )
            shape, given = self.volume.shape, draft.of(key).interactions
            whole, frame = draft.mask(key).mask(shape), self.frame(axis)
            masks = {index: frame.extract(whole, index) for index in known}
            filled = fill_between(masks, pixel_spacing=frame.pixel_spacing(self.volume.spacing))
            for index, mask in filled.items():
                frame.insert(whole, index, mask)
            if filled:
                crossing = [at for at in draft.of(key).kept if at[0] != axis]
                draft.set_mask(key, with_slices_of(Region.of(whole), draft.mask(key), crossing))
                draft.add(mask_events.Fill(key, axis, tuple(sorted(filled))))
            drawn = [index for index in sorted(filled) if any(lies_on(one, axis, index, shape) for one in given)]
            empty = [index for index in sorted(filled) if not filled[index].any()]
            warnings = (f"what was drawn on slices {drawn} no longer counts there: they are filled",) if drawn else ()
            if empty:
                warnings += (
                    f"nothing is filled on slices {empty}: the object lies beside itself on the confirmed ones around "
                    "them; confirm one there",
                )
            return self._commit(draft, warnings=warnings)

    def set_prompts(
        self,
        prompts: ObjectPrompts,
        *,
        dimension: int = 3,
        axis: int = 2,
        reset: bool = False,
        options: AnswerOptions | None = None,
        client: str | None = None,
        progress: Progress | None = None,
    ) -> Update:
        """Make the interactions of an object those of a client that sends them all each time.

        What differs from the last time of that client becomes events, and is answered as ``segment_volume`` or
        ``segment_slice`` would answer the same requests. In 2D, prompts are all that lie on their slices; what lies on
        others stays, and so does what a request about another plane brought: where one of these slices crosses that,
        it is answered together with the prompts, unless one of them turns it round. Where nothing differs from what
        the mask is made of (``SegmentedObject.shown``), nothing happens, and what the session shows is the answer.

        Args:
            prompts: of one object; its label in the session is the session's, not theirs. None of them need lie on an
                object that has a mask to begin with.
            dimension: 3 answers through the volume, 2 on the slices that the prompts lie on.
            axis: stored axis that slices are stacked along.
            reset: whether the object starts anew.
            options: how answers are bounded and cleaned from now on; None as before.
            client: whose prompts they are: what another one placed stays. None where there is only one.
            progress: as of ``add``.

        Raises:
            PromptError: prompts that cannot be used.
            SessionError: the object is locked, and something would change.
        """
        shape = self.volume.shape
        prompts = prompts.fitted(shape, affine=self.volume.affine)
        with self._draft() as draft:
            scopes = scopes_of(prompts.interactions, dimension, axis, shape)
            known = named(draft.objects, prompts.name)
            key = self._begin_object(draft, prompts.name) if known is None else known.id
            if reset and (draft.of(key).interactions or draft.of(key).base):
                self._reset(draft, self._unlocked(draft, prompts.name))
                self._memory.forget(key)
            if options is not None and options.validated(shape) != draft.of(key).options:
                draft.add(happened.SetOptions(key, options.validated(shape)))
            for scope in scopes:
                wanted = [one for one in prompts.interactions if scope[1] is None or lies_on(one, *scope, shape)]
                for event in edits(draft.of(key), scope, wanted, shape, client):
                    draft.add(event)
            scopes = [scope for scope in scopes if not draft.of(key).answered(scope, shape, self._image.identity)]
            if draft.events or scopes:
                self._unlocked(draft, prompts.name)
            return self._finish(draft, key, scopes, progress)

    # ---- parts of a step --------------------------------------------------------------------------------------------

    def _valid(self, one: Interaction, name: str) -> Interaction:
        return one.validated(self.volume.shape, affine=self.volume.affine, name=name)

    def _at(self, draft: Draft, name: str, position: int) -> tuple[int, Interaction]:
        key = self._unlocked(draft, name)
        given = draft.of(key).interactions
        if not 0 <= position < len(given):
            raise SessionError(f"object {name!r} has {len(given)} interactions, there is none at {position}")
        return key, given[position]
