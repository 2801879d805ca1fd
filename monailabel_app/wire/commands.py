"""What a request asks of a session instead of prompts (undo, redo, locks, objects), and what a reply says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bundle.data.limits import LIMITS, variable_of
from bundle.interactive.session import InteractiveSession
from bundle.interactive.update import Update
from bundle.prompts.interactions import Interaction, Mask
from monailabel_app.errors import RequestError
from monailabel_app.wire import fields as wire
from monailabel_app.wire.numbers import check_count, parsed, short


@dataclass(frozen=True)
class Commands:
    """What is done to a session, in this order.

    Attributes:
        undo: whether the last step is taken back.
        redo: whether the step that was undone last is done again.
        new_objects: names of objects that begin.
        lock: names of objects that stay as they are from now on.
        unlock: names of objects that may change again.
        unconfirm: (name, slice) that may change again; these and the next two along the axis of the request.
        confirm: (name, slice) that are right.
        fill_between: names of objects whose slices between confirmed ones are filled.
    """

    undo: bool = False
    redo: bool = False
    new_objects: tuple[str, ...] = ()
    lock: tuple[str, ...] = ()
    unlock: tuple[str, ...] = ()
    unconfirm: tuple[tuple[str, int], ...] = ()
    confirm: tuple[tuple[str, int], ...] = ()
    fill_between: tuple[str, ...] = ()

    def run(self, session: InteractiveSession, *, axis: int) -> list[Update]:
        """Do it; what happened before an error stays, each command is a step of its own.

        Args:
            session: of the image and user.
            axis: stored axis of the slices.

        Raises:
            SessionError: an object or slice that is not there, a name that is taken, or nothing to fill.
        """
        done = [session.undo()] if self.undo else []
        done += [session.redo()] if self.redo else []
        done += [session.new_object(name) for name in self.new_objects]
        done += [session.lock(name) for name in self.lock]
        done += [session.unlock(name) for name in self.unlock]
        done += [session.confirm(at, name, axis=axis, confirmed=False) for name, at in self.unconfirm]
        done += [session.confirm(at, name, axis=axis) for name, at in self.confirm]
        done += [session.fill_between(name, axis=axis) for name in self.fill_between]
        return [update for update in done if update is not None]


def read_commands(params: Mapping[str, Any]) -> Commands | None:
    """The commands of a request; None of one with prompts.

    Raises:
        RequestError: a command that cannot be understood.
    """
    asked = [key for key in (wire.SESSION, wire.UNDO, wire.REDO) if wire.read_flag(params, key)]
    names = {key: _names(params, key) for key in (wire.NEW_OBJECT, wire.LOCK, wire.UNLOCK, wire.FILL_BETWEEN)}
    slices = {key: _slices(params, key) for key in (wire.UNCONFIRM, wire.CONFIRM)}
    if not asked and not any(names.values()) and not any(slices.values()):
        return None
    return Commands(
        undo=wire.UNDO in asked,
        redo=wire.REDO in asked,
        new_objects=names[wire.NEW_OBJECT],
        lock=names[wire.LOCK],
        unlock=names[wire.UNLOCK],
        unconfirm=slices[wire.UNCONFIRM],
        confirm=slices[wire.CONFIRM],
        fill_between=names[wire.FILL_BETWEEN],
    )


def _names(params: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = params.get(key)
    if value is None or value == "" or value == []:
        return ()
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise RequestError(f"{key} must be a name or a list of names, got {value!r:.80}")
    if len(names) > LIMITS.objects:
        raise RequestError(
            f"{key} has {len(names)} names, this server takes {LIMITS.objects} ({variable_of('objects')})"
        )
    return tuple(names)


def _slices(params: Mapping[str, Any], key: str) -> tuple[tuple[str, int], ...]:
    value = parsed(params.get(key), key)
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        raise RequestError(f'{key} must be {{"name": [slice, ...]}}, got {short(value)}')
    found = []
    for name, slices in value.items():
        slices = slices if isinstance(slices, list) else [slices]
        if not all(isinstance(index, int) and not isinstance(index, bool) for index in slices):
            raise RequestError(f"{key} of {short(name)} must be whole numbers, the slices, got {short(slices)}")
        found += [(name, index) for index in slices]
    check_count(len(found), "points")
    return tuple(found)


def session_params(session: InteractiveSession, *, axis: int, interactions: bool = False) -> dict[str, Any]:
    """What a reply says of a session.

    Args:
        session: of the image and user.
        axis: stored axis of the confirmed slices that are listed.
        interactions: whether those of each object are listed, as ``Interaction.to_json`` writes them; of a mask the
            kind alone.
    """
    objects = []
    for one in session.objects:
        about = {"name": one.name, "label": one.label, "color": list(one.color), "locked": one.locked}
        about["proposed"] = one.proposed
        about["confirmed"] = sorted(index for along, index in one.confirmed if along == axis)
        about["options"] = one.options.to_json()
        if interactions:
            about["interactions"] = [_without_voxels(given) for given in one.interactions]
        objects.append(about)
    return {"objects": objects, "undo": session.undo_depth, "redo": session.redo_depth}


def _without_voxels(given: Interaction) -> dict[str, Any]:
    return {"kind": given.kind, "positive": given.positive} if isinstance(given, Mask) else given.to_json()
