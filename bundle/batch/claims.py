"""Which cases are done, and which of several workers does which of the others (`bundle.claims`).

A case is done when its JSON is there, which is written last and says from which files, by content, and with which
settings it was made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bundle.batch.case_files import CaseFiles
from bundle.batch.prompt_table import is_table, rows_of
from bundle.claims import in_turn, state_of, taken, worker_number
from bundle.errors import CaseError
from bundle.files import read_json, sha256_of
from bundle.layers import refuse_other_settings

INPUTS = "inputs"
"""Name in the JSON of a case for the digest of its files."""


class Claims:
    """The cases of a run that are this worker's to do.

    Args:
        folder: of the results.
        settings: what the results depend on beside the files; is noted in each JSON.
        resume: keep the results that are there, if they were made from the same files with the same settings.
        worker: this worker's number; by default what the environment says.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        settings: Mapping[str, Any] | None = None,
        resume: bool = False,
        worker: int | None = None,
    ) -> None:
        self.folder, self.settings, self.resume = Path(str(folder)), dict(settings or {}), resume
        self.worker = worker_number() if worker is None else worker
        self._before: dict[str, str] = {}

    def pending(self, cases: Sequence[CaseFiles]) -> list[CaseFiles]:
        """The cases that are left to do, in the order in which this worker tries them.

        Raises:
            RunStateError: the folder holds results with other settings, naming them.
            CaseError: several workers would do everything anew, each other's work too.
        """
        if self.worker is not None and not self.resume:
            raise CaseError("several workers share the cases of a folder only if results are kept; add --resume True")
        left = [case for case in cases if not (self.resume and self._is_done(case))]
        self._before = {case.name: state_of(self._report(case)) for case in left}
        return in_turn(left, self.worker)

    @contextmanager
    def taken(self, case: CaseFiles) -> Iterator[bool]:
        """Hold a case while it is worked on; False where another worker holds it or has done it meanwhile."""
        with taken(self._report(case), self._before.get(case.name, "")) as is_mine:
            yield bool(is_mine)

    def _is_done(self, case: CaseFiles) -> bool:
        path = self._report(case)
        try:
            report = read_json(path)
        except (OSError, ValueError):  # none, or of a run that was killed by a version that wrote in place
            return False
        if not isinstance(report, Mapping) or "error" in report:
            return False
        noted = {name: report.get(name) for name in self.settings}
        refuse_other_settings(path, noted, _as_noted(self.settings), advice="choose another --output_dir")
        return report.get(INPUTS) == digest_of(case)

    def _report(self, case: CaseFiles) -> Path:
        return self.folder / f"{case.name}.json"


def digest_of(case: CaseFiles) -> str:
    """sha256 over the content of the files of a case, as 64 hexadecimal digits; of a folder, over all its files.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in (case.image, case.prompts, case.label):
        digest.update(b"\0")
        if path is None:
            continue
        if is_table(path):
            digest.update(json.dumps(rows_of(path, case.image)).encode())
            continue
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(sha256_of(file).encode())
    return digest.hexdigest()


def _as_noted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they come back from JSON."""
    return json.loads(json.dumps(dict(settings)))
