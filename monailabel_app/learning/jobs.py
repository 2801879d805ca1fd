"""The trainings that were asked for, as records on disk, so that they survive the server."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from bundle.files import read_json, remove_partials, write_text
from bundle.waiting import PASSIVE

logger = logging.getLogger(__name__)

KEPT = 20  # jobs whose log and scores are kept
SUBMITTED, RUNNING, DONE, ERROR, STOPPED = "SUBMITTED", "RUNNING", "DONE", "ERROR", "STOPPED"
WAITING = (SUBMITTED, RUNNING)
"""States in which a job still has something to do; a server that starts goes on with them."""
ASKED, BACKGROUND = "asked", "background"
BEFORE = "before.json"
"""In a job's folder: what the network that is served scores."""
_RECORD = "job.json"
_PRIVATE = 0o600
_LINES = 20  # of a log that clients see: as many as MONAI Label's own


@dataclass(frozen=True)
class Job:
    """A training.

    Attributes:
        folder: of its files; its name is the job's id, and ids are in the order of time.
        kind: "asked" by somebody, or "background" beside annotation.
        options: of ``read_options``.
        labels: how many accepted labels there were.
        by: account that asked; None without accounts.
        state: SUBMITTED, RUNNING, DONE, ERROR or STOPPED.
        created, started, ended: seconds since 1970.
        process: id and start time of its process while it runs, to tell it from another of that id.
        error: one sentence.
        version: that came of it; None where the gate refused it, or it is not done.
    """

    folder: Path
    kind: str
    options: Mapping[str, Any]
    labels: int = 0
    by: str | None = None
    state: str = SUBMITTED
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    process: tuple[int, float] | None = None
    error: str | None = None
    version: int | None = None

    @property
    def id(self) -> str:
        """Name of the job."""
        return self.folder.name

    @property
    def log(self) -> Path:
        """What its process has printed."""
        return self.folder / "log.txt"

    def changed(self, **values: Any) -> Job:
        """The job with other values, on the disk before this returns."""
        job = replace(self, **values)
        content = {name: value for name, value in asdict(job).items() if name != "folder"}
        write_text(job.folder / _RECORD, json.dumps(content, indent=1), mode=_PRIVATE)
        return job

    def told(self) -> dict[str, Any]:
        """As MONAI Label's clients see a task, with what only ours know."""
        return {
            "id": self.id,
            "status": self.state,
            "request": {"model": "finetune", **self.options},
            "start_ts": _written(self.started or self.created),
            "end_ts": _written(self.ended),
            "details": log_tail(self.log),
            "kind": self.kind,
            "labels": self.labels,
            "by": self.by,
            "progress": _json(self.folder / "progress.json"),
            "training": _json(self.folder / "training" / "progress.json"),
            "error": self.error,
            "version": self.version,
        }


class Jobs:
    """The records in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)

    def all(self) -> list[Job]:
        """Every job that is known, oldest first."""
        found = [self._read(path) for path in sorted(self.folder.glob(f"*/{_RECORD}"))]
        return [job for job in found if job]

    def get(self, name: str) -> Job:
        """The job of an id, as it is now."""
        return next(job for job in self.all() if job.id == name)

    def add(self, kind: str, options: Mapping[str, Any], **about: Any) -> Job:
        """A new job."""
        name = f"{datetime.now():%Y%m%d-%H%M%S-%f}-{uuid.uuid4().hex[:6]}"
        (self.folder / name).mkdir(mode=0o700)
        self._tidy()
        return Job(self.folder / name, kind, dict(options), **about).changed()

    def _read(self, path: Path) -> Job | None:
        try:
            content = read_json(path)
            content["process"] = tuple(content["process"]) if content.get("process") else None
            return Job(folder=path.parent, **content)
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            logger.warning("The record %s of a training is damaged (%s)", path, error)
            return None

    def _tidy(self) -> None:
        for job in self.all()[:-KEPT]:
            if job.state not in WAITING:
                shutil.rmtree(job.folder, ignore_errors=True)


def forget_material(job: Job) -> None:
    """Remove what a job that is done needs no more: its copies of labels, and the states of its training."""
    for part in ("data", "training"):
        shutil.rmtree(job.folder / part, ignore_errors=True)
    for part in ("request.json", "candidate.safetensors", "start.safetensors"):
        (job.folder / part).unlink(missing_ok=True)
    remove_partials(job.folder)


def forget_everything(job: Job) -> None:
    """Remove all but the record and the log, so that the job begins anew."""
    forget_material(job)
    for path in job.folder.glob("*.json"):
        if path.name != _RECORD:
            path.unlink(missing_ok=True)


def job_environment(cores: int) -> dict[str, str]:
    """The environment of a job's process."""
    return {**os.environ, **PASSIVE, "OMP_NUM_THREADS": str(cores)}


def log_tail(log: Path, lines: int = _LINES) -> list[str]:
    """The last lines of a log; of a bar that was drawn again and again, the last state."""
    if not log.is_file():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 65536))
        text = file.read().decode("utf-8", "replace")
    return [line.rsplit("\r", 1)[-1].rstrip() for line in text.replace("\r\n", "\n").split("\n") if line.strip()][
        -lines:
    ]


def _json(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except (OSError, ValueError):  # there is none yet
        return None


def _written(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
