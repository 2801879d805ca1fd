"""One evaluation from a configuration: a model over labelled images by named protocols, ending in a report."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch.distributed import get_rank, is_initialized

from bundle.data.dataset_files import read_image
from bundle.data.grid import check_grid
from bundle.data.labelled_slices import LabelledSlice
from bundle.data.volume import read_label
from bundle.errors import EvaluationError
from bundle.evaluation.evaluator import (
    AUTOMATIC,
    EvaluationSettings,
    OpenSlice,
    evaluate_automatic,
    evaluate_slices,
    open_with_network,
    pictures_of,
)
from bundle.evaluation.figures import Overlay
from bundle.evaluation.metrics import tolerance_of
from bundle.evaluation.protocols import ProtocolError, protocol_named
from bundle.evaluation.records import Records, check_comparable, read_failures, read_records, records_to_replay
from bundle.evaluation.report import extreme_cases, extreme_records, overlays_of, write_report
from bundle.evaluation.semantic import AutomaticModel
from bundle.evaluation.volume_evaluator import (
    VolumeCase,
    evaluate_automatic_volumes,
    evaluate_volumes,
    scenes_of,
)
from bundle.evaluation.volume_protocols import volume_protocol_named
from bundle.interactive.slice_model import SlicePredictor

Image = TypeVar("Image")


class Study(ABC):
    """What every evaluation has: a model, protocols, a folder that an interrupted run goes on in, and a report.

    Args:
        organs: label -> name; other labels are left out.
        folder: of the run.
        settings: see there.
        name: of the model in the report.
        before: earlier runs by name, whose folders are compared with this one patient by patient.
        title: of the report.
        description: lines of the report: data, weights, command.

    Raises:
        EvaluationError: an earlier run was scored otherwise (seed, tolerance, unit), or on other data.
        MetricError: an organ has no tolerance.
    """

    def __init__(
        self,
        *,
        organs: Mapping[int, str],
        folder: str | Path,
        settings: EvaluationSettings,
        name: str = "model",
        before: Mapping[str, str | Path] | None = None,
        title: str = "Evaluation",
        description: Sequence[str] = (),
    ) -> None:
        self.organs, self.folder, self.settings, self.name = dict(organs), Path(folder), settings, name
        self.before = {other: Path(path) for other, path in (before or {}).items()}
        for path in self.before.values():
            check_comparable(path, settings)
        for organ in self.organs.values():
            tolerance_of(organ, settings.tolerance)
        self.title, self.description = title, description

    def run(self) -> Path:
        """Evaluate, write the report into the folder, print its tables and return its path.

        Raises:
            EvaluationError: at the end, naming the cases that could not be read; the report is about the others.
        """
        records = self.evaluate()
        failures = read_failures(self.folder)
        if (not is_initialized() or get_rank() == 0) and (records or not failures):
            self._report(records, failures)
        if failures:
            reasons = "".join(f"\n  {key}: {reason}" for key, reason in failures.items())
            raise EvaluationError(
                f"{len(failures)} cases could not be read and are not in the report (with mended files it is a run of "
                f"other data, which needs another folder):{reasons}"
            )
        return self.folder / "report.html"

    @abstractmethod
    def evaluate(self) -> Records:
        """The records of all interactions."""

    def overlays(self, records: Records) -> dict[str, list[Overlay]]:
        """Pictures by heading."""
        return {}

    def _report(self, records: Records, failures: Mapping[str, str]) -> None:
        runs = {other: read_records(path) for other, path in self.before.items()}
        page = write_report(
            self.folder,
            {**runs, self.name: records},
            title=self.title,
            description=[*self.description, self._in_words(records), *_left_out(failures)],
            overlays=self.overlays(records),
            seed=self.settings.seed,
        )
        print((self.folder / "tables.md").read_text(encoding="utf-8"))
        print(f"Report, tables and records lie in {page.parent}")

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
            (`open_with_baseline`).
        slices: labelled slices, cut with the model's own contract.
        organs: label -> name; other labels are left out.
        protocols: names of `protocols.PROTOCOLS`.
        folder: of the run; an interrupted one goes on.
        replay: folder of a run whose prompts are given again, so that corrections are the same as well.
        seed: decides every prompt that is drawn, and the bootstrap.
        tolerance: of NSD, in the unit of distance; one for all, or one for each organ.
        pixels_of: see `EvaluationSettings`; None is millimetres.
        about: name, before, title and description, see `Study`.

    Raises:
        ProtocolError: for a protocol that does not exist, or that the model cannot answer.
        EvaluationError: the replayed run is one of other data.
    """

    def __init__(
        self,
        model: SlicePredictor | AutomaticModel | OpenSlice,
        slices: Sequence[LabelledSlice],
        *,
        organs: Mapping[int, str],
        protocols: Sequence[str],
        folder: str | Path,
        replay: str | Path | None = None,
        seed: int = 0,
        tolerance: float | Mapping[str, float] = 2.0,
        pixels_of: float | None = 256.0,
        **about: Any,
    ) -> None:
        _check_protocols(model, protocols)
        self.model, self.slices = model, slices
        self.protocols = {name: protocol_named(name) for name in protocols if name != AUTOMATIC}
        identity, data = getattr(model, "identity", ""), slices_identity(slices)
        settings = EvaluationSettings(tuple(protocols), seed, tolerance, pixels_of, identity, data, replay is not None)
        self.replay = None if replay is None else records_to_replay(Path(replay), settings)
        super().__init__(organs=organs, folder=folder, settings=settings, **about)

    def evaluate(self) -> Records:
        """One record for each interaction with each object."""
        where = {"organs": self.organs, "folder": self.folder, "settings": self.settings}
        if isinstance(self.model, AutomaticModel):
            return evaluate_automatic(self.model, self.slices, **where)
        opener = open_with_network(self.model) if isinstance(self.model, SlicePredictor) else self.model
        return evaluate_slices(opener, self.slices, protocols=self.protocols, replay=self.replay, **where)

    def overlays(self, records: Records) -> dict[str, list[Overlay]]:
        """The best, the median and the worst object of each organ and protocol."""
        return extreme_cases(records, self.folder, pictures_of(self.slices, self.organs))


