"""The infer tasks that need no click: structures by themselves, or those that a client names."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferType

from bundle.active.automatic import known_structures
from bundle.active.everything import everything_proposed
from bundle.active.places import Place
from bundle.data.labels import count_labels, find_labels
from bundle.interactive.answer_options import AnswerOptions
from bundle.interactive.proposals import Proposal
from bundle.interactive.session import InteractiveSession
from bundle.interactive.update import Update
from monailabel_app.errors import RequestError
from monailabel_app.strategies.places import AcceptedPlaces
from monailabel_app.tasks.interactive import Answer, SamTask, wanted_of_answers
from monailabel_app.tasks.open_images import ImageSessions, OpenImage
from monailabel_app.wire import fields as wire
from monailabel_app.wire.answers import statistics
from monailabel_app.wire.commands import session_params
from monailabel_app.wire.numbers import read_array, read_index
from monailabel_app.work import checkpoint

KNOWN, EVERYTHING = "known structures", "everything on the slice"
FIND = "find"  # which of them ``sam_auto`` does
_EVERYTHING_MODE = "everything mode"  # what found an object, as the session notes it
_NOTHING = "nothing was found: no accepted label says what to look for, or nothing of it is here"
_NOTHING_NEW = "nothing was found on this slice that is not an object already"
LABEL_PROMPT = "label_prompt"  # vista3d: numbers of the structures wanted, from 1 in the order of the model's labels


class AutomaticTask(SamTask):
    """Segments what accepted labels show, each structure where they have it; or everything on one slice.

    What it finds are objects of the user's session, in one step that undo takes back, and that clicks refine; what the
    user has worked on stays as it is.

    Attributes:
        kind: what clients know such a model as.
        about: what they show of it.
        options: what they show beside the options of every model; of a list the first is meant.
    """

    kind: str = InferType.SEGMENTATION
    about: str = "Segments the structures of accepted labels by itself, or everything on one slice"
    options: ClassVar[dict[str, list[str]]] = {FIND: [KNOWN, EVERYTHING]}

    def __init__(
        self,
        sessions: ImageSessions,
        *,
        names: Sequence[str],
        accepted: AcceptedPlaces,
        datastore: Callable[[], Datastore],
    ) -> None:
        """Args:
        sessions: the open images, shared between tasks.
        names: labels that the app offers; they have the values 1, 2, ... in what is answered.
        accepted: what accepted labels say.
        datastore: whose labels.
        """
        super().__init__(sessions, dimension=3, names=names)
        self.type = self.kind
        self.labels = {name: value for value, name in enumerate(names, start=1)}
        self.description = self.about
        self._config = {**self.options, **self._config}
        self._accepted, self._datastore = accepted, datastore

    def _prompted(
        self, request: Mapping[str, Any], image: OpenImage, axis: int
    ) -> Callable[[InteractiveSession], Answer]:
        find = request.get(FIND) or KNOWN
        if find == EVERYTHING:
            index = read_index(request, wire.SLICE)
            depth = image.volume.shape[axis]
            index = depth // 2 if index is None else index
            if not 0 <= index < depth:
                raise RequestError(f"{wire.SLICE} must be 0 to {depth - 1} in this image, got {index}")
            return self._answering(partial(_everything, index=index), _EVERYTHING_MODE, request, image, axis)
        if find != KNOWN:
            raise RequestError(f"{FIND} must be {KNOWN!r} or {EVERYTHING!r}, got {find!r:.80}")
        return self._answering(partial(_known, places=self._places()), "accepted labels", request, image, axis)

    def _places(self) -> dict[str, Place]:
        return self._accepted.places(self._datastore())

    def _answering(
        self, find: Find, model: str, request: Mapping[str, Any], image: OpenImage, axis: int
    ) -> Callable[[InteractiveSession], Answer]:
        anew, wanted = wire.read_flag(request, wire.RESET_STATE), wanted_of_answers(request, image, axis)
        return partial(_proposed, find=find, model=model, values=self.labels, anew=anew, **wanted)


class ClassTask(AutomaticTask):
    """Segments the structures that a client names by number (vista3d's class prompts), or that it points at."""

    kind = "vista3d"
    about = "Segments the structures that are chosen, or pointed at"
    options: ClassVar[dict[str, list[str]]] = {}

    def _prompted(
        self, request: Mapping[str, Any], image: OpenImage, axis: int
    ) -> Callable[[InteractiveSession], Answer]:
        wanted = self._wanted(request)
        points = read_array(request, wire.POINTS)
        if points is not None and points.size:
            if len(wanted) > 1:
                raise RequestError(f"{wire.POINTS} are of one structure; send one number in {LABEL_PROMPT}")
            named = {**request, wire.LABEL: wanted[0]} if wanted else request
            return SamTask._prompted(self, named, image, axis)
        if not wanted:
            raise RequestError(f"which structures? send their numbers in {LABEL_PROMPT}, or {wire.POINTS}")
        places = self._places()
        if unknown := [name for name in wanted if name not in places]:
            raise RequestError(
                f"no accepted label shows {unknown[0]!r}, so nothing is known of where it lies; click on it, or accept "
                "a label of it first"
            )
        known = partial(_known, places={name: places[name] for name in wanted})
        return self._answering(known, "class prompt", request, image, axis)

    def _wanted(self, request: Mapping[str, Any]) -> list[str]:
        """The names of the structures that a request wants by number."""
        numbers = read_array(request, LABEL_PROMPT)
        by_value = {value: name for name, value in self.labels.items()}
        wanted = [] if numbers is None else [float(number) for number in np.ravel(numbers)]
        if wrong := [number for number in wanted if number not in by_value]:
            raise RequestError(f"{LABEL_PROMPT} must be numbers of labels, 1 to {len(by_value)}, got {wrong[0]:g}")
        return [by_value[int(number)] for number in dict.fromkeys(wanted)]


class MultiTask(SamTask):
    """Points of several structures in one request (deepedit): a key for each label, whose value is always the same."""

    def __init__(self, sessions: ImageSessions, *, names: Sequence[str]) -> None:
        """Args:
        sessions: the open images, shared between tasks.
        names: labels that the app offers; they have the values 1, 2, ... in what is answered.
        """
        super().__init__(sessions, dimension=3, names=names)
        self.type = InferType.DEEPEDIT
        self.labels = {name: value for value, name in enumerate(names, start=1)}
        self.description = "Segments several structures at once, each from its own points"


Find = Callable[[InteractiveSession, int, AnswerOptions, bool], list[Proposal]]
"""Finds objects in a session's image along an axis, bounded and cleaned; true where those found before will go."""


def _known(
    session: InteractiveSession, axis: int, options: AnswerOptions, _anew: bool, places: Mapping[str, Place]
) -> list[Proposal]:
    return known_structures(session, places, axis=axis, options=options, progress=checkpoint)


def _everything(
    session: InteractiveSession, axis: int, options: AnswerOptions, anew: bool, index: int
) -> list[Proposal]:
    return everything_proposed(session, index, axis=axis, options=options, anew=anew, progress=checkpoint)


def _proposed(
    session: InteractiveSession,
    find: Find,
    model: str,
    values: Mapping[str, int],
    anew: bool,
    axis: int,
    options: AnswerOptions,
    measured: bool,
) -> Answer:
    """Let the session have what was found, and show all of it, in the values that the app's labels have.

    Args:
        session: of the image and user.
        find: finds it.
        model: what found it, for people.
        values: name -> value of the app's labels.
        anew: whether all that was found before goes, where nobody has worked on it.
        axis: stored axis of the slices.
        options: how the answers are bounded and cleaned.
        measured: whether the reply measures the objects.
    """
    started = time.perf_counter()
    found = find(session, axis, options, anew)
    update = session.propose(found, model=model, replace=anew) if found or anew else Update()
    labels, names = _in_values(session, values)
    scores = {one.name: one.predicted_iou.get(axis, {}) for one in session.objects}
    warnings = {one.name: one.warnings for one in session.objects}
    warnings[model] = update.warnings if found else (_NOTHING_NEW if model == _EVERYTHING_MODE else _NOTHING,)
    seconds = {"decode": time.perf_counter() - started}
    params = wire.reply_params(names, scores=scores, seconds=seconds, encoded=0, warnings=warnings)
    if measured:
        params[wire.MEASURED] = statistics(session, list(names), axis=axis)
    about = {wire.SESSION: session_params(session, axis=axis, interactions=True), wire.SLICE_INDEX: None}
    return labels, params | about


def _in_values(session: InteractiveSession, values: Mapping[str, int]) -> tuple[np.ndarray, dict[str, int]]:
    """The session's label map with the app's values; objects that no label names have the values behind those."""
    shown, free = session.labels, len(values)
    names, numbers = {}, {}
    for one in session.objects:
        if one.name not in values:
            free += 1
        numbers[one.label] = names[one.name] = values.get(one.name, free)
    labels = np.zeros(shown.shape, np.int64, order="F")
    for label, box in find_labels(shown).items():
        labels[box][shown[box] == label] = numbers[label]
    there = count_labels(labels)
    return labels, {name: value for name, value in sorted(names.items(), key=lambda of: of[1]) if value in there}
