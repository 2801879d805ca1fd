"""What a batch run leaves behind: a label map and a JSON for each case, a table, statistics and previews."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys

from bundle.batch.case_files import CaseFiles
from bundle.batch.cases import Case, FailedCase
from bundle.batch.claims import INPUTS
from bundle.batch.workflow import CaseResult
from bundle.data.formats.dicom_seg_writer import check_source
from bundle.data.volume import write_label
from bundle.errors import CaseError
from bundle.files import read_json, write_text
from bundle.interactive.measures import object_measures

Score = Callable[..., Sequence[Any]]
"""`bundle.evaluation.metrics.evaluate_label_map`, or one that takes and returns the same."""

REPORT = "report.csv"
_SHOWN = ("dsc", "nsd", "ml", "predicted_iou", "seconds")

_log = logging.getLogger(__name__)


class SaveResults:
    """Writes `<case>.json` and the label map `<case><ending>` after each case, and logs a table at the end.

    The JSON is written last, so a case that has one is complete; that of a case that failed holds its `error`
    alone. Where there are several cases, or statistics are asked for, `report.csv` has a line for each object of each
    case and for each case that failed.

    Args:
        output_dir: is made where it is missing.
        output_ext: ending of the label maps, any that `write_label` takes.
        score: compares with the truth of cases that have one.
        settings: what to note of the run in every JSON.
        axis: stored axis of the slices that long and short axis are measured on.
        statistics: measure each object, see `bundle.interactive.measures`.
        preview: draw `<case>.png`, see `bundle.batch.preview`.
        cases: of the run, for the report; by default those that this worker did.
        digest: what tells one case's files from others, `bundle.batch.claims.digest_of`; is noted in its JSON.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        output_ext: str = ".nii.gz",
        score: Score | None = None,
        settings: Mapping[str, Any] | None = None,
        statistics: bool = False,
        axis: int = 2,
        preview: bool = False,
        cases: Sequence[CaseFiles] = (),
        digest: Callable[[CaseFiles], str] | None = None,
    ) -> None:
        self.output_dir, self.output_ext = Path(str(output_dir)), output_ext
        self.score, self.settings = score, dict(settings or {})
        self.statistics, self.axis, self.preview, self.digest = statistics, axis, preview, digest
        self.names = [case.name for case in cases]
        self.rows: list[dict[str, Any]] = []
        self.failed: list[FailedCase] = []
        self.passed: list[CaseFiles] = []
        self.done = 0

    def attach(self, engine: Engine) -> None:
        """Follow the evaluator."""
        engine.add_event_handler(Events.ITERATION_STARTED, self.check_output)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def check_output(self, engine: Engine) -> None:
        """Refuse a DICOM SEG for an image that it cannot refer to, before its first slice is computed.

        Raises:
            VolumeError: the image is of another format, or does not say where it lies in the patient.
        """
        case = engine.state.batch
        if self.output_ext == ".dcm" and isinstance(case, Case):
            check_source(case.image.source, case.image.series)

    def __call__(self, engine: Engine) -> None:
        case, result = engine.state.batch, engine.state.output[CommonKeys.PRED]
        if isinstance(result, CaseFiles):
            self.passed.append(result)
        elif isinstance(result, FailedCase):
            self.failed.append(result)
            self._write_report(result.files.name, {"image": str(result.files.image), "error": result.reason})
        else:
            self._save(case, result)

    def _save(self, case: Case, result: CaseResult) -> None:
        path = self.output_dir / f"{case.files.name}{self.output_ext}"
        write_label(result.labels, case.image, path, names={found.name: found.label for found in result.objects})
        objects = self._scored(case, result)
        if self.statistics:
            objects = [
                row | object_measures(result.labels == row["label"], case.image, axis=self.axis) for row in objects
            ]
        if self.preview:
            from bundle.batch.preview import draw_case  # matplotlib takes a second

            draw_case(path.with_name(f"{case.files.name}.preview.png"), case, result.labels)
        self.rows += [{"case": case.files.name, **row} for row in objects]
        report = {
            "image": str(case.files.image),
            "label_map": path.name,
            "modality": case.image.modality,
            **self.settings,
            "objects": objects,
            "contested_voxels": result.contested_voxels,
            "encoded_slices": result.encoded_slices,
            "engine": result.engine,
            "seconds": {kind: round(spent, 3) for kind, spent in result.seconds.items()},
            **({} if self.digest is None else {INPUTS: self.digest(case.files)}),
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

    def finish(self) -> None:
        """Log the table of what this worker did, and write the report of all cases."""
        _log.info("%s", "\n".join(self._table()))
        names = self.names or [*dict.fromkeys(row["case"] for row in self.rows), *(c.files.name for c in self.failed)]
        if len(names) > 1 or self.statistics:
            path = write_report(self.output_dir, names)
            _log.info("The report of all cases is %s", path)

    def _table(self) -> list[str]:
        """One line for each object, and the means."""
        columns = [key for key in _SHOWN if any(key in row for row in self.rows)]
        lines = [" ".join([f"{'case':<28} {'object':<22} {'voxels':>9}", *(f"{column:>13}" for column in columns)])]
        for row in self.rows:
            numbers = (f"{row[column]:>13.3f}" if column in row else f"{'':>13}" for column in columns)
            lines.append(" ".join([f"{row['case']:<28} {row['name']:<22} {row['voxels']:>9}", *numbers]))
        lines += [f"{case.files.name:<28} not segmented: {case.reason}" for case in self.failed]
        if self.rows:  # of one row too: scripts look for this line
            means = (np.mean([row[column] for row in self.rows if column in row]) for column in columns)
            lines.append(" ".join([f"{f'mean of {len(self.rows)}':<61}", *(f"{mean:>13.3f}" for mean in means)]))
        if self.passed:
            lines.append(f"{len(self.passed)} cases are with other workers")
        return [*lines, f"Label maps and scores lie in {self.output_dir}"]

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
            f"mend these and run it again (`monai.bundle run` with --resume True):{reasons}"
        )


def write_report(folder: Path, names: Sequence[str]) -> Path:
    """Write `report.csv` from the JSON files of cases: a line for each object, and for each case with an error.

    Args:
        folder: of the results.
        names: of the cases; those without a JSON, which another worker is at, are left out.
    """
    rows: list[dict[str, Any]] = []
    for name in names:
        path = folder / f"{name}.json"
        if not path.is_file():
            continue
        case = read_json(path)
        rows += [{"case": name, **row} for row in case.get("objects", ())]
        if "error" in case:
            rows.append({"case": name, "error": case["error"]})
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(["case", *(key for row in rows for key in row)])))
    writer.writeheader()
    writer.writerows(rows)
    return write_text(folder / REPORT, text.getvalue())