class VolumeStudy(Study):
    """A study of whole volumes: prompted and scored in 3D, distances in millimetres.

    Args:
        model: a predictor, or an `AutomaticModel`, whose only protocol is `automatic`.
        items: of a dataset layout, with image, label and patient; those without a label are left out, and one volume at
            a time is in memory.
        organs: label -> name; other labels are left out.
        protocols: names of `volume_protocols.VOLUME_PROTOCOLS`.
        folder: of the run; an interrupted one goes on.
        replay: folder of a run whose prompts are given again, so that corrections are the same as well.
        seed: of the bootstrap; nothing is drawn for the prompts.
        tolerance: of NSD, in mm; one for all, or one for each organ.
        axis: array axis along which the model travels, and across which central slices are cut.
        about: name, before, title and description, see `Study`.

    Raises:
        ProtocolError: for a protocol that does not exist, or that the model cannot answer.
        EvaluationError: the replayed run is one of other data.
    """

    def __init__(
        self,
        model: SlicePredictor | AutomaticModel,
        items: Sequence[Mapping[str, Any]],
        *,
        organs: Mapping[int, str],
        protocols: Sequence[str],
        folder: str | Path,
        replay: str | Path | None = None,
        seed: int = 0,
        tolerance: float | Mapping[str, float] = 2.0,
        axis: int = 2,
        **about: Any,
    ) -> None:
        self.model, self.axis = model, axis
        _check_protocols(model, protocols)
        prompted = (name for name in protocols if name != AUTOMATIC)
        self.protocols = {name: replace(volume_protocol_named(name), axis=axis) for name in prompted}
        labelled = [item for item in items if item.get("label")]
        self.cases = {f"{item['patient']}/{Path(item['image']).name}": partial(_read_case, item) for item in labelled}
        data = _volumes_identity(labelled, self.cases, axis)
        settings = EvaluationSettings(tuple(protocols), seed, tolerance, None, model.identity, data, replay is not None)
        self.replay = None if replay is None else records_to_replay(Path(replay), settings)
        super().__init__(organs=organs, folder=folder, settings=settings, **about)

    def evaluate(self) -> Records:
        """One record for each interaction with each object."""
        where = {"organs": self.organs, "folder": self.folder, "settings": self.settings, "axis": self.axis}
        if isinstance(self.model, AutomaticModel):
            return evaluate_automatic_volumes(self.model, self.cases, **where)
        return evaluate_volumes(self.model, self.cases, protocols=self.protocols, replay=self.replay, **where)

    def overlays(self, records: Records) -> dict[str, list[Overlay]]:
        """The best, the median and the worst object of each organ and protocol, each on its middle voxel's slice."""
        picks = extreme_records(records)
        shown = [record for chosen in picks.values() for record in chosen.values()]
        scenes = scenes_of(self.cases, shown, organs=self.organs, contract=self.model.contract, axis=self.axis)
        return overlays_of(picks, self.folder, scenes)


