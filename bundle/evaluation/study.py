"""One evaluation from a configuration: a model over labelled images by named protocols, ending in a report."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bundle.claims import state_of, taken
from bundle.data.labelled_slices import LabelledSlice
from bundle.errors import EvaluationError, ProtocolError
from bundle.evaluation.cases import (
    Case,
    Cases,
    SliceCase,
    VolumeCase,
    slice_cases,
    slices_identity,
    volume_cases,
    volumes_identity,
)
from bundle.evaluation.figures import Overlay
from bundle.evaluation.metrics import tolerance_of
from bundle.evaluation.models import open_slices, open_volumes
from bundle.evaluation.protocols import protocol_named
from bundle.evaluation.records import Records, check_comparable, prompts_to_replay, read_failures, read_records
from bundle.evaluation.report import extreme_cases, write_report
from bundle.evaluation.runner import AUTOMATIC, EvaluationSettings, NotPrompting, OpenCase, Prompting, User, evaluate
from bundle.evaluation.semantic import AutomaticModel
from bundle.interactive.segmenter import Segmenter
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_model import SlicePredictor

Image = TypeVar("Image")
_log = logging.getLogger(__name__)


class Study(ABC):
    """What every evaluation has: a model, protocols, a folder that an interrupted run goes on in, and a report.

    Args:
        model: see the studies.
        cases: by key.
        data: identity of the cases.
        identity: of what answers; by default that of the model.
        organs: label -> name; other labels are left out.
        protocols: names of `protocols.PROTOCOLS`, or `automatic` alone.
        folder: of the run; an interrupted one goes on.
        replay: folder of a run whose prompts are given again, so that corrections are the same as well.
        seed: decides every prompt that is drawn, and the bootstrap.
        tolerance: of NSD, in the unit of distance; one for all, or one for each organ.
        pixels_of: see `EvaluationSettings`.
        axis: array axis that a volume's slices are stacked along.
        name: of the model in the report.
        before: earlier runs by name, whose folders are compared with this one patient by patient.
        title: of the report.
        description: lines of the report: data, weights, command.

    Raises:
        ProtocolError: for a protocol that does not exist, or that the model cannot answer.
        EvaluationError: an earlier run was scored otherwise (seed, tolerance, unit), or an earlier or replayed one on
            other data.
        MetricError: an organ has no tolerance.
    """

    def __init__(
        self,
        model: Any,
        cases: Cases,
        *,
        data: str,
        identity: str | None = None,
        organs: Mapping[int, str],
        protocols: Sequence[str],
        folder: str | Path,
        replay: str | Path | None = None,
        seed: int = 0,
        tolerance: float | Mapping[str, float] = 2.0,
        pixels_of: float | None = None,
        axis: int = 2,
        name: str = "model",
        before: Mapping[str, str | Path] | None = None,
        title: str = "Evaluation",
        description: Sequence[str] = (),
    ) -> None:
        _check_protocols(model, protocols)
        self.model, self.cases, self.axis = model, cases, axis
        self.protocols = {given: protocol_named(given, axis=axis) for given in protocols if given != AUTOMATIC}
        identity = getattr(model, "identity", "") if identity is None else identity
        self.settings = EvaluationSettings(
            tuple(protocols), seed, tolerance, pixels_of, model=identity, data=data, replayed=replay is not None
        )
        self.replay = None if replay is None else prompts_to_replay(Path(replay), self.settings)
        self.organs, self.folder, self.name = dict(organs), Path(folder), name
        self.before = {other: Path(path) for other, path in (before or {}).items()}
        self._page = state_of(self.folder / "report.html")
        for path in self.before.values():
            check_comparable(path, self.settings)
        for organ in self.organs.values():
            tolerance_of(organ, tolerance)
        self.title, self.description = title, description

    def run(self) -> Path:
        """Evaluate, `report`, then `check_all_were_read`; the path of the report."""
        page = self.report(self.evaluate())
        self.check_all_were_read()
        return page

    def report(self, records: Records) -> Path:
        """Write the report into the folder, log its tables and return its path; none where nothing could be read."""
        failures, page = read_failures(self.folder), self.folder / "report.html"
        if records or not failures:
            with taken(page, self._page, wait=True) as is_mine:  # the first of several workers writes it for all
                if is_mine:
                    self._write(records, failures)
        return page

    def check_all_were_read(self) -> None:
        """The end of a run.

        Raises:
            EvaluationError: naming the cases that could not be read; the report is about the others.
        """
        if failures := read_failures(self.folder):
            reasons = "".join(f"\n  {key}: {reason}" for key, reason in failures.items())
            raise EvaluationError(
                f"{len(failures)} cases could not be read and are not in the report (with mended files it is a run of "
                f"other data, which needs another folder):{reasons}"
            )

    def evaluate(self) -> Records:
        """One record for each interaction with each object."""
        return evaluate(self._user(), self.cases, folder=self.folder, settings=self.settings)

    @abstractmethod
    def segment(self, case: Case) -> np.ndarray:
        """The label map of a model without prompts, on the grid of the case's labels."""

    @abstractmethod
    def opener(self) -> OpenCase:
        """How a case is opened for prompts."""

    def overlays(self, records: Records) -> dict[str, list[Overlay]]:
        """The best, the median and the worst object of each organ and protocol, by heading."""
        return extreme_cases(records, self.folder, self.cases, organs=self.organs)

    def _user(self) -> User:
        if not self.protocols:
            return NotPrompting(self.segment, self.organs, self.settings)
        return Prompting(self.opener(), self.organs, self.protocols, self.settings, self.replay)

    def _write(self, records: Records, failures: Mapping[str, str]) -> None:
        runs = {other: read_records(path) for other, path in self.before.items()}
        page = write_report(
            self.folder,
            {**runs, self.name: records},
            title=self.title,
            description=[*self.description, self._in_words(records), *_left_out(failures)],
            overlays=self.overlays(records),
            seed=self.settings.seed,
        )
        tables = (self.folder / "tables.md").read_text(encoding="utf-8")
        _log.info("%s\nReport, tables and records lie in %s", tables, page.parent)

    def _in_words(self, records: Records) -> str:
        settings = self.settings
        images, patients = (len({record[name] for record in records}) for name in ("key", "case"))
        unit = "mm" if settings.pixels_of is None else f"pixels of a slice scaled to {settings.pixels_of:g}"
        own = settings.tolerance if isinstance(settings.tolerance, Mapping) else {}
        tolerance = ", ".join(f"{value:g} ({organ})" for organ, value in own.items()) or f"{settings.tolerance:g}"
        prompts = "prompts of another run, bootstrap" if settings.replayed else "prompts and bootstrap"
        return (
            f"{images} images of {patients} patients; {prompts} from seed {settings.seed}; NSD at {tolerance} {unit}, "
            "HD95 in the same unit."
        )


