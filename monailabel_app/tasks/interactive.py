"""The infer tasks that Slicer, OHIF, MITK and CVAT find under ``/info/``."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from bundle.data.modality import MODALITIES
from bundle.data.volume import write_label
from bundle.interactive.answer_options import AnswerOptions
from bundle.interactive.label_map import LabelMap
from bundle.interactive.session import InteractiveSession
from bundle.transforms.frames import PLANES
from monailabel_app.tasks.open_images import ImageSessions, OpenImage
from monailabel_app.wire import fields as wire
from monailabel_app.wire.answers import NO_LENGTHS, read_options, statistics
from monailabel_app.wire.commands import Commands, read_commands, session_params
from monailabel_app.wire.requests import ClickRequest, read_request
from monailabel_app.work import checkpoint, turn

_DESCRIPTIONS = {
    2: "Segments an object on one slice from points or a box",
    3: "Segments an object in the volume from a box, or carries one slice's answer to its neighbours",
}
# What clients show as options and send with each request: a switch as check box, a list as choice, the first being set.
_OPTIONS = {
    wire.UNDO: False,
    wire.REDO: False,
    wire.RESET_STATE: False,
    wire.MODALITY: ["", *MODALITIES],
    **NO_LENGTHS,
}
# Not of sam_2d: Slicer's 2D panel sends the points of one k alone and clears that slice, whatever is answered.
_OPTIONS_3D = {wire.PLANE: ["", *PLANES]}


class SamTask(InferTask):
    """Clicks in, label map out.

    The type is deepgrow: the only one that both Slicer's SmartEdit and OHIF's Point Prompts list and that works
    without a fixed set of labels. Its labels stay empty on purpose: Slicer starts an automatic segmentation for
    each new volume as soon as any model shares a label with the app.
    """

    def __init__(self, sessions: ImageSessions, *, dimension: int, names: Sequence[str] = ()) -> None:
        """Args:
        sessions: the open images, shared between tasks.
        dimension: 2 answers on one slice, 3 in the volume.
        names: labels that a request may use as keys (deepedit dialect).
        """
        options = _OPTIONS | (_OPTIONS_3D if dimension == 3 else {})
        super().__init__(InferType.DEEPGROW, [], dimension, _DESCRIPTIONS[dimension], options)
        self._sessions = sessions
        self._names = tuple(names)
        # A folder of our own: a client on this machine keeps its copy under the same name in the common one.
        self._results = tempfile.TemporaryDirectory(prefix="monai-sam-results-")

    def is_valid(self) -> bool:
        """Whether the task can be offered: always, the model is loaded before the task is made."""
        return True

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Answer one request.

        Args:
            request: the client's parameters (docs/protocol.md), the image's path and, for an upload, its identity.

        Returns:
            The path of the label map, which the caller removes, and the JSON of the reply.

        Raises:
            RequestError, PromptError, VolumeError: each says what to change.
        """
        started = time.perf_counter()
        request = self._with_first_choices(request)
        path = Path(request[wire.IMAGE])
        form = wire.ReplyFormat.of(request, path)
        series = request.get(wire.SERIES)
        image = self._sessions.open(
            path,
            key=request.get(wire.IMAGE_KEY),
            modality=wire.read_modality(request),
            series=series and str(series),
        )
        user = wire.read_user(request)
        session = image.session(user)
        opened = time.perf_counter() - started
        axis = wire.read_axis(request, image.volume)
        answer = self._read(request, image, axis)
        with turn(image.turn_of(user)):
            labels, params = answer(session)
        if (index := params.get(wire.SLICE_INDEX)) is not None:
            self._sessions.ahead.begin(session.slices, axis=axis, index=index)
        params[wire.ENGINE] = session.predictor.engine
        params[wire.MODALITY] = image.volume.modality
        params[wire.PLANE] = wire.plane_of(image.volume, axis)
        before = time.perf_counter()
        file = Path(self._results.name, f"{uuid.uuid4().hex}{form.extension}")
        write_label(labels, image.volume, file, dtype=form.dtype, compress=form.compress)
        now = time.perf_counter()
        params[wire.LATENCIES] |= {
            "open": round(opened, 4),
            "write": round(now - before, 4),
            "total": round(now - started, 4),
        }
        return str(file), params

    def _with_first_choices(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The request of a client that sends an option back as it was offered: of its choices the first is meant."""
        lists = {name: value for name, value in self._config.items() if isinstance(value, list)}
        return {**request, **{name: value[0] for name, value in lists.items() if request.get(name) == value}}

    def _read(self, request: Mapping[str, Any], image: OpenImage, axis: int) -> Callable[[InteractiveSession], Answer]:
        """What a request about slices along an axis asks for: a command for the session, or its prompts answered."""
        commands = read_commands(request)
        if commands is not None:
            measured = wire.read_flag(request, wire.STATISTICS)
            return partial(_commanded, commands=commands, axis=axis, measured=measured)
        return self._prompted(request, image, axis)

    def _prompted(
        self, request: Mapping[str, Any], image: OpenImage, axis: int
    ) -> Callable[[InteractiveSession], Answer]:
        """The prompts of a request, answered."""
        click = self._click(request, image, axis)
        valued = [replace(one, label=self._value(one.name, one.label)) for one in click.objects]
        wanted = wanted_of_answers(request, image, axis)
        return partial(_segment, click=replace(click, objects=tuple(valued)), **wanted)

    def _click(self, request: Mapping[str, Any], image: OpenImage, axis: int) -> ClickRequest:
        """The prompts of a request."""
        return read_request(
            request,
            shape=image.volume.shape,
            affine=image.volume.affine,
            dimension=self.dimension,
            axis=axis,
            names=self._names,
        )

    def _value(self, name: str, value: int) -> int:
        """The value of an object in what is answered: that of its label, else its place in the request."""
        return self.labels.get(name, len(self.labels) + value) if isinstance(self.labels, dict) else value


Answer = tuple[np.ndarray, dict[str, Any]]
"""A label map, and the JSON of the reply."""


def wanted_of_answers(request: Mapping[str, Any], image: OpenImage, axis: int) -> dict[str, Any]:
    """What a request to any model wants of its answers: their axis, how they are bounded and cleaned, if measured."""
    options = read_options(request, image.volume.shape, axis=axis)
    return {"axis": axis, "options": options, "measured": wire.read_flag(request, wire.STATISTICS)}


def _segment(
    session: InteractiveSession, click: ClickRequest, axis: int, options: AnswerOptions, measured: bool
) -> Answer:
    """Make the prompts of a request those of the session, and gather its objects in one label map."""
    seconds = {"encode": 0.0, "decode": 0.0}  # where nothing is new
    encoded = 0
    dimension = 3 if click.index is None else 2
    with session.one_step():  # all objects of the request, or none
        for prompts in click.objects:
            if dimension == 2:
                checkpoint()
            update = session.set_prompts(
                prompts,
                dimension=dimension,
                axis=axis,
                reset=click.reset,
                options=options,
                client=click.client,
                progress=checkpoint,
            )
            encoded += update.encoded
            for stage, value in update.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + value
    gathered = LabelMap(session.volume.shape)
    scores: dict[str, dict[int, float]] = {}
    used: dict[str, dict[str, int]] = {}
    for sent in click.objects:
        # Also what the request need not say again, as what crosses its slice.
        asked = session.object(sent.name).of_scope((axis, click.index), session.volume.shape)
        prompts = sent.with_interactions(asked)
        found = session.segmentation(prompts.name, axis=axis, index=click.index)
        gathered.add(found, prompts.label, prompts, whole=session.region(prompts.name))
        scores[prompts.name], used[prompts.name] = found.scores, prompts.count_kinds()
    names = {prompts.name: prompts.label for prompts in click.objects}
    params = wire.reply_params(
        names,
        scores=scores,
        seconds=seconds,
        encoded=encoded,
        warnings={prompts.name: session.object(prompts.name).warnings for prompts in click.objects},
        used=used,
    )
    if measured:
        params[wire.MEASURED] = statistics(session, list(names), axis=axis)
    return gathered.labels, params | {wire.SESSION: session_params(session, axis=axis), wire.SLICE_INDEX: click.index}


def _commanded(session: InteractiveSession, commands: Commands, axis: int, measured: bool) -> Answer:
    """Do what a request asks of its session, and show all of it."""
    done = commands.run(session, axis=axis)
    names = {one.name: one.label for one in session.objects}
    scores = {one.name: one.predicted_iou.get(axis, {}) for one in session.objects}
    warnings = {one.name: [*one.warnings] for one in session.objects}
    for update in done:  # of what was done just now; what is doubtful about an answer the object says itself
        for name in warnings.keys() & set(update.objects):
            warnings[name] += (said for said in update.warnings if said not in warnings[name])
    params = wire.reply_params(names, scores=scores, seconds={}, encoded=0, warnings=warnings)
    params |= {wire.SESSION: session_params(session, axis=axis, interactions=True), wire.SLICE_INDEX: None}
    if measured:
        params[wire.MEASURED] = statistics(session, list(names), axis=axis)
    return session.labels, params