def _check_protocols(model: SlicePredictor | AutomaticModel | OpenSlice, protocols: Sequence[str]) -> None:
    if _needs_no_prompts(model) != (list(protocols) == [AUTOMATIC]):
        raise ProtocolError(
            f"{AUTOMATIC!r} is the one protocol of networks that take no prompts, and of no others, got "
            f"{list(protocols)}; add configs/evaluate_automatic.json for such a network"
        )


def _needs_no_prompts(model: SlicePredictor | AutomaticModel | OpenSlice) -> bool:
    """A predictor may hold a semantic network, whose classes must not be taken for candidate masks."""
    if isinstance(model, SlicePredictor):
        return model.network.spec.classes is not None
    return isinstance(model, AutomaticModel)


def spread(images: Sequence[Image], limit: int | None) -> list[Image]:
    """At most `limit` images, at equal steps, so that a short run still sees the whole list; None is all."""
    if limit is None or limit >= len(images):
        return list(images)
    return [images[int(n)] for n in np.linspace(0, len(images) - 1, max(1, limit)).round()]


def slices_identity(slices: Iterable[LabelledSlice]) -> str:
    """sha256 of everything that is shown and scored."""
    digest = hashlib.sha256()
    for item in slices:
        digest.update(f"{item.key} {item.patient} {item.pixel_spacing} {item.picture.shape}".encode())
        digest.update(np.ascontiguousarray(item.picture))
        digest.update(np.ascontiguousarray(item.labels))
    return digest.hexdigest()


def _volumes_identity(items: Iterable[Mapping[str, Any]], keys: Iterable[str], axis: int) -> str:
    """sha256 of the axis, the names of the volumes and the sizes of their files.

    Reading them all would cost as much as evaluating them; their times would make a copy of the data another one.
    """
    sizes = [
        f"{_bytes_of(item['image'])} {_bytes_of(item['label'])}"
        f"{item.get('series') or ''} {item.get('read_as') or ''}".strip()
        for item in items
    ]
    return hashlib.sha256("\n".join([f"axis {axis}", *keys, *sizes]).encode()).hexdigest()


def _bytes_of(place: str | Path) -> int:
    """Of a file, or of all files of a folder of DICOM."""
    return sum(path.stat().st_size for path in (Path(place), *Path(place).rglob("*")) if path.is_file())


def _read_case(item: Mapping[str, Any]) -> VolumeCase:
    annotated = item.get("labelled")
    about = None if annotated is None else tuple(annotated)
    image = read_image(item)
    return VolumeCase(str(item["patient"]), image, check_grid(image, read_label(item["label"])), about)
