"""The infer tasks that the app offers, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask

from monailabel_app.errors import RequestError
from monailabel_app.strategies.places import AcceptedPlaces
from monailabel_app.tasks.automatic import AutomaticTask, ClassTask, MultiTask
from monailabel_app.tasks.interactive import SamTask
from monailabel_app.tasks.open_images import ImageSessions
from monailabel_app.tasks.scribbles import ScribblesTask

MODELS = ("sam_2d", "sam_3d", "sam_multi", "sam_class", "sam_auto", "sam_scribbles")


def read_models(text: str | None) -> tuple[str, ...]:
    """The names of ``--conf models "sam_2d,sam_3d"``; by default all.

    Raises:
        RequestError: there is no name in it, or one of no model.
    """
    names = MODELS if text is None else tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names or (unknown := [name for name in names if name not in MODELS]):
        got = repr(text) if not names else repr(unknown[0])
        raise RequestError(f"models must be some of {', '.join(MODELS)} with commas between them, got {got}")
    return names


def offered_tasks(
    models: Sequence[str],
    sessions: ImageSessions,
    *,
    names: Sequence[str],
    accepted: AcceptedPlaces,
    datastore: Callable[[], Datastore],
) -> dict[str, InferTask]:
    """The tasks, which share their open images.

    Args:
        models: of ``MODELS``.
        sessions: the open images.
        names: labels that the app offers.
        accepted: what accepted labels say.
        datastore: whose labels.
    """
    made: dict[str, Callable[[], InferTask]] = {
        "sam_2d": lambda: SamTask(sessions, dimension=2, names=names),
        "sam_3d": lambda: SamTask(sessions, dimension=3, names=names),
        "sam_multi": lambda: MultiTask(sessions, names=names),
        "sam_class": lambda: ClassTask(sessions, names=names, accepted=accepted, datastore=datastore),
        "sam_auto": lambda: AutomaticTask(sessions, names=names, accepted=accepted, datastore=datastore),
        "sam_scribbles": lambda: ScribblesTask(sessions),
    }
    return {name: made[name]() for name in models}
