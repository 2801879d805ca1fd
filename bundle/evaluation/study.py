"""One evaluation from a configuration: a model over labelled slices by named protocols, ending in a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.distributed import get_rank, is_initialized

from bundle.data.pool import LabelledSlice
from bundle.evaluation.evaluator import EvaluationSettings, OpenSlice, evaluate_slices, open_with_network, pictures_of
from bundle.evaluation.protocols import protocol_named
from bundle.evaluation.records import Records, read_records
from bundle.evaluation.report import extreme_cases, write_report
from bundle.inference.predictor import SlicePredictor


class Study:
    """Everything that `configs/evaluate.json` asks of an evaluation.

    Args:
        model: a predictor, or what opens slices in another way (`open_with_baseline`).
        slices: labelled slices, cut with the model's own contract.
        organs: label -> name; other labels are left out.
        protocols: names of `protocols.PROTOCOLS`.
        folder: of the run; an interrupted one goes on.
        name: of the model in the report.
        before: earlier runs by name, whose folders are compared with this one patient by patient.
        replay: folder of a run whose prompts are given again, so that corrections are the same as well.
        seed: decides every prompt that is drawn, and the bootstrap.
        tolerance: of NSD, in the unit of distance.
        pixels_of: see `EvaluationSettings`; None is millimetres.
        title: of the report.
        description: lines of the report: data, weights, command.

    Raises:
        ProtocolError: for a protocol that does not exist.
    """

    def __init__(
        self,
        model: SlicePredictor | OpenSlice,
        slices: Sequence[LabelledSlice],
        *,
        organs: Mapping[int, str],
        protocols: Sequence[str],
        folder: str | Path,
        name: str = "model",
        before: Mapping[str, str | Path] | None = None,
        replay: str | Path | None = None,
        seed: int = 0,
        tolerance: float = 2.0,
        pixels_of: float | None = 256.0,
        title: str = "Evaluation",
        description: Sequence[str] = (),
    ) -> None:
        self.open_slice = open_with_network(model) if isinstance(model, SlicePredictor) else model
        self.slices, self.organs, self.name, self.folder = slices, organs, name, Path(folder)
        self.protocols = {protocol: protocol_named(protocol) for protocol in protocols}
        self.settings = EvaluationSettings(tuple(protocols), seed, tolerance, pixels_of)
        self.before = {other: Path(path) for other, path in (before or {}).items()}
        self.replay = None if replay is None else Path(replay)
        self.title, self.description = title, description

    def run(self) -> Path:
        """Evaluate, write the report into the folder and return its path."""
        records = evaluate_slices(
            self.open_slice,
            self.slices,
            organs=self.organs,
            protocols=self.protocols,
            folder=self.folder,
            settings=self.settings,
            replay=None if self.replay is None else read_records(self.replay),
        )
        if not is_initialized() or get_rank() == 0:
            self._report(records)
        return self.folder / "report.html"

    def _report(self, records: Records) -> None:
        runs = {other: read_records(path) for other, path in self.before.items()}
        write_report(
            self.folder,
            {**runs, self.name: records},
            title=self.title,
            description=[*self.description, self._settings_in_words()],
            overlays=extreme_cases(records, self.folder, pictures_of(self.slices, self.organs)),
            seed=self.settings.seed,
        )

    def _settings_in_words(self) -> str:
        settings = self.settings
        unit = "mm" if settings.pixels_of is None else f"pixels of a slice scaled to {settings.pixels_of:g}"
        return (
            f"{len(self.slices)} slices of {len({item.patient for item in self.slices})} patients; prompts and "
            f"bootstrap from seed {settings.seed}; NSD at {settings.tolerance:g} {unit}, HD95 in the same unit."
        )
