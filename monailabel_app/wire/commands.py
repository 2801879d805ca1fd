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


@dataclass(frozen=True)
class Commands:
    """What is done to a session, in this order.

    Attributes:
        undo: whether the last step is taken back.
        redo: whether the step that was undone last is done again.
        new_objects: names of objects that begin.
        lock: names of objects that stay as they are from now on.
        unlock: names of objects that may change again.
    """

    undo: bool = False
    redo: bool = False
    new_objects: tuple[str, ...] = ()
    lock: tuple[str, ...] = ()
    unlock: tuple[str, ...] = ()

    def run(self, session: InteractiveSession) -> list[Update]:
        """Do it; what happened before an error stays, each command is a step of its own.

        Raises:
            SessionError: an object that is not there, or a name that is taken.
        """
        done = [session.undo()] if self.undo else []
        done += [session.redo()] if self.redo else []
        done += [session.new_object(name) for name in self.new_objects]
        done += [session.lock(name) for name in self.lock]
        done += [session.unlock(name) for name in self.unlock]
        return [update for update in done if update is not None]


def read_commands(params: Mapping[str, Any]) -> Commands | None:
    """The commands of a request; None of one with prompts.

    Raises:
        RequestError: a command that cannot be understood.
    """
    asked = [key for key in (wire.SESSION, wire.UNDO, wire.REDO) if wire.read_flag(params, key)]
    names = {key: _names(params, key) for key in (wire.NEW_OBJECT, wire.LOCK, wire.UNLOCK)}
    if not asked and not any(names.values()):
        return None
    return Commands(
        wire.UNDO in asked, wire.REDO in asked, names[wire.NEW_OBJECT], names[wire.LOCK], names[wire.UNLOCK]
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


def session_params(session: InteractiveSession, *, interactions: bool = False) -> dict[str, Any]:
    """What a reply says of a session.

    Args:
        session: of the image and user.
        interactions: whether those of each object are listed, as ``Interaction.to_json`` writes them; of a mask the
            kind alone.
    """
    objects = []
    for one in session.objects:
        about = {"name": one.name, "label": one.label, "color": list(one.color), "locked": one.locked}
        about["proposed"] = one.proposed
        if interactions:
            about["interactions"] = [_without_voxels(given) for given in one.interactions]
        objects.append(about)
    return {"objects": objects, "undo": session.undo_depth, "redo": session.redo_depth}


def _without_voxels(given: Interaction) -> dict[str, Any]:
    return {"kind": given.kind, "positive": given.positive} if isinstance(given, Mask) else given.to_json()