def _left_out(failures: Mapping[str, str]) -> list[str]:
    return [f"Without {key}, which could not be read: {reason}" for key, reason in failures.items()]


class SliceStudy(Study):
    """A study of slices, everything in 2D.

    Args:
        model: a predictor; an `AutomaticModel`, whose only protocol is `automatic`; or what opens slices in another way
            (`models.open_baseline`).
        slices: labelled slices, cut with the model's own contract.
        unreadable: key and reason of each item that could not be read (`Pool`); the run names them at its end.
        pixels_of: see `EvaluationSettings`; None is millimetres.
        about: organs, protocols, folder, replay, seed, tolerance, name, before, title and description, see `Study`.
    """

    def __init__(
        self,
        model: SlicePredictor | AutomaticModel | OpenCase,
        slices: Sequence[LabelledSlice],
        *,
        unreadable: Sequence[tuple[str, str]] = (),
        pixels_of: float | None = 256.0,
        **about: Any,
    ) -> None:
        cases = slice_cases(slices, pixels_of=pixels_of, unreadable=unreadable)
        super().__init__(model, cases, data=slices_identity(slices, unreadable), pixels_of=pixels_of, **about)

    def segment(self, case: SliceCase) -> np.ndarray:
        """The label map (H, W) of a model without prompts."""
        return self.model(case.item)

    def opener(self) -> OpenCase:
        """How a slice is opened for prompts."""
        return open_slices(self.model) if isinstance(self.model, SlicePredictor) else self.model


class VolumeStudy(Study):
    """A study of whole volumes: prompted as a user of a session prompts, scored in 3D, distances in millimetres.

    Args:
        model: a predictor, which follows objects; a `Segmenter`, which opens volumes as users do, with its network of
            volumes; or an `AutomaticModel`, whose only protocol is `automatic`.
        items: of a dataset layout, with image, label and patient; those without a label are left out, and one volume at
            a time is in memory.
        axis: array axis along which the model travels, and across which slices are cut.
        about: organs, protocols, folder, replay, seed, tolerance, name, before, title and description, see `Study`.
    """

    def __init__(
        self,
        model: SlicePredictor | Segmenter | AutomaticModel,
        items: Sequence[Mapping[str, Any]],
        *,
        axis: int = 2,
        **about: Any,
    ) -> None:
        self._open_image, identity = partial(InteractiveSession, predictor=model), getattr(model, "identity", "")
        if isinstance(model, Segmenter):
            self._open_image, model = model.open, model.predictor
        labelled = [item for item in items if item.get("label")]
        cases = volume_cases(labelled, contract=model.contract, axis=axis)
        data = volumes_identity(labelled, cases, axis)
        super().__init__(model, cases, data=data, identity=identity, pixels_of=None, axis=axis, **about)

    def segment(self, case: VolumeCase) -> np.ndarray:
        """The label map (I, J, K) of a model without prompts."""
        return self.model.segment_volume(case.image, axis=self.axis)

    def opener(self) -> OpenCase:
        """How a volume is opened for prompts."""
        return open_volumes(self._open_image, axis=self.axis)


def _check_protocols(model: SlicePredictor | AutomaticModel | OpenCase, protocols: Sequence[str]) -> None:
    if _needs_no_prompts(model) != (list(protocols) == [AUTOMATIC]):
        raise ProtocolError(
            f"{AUTOMATIC!r} is the one protocol of networks that take no prompts, and of no others, got "
            f"{list(protocols)}; add configs/evaluate_automatic.json for such a network"
        )


def _needs_no_prompts(model: SlicePredictor | AutomaticModel | OpenCase) -> bool:
    """A predictor may hold a semantic network, whose classes must not be taken for candidate masks."""
    if isinstance(model, SlicePredictor):
        return model.network.spec.classes is not None
    return isinstance(model, AutomaticModel)


def spread(images: Sequence[Image], limit: int | None) -> list[Image]:
    """At most `limit` images, at equal steps, so that a short run still sees the whole list; None is all."""
    if limit is None or limit >= len(images):
        return list(images)
    return [images[int(n)] for n in np.linspace(0, len(images) - 1, max(1, limit)).round()]
