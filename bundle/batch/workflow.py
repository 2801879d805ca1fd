"""Batch inference in MONAI's engine: a case in, a label map on its grid out, written with scores and times."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from monai.utils.enums import CommonKeys
from torch import nn
from tqdm import tqdm

from bundle.batch.cases import BAD_CASE, DIMENSIONS, Case, FailedCase, failed
from bundle.data.formats.dicom_seg_writer import check_source
from bundle.data.volume import Volume, write_label
from bundle.engines.cache import PreparedCache
from bundle.errors import CaseError, PromptError
from bundle.families.family import Family
from bundle.files import write_text
from bundle.interactive.label_map import LabelMap
from bundle.interactive.segmentation import Segmentation
from bundle.interactive.segmenter import Segmenter
from bundle.interactive.session import InteractiveSession
from bundle.prompts.prompts import ObjectPrompts

Score = Callable[..., Sequence[Any]]
"""`bundle.evaluation.metrics.evaluate_label_map`, or one that takes and returns the same."""


@dataclass
class ObjectResult:
    """What was found of one object.

    Attributes:
        name, label: of the object.
        slices: how many were answered.
        predicted_iou: mean over them of the network's own estimate.
        voxels: of the object in the label map, after overlaps were decided.
        seconds: spent on it.
    """

    name: str
    label: int
    slices: int
    predicted_iou: float
    voxels: int
    seconds: float


@dataclass
class CaseResult:
    """The answer to a case.

    Attributes:
        labels: (I, J, K) unsigned integers on the grid of the image.
        objects: in the order of the prompts.
        contested_voxels: voxels that more than one object claimed.
        seconds: spent in `encode`, `decode` and in all (`total`).
        encoded_slices: how many slices had to run the encoder.
    """

    labels: np.ndarray
    objects: list[ObjectResult] = field(default_factory=list)
    contested_voxels: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    encoded_slices: int = 0


class PromptInferer(Inferer):
    """Asks a promptable network all prompts of a case.

    Args:
        family: of the network; says the input contract.
        dimension: 3 segments each object through the volume, 2 only on the slices that its prompts lie on.
        axis: stored axis that slices are stacked along.
        device: where the network runs.
        store: where embeddings are kept; by default 1 GiB of memory.

    Raises:
        CaseError: on another dimension or axis.
    """

    def __init__(
        self,
        family: Family,
        *,
        dimension: int = 3,
        axis: int = 2,
        device: str | Any = None,
        store: PreparedCache | None = None,
    ) -> None:
        if dimension not in DIMENSIONS:
            raise CaseError(f"dimension must be 2 or 3, got {dimension!r}")
        if axis not in (0, 1, 2):
            raise CaseError(f"axis must be 0, 1 or 2, got {axis!r}")
        self.family, self.dimension, self.axis, self.device = family, dimension, axis, device
        self.store = store or PreparedCache()
        self._segmenter: Segmenter | None = None

    def __call__(
        self, inputs: Case | FailedCase, network: nn.Module, *args: Any, **kwargs: Any
    ) -> CaseResult | FailedCase:
        """Segment all objects of a case; a `FailedCase` where it could not be read, or its prompts do not fit it.

        Raises:
            CaseError: the network cannot be prompted.
        """
        segmenter = self._segmenter_of(network)
        if isinstance(inputs, FailedCase):
            return inputs
        try:
            return self.answer(inputs, segmenter)
        except BAD_CASE as error:
            return failed(inputs.files, error)

    def answer(self, case: Case, segmenter: Segmenter) -> CaseResult:
        """Segment all objects of a case.

        Raises:
            PromptError: naming the object whose prompt cannot be used.
        """
        session = segmenter.open(case.image)
        label_map = LabelMap(case.image.shape, max(prompt.label for prompt in case.prompts))
        result = CaseResult(label_map.labels, seconds={"encode": 0.0, "decode": 0.0, "total": 0.0})
        with tqdm(desc=case.files.name, unit="slice", leave=False, position=1, mininterval=0.5) as bar:
            for _, prompts in groupby(case.prompts, key=lambda prompt: prompt.label):
                parts = list(self._segment(session, list(prompts), bar))
                for prompt, part in parts:
                    label_map.add(part, prompt.label, prompt)
                _record(result, parts)
        for found in result.objects:
            found.voxels = int(np.count_nonzero(label_map.labels == found.label))
        result.contested_voxels = label_map.contested_voxels
        return result

    def _segmenter_of(self, network: nn.Module) -> Segmenter:
        if not network.spec.prompts:
            raise CaseError(f"family {self.family.name} takes no prompts; choose one that does")
        if self._segmenter is None or self._segmenter.predictor.network is not network:
            self._segmenter = Segmenter(self.family, network, store=self.store, device=self.device)
        return self._segmenter

    def _segment(
        self, session: InteractiveSession, prompts: list[ObjectPrompts], bar: tqdm
    ) -> Iterator[tuple[ObjectPrompts, Segmentation]]:
        bar.set_postfix_str(prompts[0].name, refresh=False)
        for prompt in prompts:
            try:
                if self.dimension == 3:
                    part = session.segment_volume(prompt, axis=self.axis, progress=lambda _: bar.update())
                else:
                    part = session.segment_slice(prompt, axis=self.axis)
                    bar.update(len(part.scores))
            except PromptError as error:
                raise PromptError(f"object {prompt.name!r}: {error}") from error
            yield prompt, part


def _record(result: CaseResult, parts: Sequence[tuple[ObjectPrompts, Segmentation]]) -> None:
    """Add one object's numbers to the case's."""
    first = parts[0][0]
    scores = [iou for _, part in parts for iou in part.scores.values()]
    seconds = sum(part.seconds["total"] for _, part in parts)
    result.objects.append(ObjectResult(first.name, first.label, len(scores), float(np.mean(scores)), 0, seconds))
    for _, part in parts:
        result.encoded_slices += part.encoded
        for kind, spent in part.seconds.items():
            result.seconds[kind] += spent


class CaseEvaluator(SupervisedEvaluator):
    """MONAI's evaluator over cases, which hold no tensors that would have to go to a device.

    Args:
        arguments: as MONAI's SupervisedEvaluator; the loader yields one `Case` at a time.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(prepare_batch=_whole_case, decollate=False, **arguments)


