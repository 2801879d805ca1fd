"""What one client works on: its image, the object of its target buffer, and the answers that it has seen.

A client sends an array and its spacing, nothing else. The axes are taken as SimpleITK gives them to nnInteractive's
clients: (z, y, x) of a volume in LPS, so that axis 0 goes up, axis 1 to the back and axis 2 to the left. Slices are
stacked along the axis that the first prompt of an object is flat along, else along the one of the widest spacing.

The client has one target buffer, which it empties for the next object; here each object stays in the session, so that
an expired lease or a restarted server loses nothing. Two clients of one user on one image at once have a session each:
the second sits on the next seat, and each finds its own again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from bundle.data.digest import image_digest
from bundle.data.volume import Volume, volume_of_array
from bundle.interactive.objects import SegmentedObject
from bundle.interactive.regions import Region
from bundle.interactive.session import InteractiveSession
from bundle.interactive.update import Update
from bundle.prompts.interactions import Box, Interaction, Lasso, Scribble
from monailabel_app.errors import RequestError
from monailabel_app.work import checkpoint

Opener = Callable[[Volume, str, str], InteractiveSession]
"""Opens a volume, with its digest, for a user; the session of that image and user goes on where it was."""


class Seats:
    """Who works on which image now; safe to use from many threads."""

    def __init__(self) -> None:
        self._taken: set[tuple[str, str, int]] = set()
        self._lock = threading.Lock()

    def take(self, user: str, digest: str) -> tuple[str, str, int]:
        """The first free seat of a user on an image."""
        with self._lock:
            seat = next(seat for number in count() if (seat := (user, digest, number)) not in self._taken)
            self._taken.add(seat)
            return seat

    def leave(self, seat: tuple[str, str, int]) -> None:
        """Free a seat."""
        with self._lock:
            self._taken.discard(seat)


@dataclass(frozen=True, eq=False)
class Change:
    """What a client has to change in its target buffer.

    Attributes:
        ran: whether the answer was asked for, or something was taken back.
        box: ((x0, x1), (y0, y1), (z0, z1)) half-open; None where nothing changed.
        region: the values of that box in the buffer's type; None without one.
    """

    ran: bool
    box: tuple[tuple[int, int], ...] | None = None
    region: np.ndarray | None = None


class Workbench:
    """The work of one lease.

    Args:
        user: whose it is.
        open_session: opens a session.
        seats: of this server.
    """

    def __init__(self, user: str, open_session: Opener, seats: Seats) -> None:
        self._user, self._open, self._seats = user, open_session, seats
        self._seat: tuple[str, str, int] | None = None
        self._session: InteractiveSession | None = None
        self._name = ""
        self._axis: int | None = None
        self._dtype = np.dtype(np.uint8)
        self._shown = np.zeros((0, 0, 0), bool)  # what the client's buffer holds
        self._is_unseen = False  # whether the object may show what the client has not been told

    # ---- image and buffer -------------------------------------------------------------------------------------------

    def set_image(self, array: np.ndarray, spacing: Sequence[float]) -> tuple[int, ...]:
        """Take an image (X, Y, Z) with its spacing in mm along these axes; its shape as the client wants it back."""
        affine = affine_of(spacing)
        volume = volume_of_array(array, affine)
        self.close()
        digest = image_digest(volume)
        self._seat = self._seats.take(self._user, digest)
        number = self._seat[-1]
        self._session = self._open(volume, f"{self._user}#{number + 1}" if number else self._user, digest)
        self._forget_shown()
        kept = [found.name for found in self._session.objects]
        self._name = kept[-1] if kept else self._add_object()
        self._axis = None
        return (1, *array.shape)

    def set_buffer(self, shape: Sequence[int], dtype: np.dtype) -> None:
        """Take the client's new, empty target buffer."""
        expected = self._opened.volume.shape
        if tuple(shape) != tuple(expected):
            raise RequestError(f"the target buffer must have the image's shape {tuple(expected)}, got {tuple(shape)}")
        self._dtype = dtype
        self._forget_shown()

    def reset(self) -> None:
        """Begin the next object; the one before stays as it is."""
        self._forget_shown()
        if self._object.interactions or self._opened.mask(self._name).any():
            self._name = self._add_object()
        self._axis = None

    def finish(self) -> None:
        """End the work as the user says: with this image the next time begins with the next object."""
        if self._session is not None:
            self.reset()
        self.close()

    def close(self) -> None:
        """End the work; what was done is kept, and gone on with the next time."""
        self._session = None
        if self._seat is not None:
            self._seats.leave(self._seat)
            self._seat = None

    @property
    def has_image(self) -> bool:
        """Whether there is an image."""
        return self._session is not None

    @property
    def mask(self) -> np.ndarray:
        """(X, Y, Z) bool, the object as it stands."""
        return self._opened.mask(self._name)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(X, Y, Z) of the image."""
        return self._opened.volume.shape

    # ---- prompts ----------------------------------------------------------------------------------------------------

    def add(self, interactions: Sequence[Interaction], *, predict: bool) -> Change:
        """Add a prompt, and answer unless more are to come."""
        predict = predict and self._begins(interactions)
        axis = self._walk(interactions)
        update = self._opened.add(
            list(interactions), object=self._name, axis=axis, predict=predict, progress=checkpoint
        )
        return self._change(update)

    def predict(self) -> Change:
        """Answer what was added."""
        if not self._begins(()):
            return Change(ran=False)
        update = self._opened.predict(object=self._name, axis=self._walk(()), progress=checkpoint)
        return self._change(update)

    def start_from(self, mask: np.ndarray, *, predict: bool) -> Change:
        """Start the object from a segmentation; what was prompted before is forgotten."""
        if mask.shape != tuple(self._opened.volume.shape):
            raise RequestError(f"the segmentation must have the shape {self._opened.volume.shape}, got {mask.shape}")
        self._opened.set_mask(mask, object=self._name)
        self._shown = mask.copy()  # the client writes it into its buffer itself
        if not predict or not mask.any():
            return Change(ran=False)
        return self._change(self._opened.predict(object=self._name, axis=self._walk(()), progress=checkpoint))

    def undo(self) -> Change:
        """Take back what was done last with this object; ``ran`` is False where nothing is left."""
        update = self._opened.undo()
        if update is None:
            return Change(ran=False)
        if self._name not in {found.name for found in self._opened.objects}:  # that was its beginning
            self._opened.redo()
            return Change(ran=False)
        if not self._object.interactions:
            self._axis = None
        return replace(self._change(update), ran=True)

    # ---- inside -----------------------------------------------------------------------------------------------------

    @property
    def _opened(self) -> InteractiveSession:
        if self._session is None:
            raise RequestError("there is no image yet; call /set_image first")
        return self._session

    @property
    def _object(self) -> SegmentedObject:
        return self._opened.object(self._name)

    def _forget_shown(self) -> None:
        self._shown = np.zeros(self._opened.volume.shape, bool)
        self._is_unseen = True

    def _begins(self, more: Sequence[Interaction]) -> bool:
        """Whether anything says where the object is: a prompt on it, or a segmentation to start from."""
        return bool(self._object.base) or any(one.positive for one in (*self._object.interactions, *more))

    def _add_object(self) -> str:
        name = f"object {len(self._opened.objects) + 1}"
        self._opened.new_object(name)
        return name

    def _walk(self, interactions: Sequence[Interaction]) -> int:
        """The axis that this object's slices are stacked along."""
        if self._axis is None:
            first = next(iter((*self._object.interactions, *interactions)), None)
            flat = None if first is None else flat_axis(first)
            spacing = np.asarray(self._opened.volume.spacing)
            self._axis = int(spacing.argmax()) if flat is None else flat
        return self._axis

    def _change(self, update: Update) -> Change:
        """What differs from what the client has: within the box of a step, once the client has seen what was before."""
        whole = self._is_unseen or update.box is None
        low, high = (np.zeros(3, dtype=int), np.array(self.shape)) if whole else update.box
        part = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
        mask = self._opened.mask(self._name, (low, high))
        changed = Region.of(mask != self._shown[part]).box
        self._is_unseen = False
        if changed is None:
            return Change(update.predicted)
        self._shown[part] = mask
        region = np.ascontiguousarray(mask[tuple(slice(*sides) for sides in changed.T)])
        box = tuple(map(tuple, (changed + low).T.tolist()))
        return Change(update.predicted, box, region.astype(self._dtype))


def affine_of(spacing: Sequence[float]) -> np.ndarray:
    """(4, 4) voxel index to RAS+ mm of an array with axes (z, y, x) in LPS.

    Raises:
        RequestError: the spacing is not three numbers above 0.
    """
    try:
        steps = np.asarray(spacing, dtype=float)
    except (TypeError, ValueError) as error:
        raise RequestError(f"spacing must be three numbers in mm, got {spacing!r:.80}") from error
    if steps.shape != (3,) or not np.isfinite(steps).all() or (steps <= 0).any():
        raise RequestError(f"spacing must be three numbers above 0 in mm, got {spacing!r:.80}")
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = steps[0], -steps[1], -steps[2], 1
    return affine


def flat_axis(interaction: Interaction) -> int | None:
    """The axis that a prompt is one voxel thick along; None where there is none or it could be any."""
    if isinstance(interaction, Lasso):
        return interaction.axis
    if isinstance(interaction, (Box, Scribble)):
        where = interaction.corners if isinstance(interaction, Box) else interaction.path
        flat = np.flatnonzero(np.ptp(np.asarray(where, dtype=float), axis=0) == 0)
        return int(flat[0]) if len(flat) == 1 else None
    return None
