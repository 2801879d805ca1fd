"""The objects of an image and what was done to them, in memory and on disk: all of a session that needs no model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from bundle.errors import SessionError
from bundle.interactive import events as happened
from bundle.interactive import mask_events
from bundle.interactive.object_labels import label_map
from bundle.interactive.objects import SegmentedObject, check_name, checked_color, existing, named, new_object
from bundle.interactive.proposals import Proposal
from bundle.interactive.regions import Region
from bundle.interactive.stepped_session import SteppedSession
from bundle.interactive.steps import Draft
from bundle.interactive.update import Update


class RecordedSession(SteppedSession):
    """What a user does to objects without asking a model; each method that changes something is one step."""

    # ---- objects ----------------------------------------------------------------------------------------------------

    def new_object(self, name: str, *, label: int | None = None, color: Sequence[float] | None = None) -> Update:
        """Begin an object without a mask.

        Args:
            name: unique in the session.
            label: its value in the label map; by default the next one.
            color: red, green and blue from 0 to 1; by default that of the label.

        Raises:
            SessionError: name or label are taken or cannot be used.
        """
        with self._draft() as draft:
            self._begin_object(draft, name, label, color)
            return self._commit(draft)

    def remove_object(self, name: str) -> Update:
        """Remove an object and its mask; ``undo`` brings both back.

        Raises:
            SessionError: there is none, or it is locked.
        """
        with self._draft() as draft:
            key = self._unlocked(draft, name)
            draft.set_mask(key, Region.empty())
            draft.add(happened.RemoveObject(key))
            return self._commit(draft)

    def rename(self, name: str, new: str) -> Update:
        """Give an object another name, locked or not."""
        with self._draft() as draft:
            one = existing(draft.objects, name)
            if new != name:
                check_name(draft.objects, new)
                draft.add(happened.Rename(one.id, new))
            return self._commit(draft)

    def recolor(self, name: str, color: Sequence[float]) -> Update:
        """Give an object another colour, red, green and blue from 0 to 1."""
        with self._draft() as draft:
            draft.add(happened.Recolor(existing(draft.objects, name).id, checked_color(color)))
            return self._commit(draft)

    def lock(self, name: str) -> Update:
        """Keep an object as the label map shows it now: no prompt changes it, no other object is painted over it.

        Where it gave a voxel to one of two others that claim it, these settle it anew between themselves.
        """
        with self._draft() as draft:
            one = existing(draft.objects, name)
            box = draft.mask(one.id).box
            if not one.locked and box is not None:
                shown = label_map(draft.objects, draft.masks, box, self._shape) == one.label
                draft.set_mask(one.id, Region.of(shown, box[0]))
            if not one.locked:
                draft.add(happened.Lock(one.id, True))
            return self._commit(draft)

    def unlock(self, name: str) -> Update:
        """Let an object change again."""
        with self._draft() as draft:
            one = existing(draft.objects, name)
            if one.locked:
                draft.add(happened.Lock(one.id, False))
            return self._commit(draft)

    def set_mask(self, mask: np.ndarray, object: str = "object") -> Update:
        """Give an object the mask to begin with, as it is; interactions from before are forgotten.

        Args:
            mask: (I, J, K), nonzero on the object; later interactions refine it.
            object: its name; it begins where it is not there.

        Raises:
            SessionError: the mask is of another shape, or the object is locked.
        """
        mask = np.asarray(mask) != 0
        if mask.shape != tuple(self._shape):
            raise SessionError(f"the mask of {object!r} must have {tuple(self._shape)} voxels, got {mask.shape}")
        with self._draft() as draft:
            key, region = self._unlocked(draft, object, new=True), Region.of(mask)
            draft.set_mask(key, region)
            slices = () if region.is_empty else np.flatnonzero(region.voxels.any(axis=(0, 1))) + region.low[2]
            draft.add(mask_events.SetMask(key, region.to_bytes(), tuple(map(int, slices))))
            return self._commit(draft)

    def propose(self, proposals: Iterable[Proposal], *, model: str, replace: bool = False) -> Update:
        """Take objects that something found by itself: everything mode, a semantic head, a class prompt. One step.

        Nothing that anybody worked on is lost: a proposal for an object that is there takes the place of an earlier
        proposal that nobody touched, and is otherwise left out, which ``Update.warnings`` says. A click on a proposed
        object refines it like any mask that was given. Until somebody works on it, see ``SegmentedObject.proposed``.

        Args:
            proposals: each a name of its own.
            model: that found them.
            replace: whether all earlier proposals that nobody touched go.

        Raises:
            SessionError: a proposal that does not fit the image, or a name or label that is taken.
        """
        left_out = []
        with self._draft() as draft:
            found = list(proposals)
            if len({one.name for one in found}) < len(found):
                raise SessionError("two proposals have the same name; give each a name of its own")
            untouched = [one for one in draft.objects if one.proposed]
            for one in untouched if replace else ():
                if one.name not in {new.name for new in found}:
                    draft.set_mask(one.id, Region.empty())
                    draft.add(happened.RemoveObject(one.id))
            for one in found:
                region, there = one.region(self._shape), named(draft.objects, one.name)
                free = there is None or there.proposed or (self._is_new(draft, there) and not there.locked)
                if not free:
                    left_out.append(f"{one.name!r} is as it was: somebody has worked on it, and a proposal leaves that")
                    continue
                key = self._begin_object(draft, one.name, one.label) if there is None else there.id
                draft.set_mask(key, region)
                draft.add(mask_events.Propose(key, region.to_bytes(), one.axis, one.scores(region), str(model)))
            return self._commit(draft, warnings=tuple(left_out))

    def confirm(self, index: int, object: str = "object", *, axis: int = 2, confirmed: bool = True) -> Update:
        """Say that a slice of an object is right: answers leave it as it is, also those on slices that cross it.

        A prompt on the slice itself, of a step along its axis, changes it and takes the confirmation back; in 2D so
        does one that goes.

        Args:
            index: of the slice.
            object: name of the object.
            axis: stored axis of the slice.
            confirmed: False takes it back.

        Raises:
            SessionError: there is no such slice or object, or it is locked.
        """
        if axis not in (0, 1, 2) or not 0 <= index < self._shape[axis]:
            raise SessionError(f"there is no slice {index} along axis {axis} of {tuple(self._shape)} voxels")
        with self._draft() as draft:
            draft.add(mask_events.Confirm(self._unlocked(draft, object), axis, int(index), bool(confirmed)))
            return self._commit(draft)

    def reset(self, name: str | None = None) -> Update:
        """Take interactions and mask from an object, or from all that are not locked; ``undo`` brings them back.

        Raises:
            SessionError: the object is locked.
        """
        with self._draft() as draft:
            for one in draft.objects:
                if name in (None, one.name) and not self._is_new(draft, one) and not (name is None and one.locked):
                    self._reset(draft, self._unlocked(draft, one.name))
            return self._commit(draft)

    # ---- parts of a step --------------------------------------------------------------------------------------------

    def _begin_object(
        self, draft: Draft, name: str, label: int | None = None, color: Sequence[float] | None = None
    ) -> int:
        one = new_object(draft.objects, draft.next_id(), name, label, color)
        draft.add(happened.NewObject(one.id, one.name, one.label, one.color))
        return one.id

    def _unlocked(self, draft: Draft, name: str, *, new: bool = False) -> int:
        """The id of an object that may change; a new one where it is not there and may begin."""
        if new and named(draft.objects, name) is None:
            return self._begin_object(draft, name)
        one = existing(draft.objects, name)
        if one.locked:
            raise SessionError(f"object {name!r} is locked; unlock it first")
        return one.id

    @staticmethod
    def _is_new(draft: Draft, one: SegmentedObject) -> bool:
        """Whether nothing was said of an object yet."""
        return not (one.interactions or one.base) and draft.mask(one.id).is_empty

    @staticmethod
    def _reset(draft: Draft, key: int) -> None:
        draft.set_mask(key, Region.empty())
        draft.add(happened.Reset(key))