class _Batch(NamedTuple):
    inputs: Case | FailedCase
    targets: Volume | None


def _whole_case(case: Case | FailedCase, device: Any, non_blocking: bool, **_: Any) -> _Batch:
    return _Batch(case, None if isinstance(case, FailedCase) else case.truth)


class SaveResults:
    """Writes `<case>.json` and the label map `<case><ending>` after each case, and prints a table at the end.

    The JSON is written last, so a case that has one is complete; that of a case that failed holds its `error` alone.

    Args:
        output_dir: is made where it is missing.
        output_ext: ending of the label maps, any that `write_label` takes.
        score: compares with the truth of cases that have one.
        settings: what to note of the run in every JSON.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        output_ext: str = ".nii.gz",
        score: Score | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.output_dir, self.output_ext = Path(str(output_dir)), output_ext
        self.score, self.settings = score, dict(settings or {})
        self.rows: list[dict[str, Any]] = []
        self.failed: list[FailedCase] = []
        self.done = 0

    def attach(self, engine: Engine) -> None:
        """Follow the evaluator."""
        engine.add_event_handler(Events.ITERATION_STARTED, self.check_output)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self.print_table)

    def check_output(self, engine: Engine) -> None:
        """Refuse a DICOM SEG for an image that it cannot refer to, before its first slice is computed.

        Raises:
            VolumeError: the image is of another format, or does not say where it lies in the patient.
        """
        case = engine.state.batch
        if self.output_ext == ".dcm" and not isinstance(case, FailedCase):
            check_source(case.image.source, case.image.series)

    def __call__(self, engine: Engine) -> None:
        case, result = engine.state.batch, engine.state.output[CommonKeys.PRED]
        if isinstance(result, FailedCase):
            self.failed.append(result)
            self._write_report(result.files.name, {"image": str(result.files.image), "error": result.reason})
            return
        path = self.output_dir / f"{case.files.name}{self.output_ext}"
        write_label(result.labels, case.image, path, names={found.name: found.label for found in result.objects})
        objects = self._scored(case, result)
        self.rows += [{"case": case.files.name, **row} for row in objects]
        report = {
            "image": str(case.files.image),
            "label_map": path.name,
            "modality": case.image.modality,
            **self.settings,
            "objects": objects,
            "contested_voxels": result.contested_voxels,
            "encoded_slices": result.encoded_slices,
            "seconds": {kind: round(spent, 3) for kind, spent in result.seconds.items()},
        }
        self._write_report(case.files.name, report)
        self.done += 1

    def _write_report(self, name: str, report: Mapping[str, Any]) -> None:
        write_text(self.output_dir / f"{name}.json", json.dumps(report, indent=2) + "\n")

    def _scored(self, case: Case, result: CaseResult) -> list[dict[str, Any]]:
        """One row for each object; DSC and NSD where there is a truth."""
        rows = [asdict(found) for found in result.objects]
        for row in rows:
            row["predicted_iou"], row["seconds"] = round(row["predicted_iou"], 4), round(row["seconds"], 3)
        if self.score is None or case.truth is None:
            return rows
        labels = {found.name: found.label for found in result.objects}
        scores = self.score(result.labels, case.truth.array, spacing=case.image.spacing, labels=labels)
        return [
            {**row, "dsc": round(score.dsc, 4), "nsd": round(score.nsd, 4)}
            for row, score in zip(rows, scores, strict=True)
        ]

    def print_table(self) -> None:
        """Print one line for each object, and the means."""
        columns = [key for key in ("dsc", "nsd", "predicted_iou", "seconds") if any(key in row for row in self.rows)]
        print(f"{'case':<28} {'object':<22} {'voxels':>9}", *(f"{column:>13}" for column in columns))
        for row in self.rows:
            numbers = (f"{row[column]:>13.3f}" if column in row else f"{'':>13}" for column in columns)
            print(f"{row['case']:<28} {row['name']:<22} {row['voxels']:>9}", *numbers)
        for case in self.failed:
            print(f"{case.files.name:<28} not segmented: {case.reason}")
        if self.rows:
            means = (np.mean([row[column] for row in self.rows if column in row]) for column in columns)
            print(f"{f'mean of {len(self.rows)}':<61}", *(f"{mean:>13.3f}" for mean in means))
        print(f"Label maps and scores lie in {self.output_dir}")

    def check(self) -> None:
        """End a run that left cases out, so that a program which started it notices.

        Raises:
            CaseError: naming them.
        """
        if not self.failed:
            return
        if len(self.failed) == 1 and not self.done:
            raise CaseError(self.failed[0].reason)
        reasons = "".join(f"\n  {case.files.name}: {case.reason}" for case in self.failed)
        raise CaseError(
            f"{len(self.failed)} of {self.done + len(self.failed)} cases could not be segmented, the others are done; "
            f"mend these and add --resume True:{reasons}"
        )
