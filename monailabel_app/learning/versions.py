"""The networks that trainings have made, on disk, and which of them is served.

Each version is ``000001.safetensors`` with ``000001.json``, in this order, and ``active.json`` names the one that is
served; each file appears under its name when it is complete (``write_atomically``). So whatever kills a server, the
next one finds the version from before or the new one, and ends what was begun (``Versions.publish``). Version 0 is what
the server was started with.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundle.files import read_json, remove_partials, sha256_of, write_atomically, write_text
from monailabel_app.errors import RequestError

logger = logging.getLogger(__name__)

KEPT = 20  # versions; the oldest go, the one that is served stays
_NOTES = re.compile(r"\d{6,}\.json")
_ABANDONED = 3600.0  # seconds; a younger half-written file may be of another server, which chooses a version just now
_PRIVATE = 0o600  # weights may remember what they were trained on


@dataclass(frozen=True)
class Version:
    """A network.

    Attributes:
        number: 0 is what the server was started with.
        checkpoint: its weights.
        notes: when and by which job it was made, its scores; empty of version 0.
    """

    number: int
    checkpoint: Path
    notes: Mapping[str, Any] = field(default_factory=dict)


class Versions:
    """The versions in a folder.

    Args:
        folder: is made; one for each base, because a version is judged against the network that it started from.
        base: checkpoint that the server was started with.
    """

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder, self.base = folder, base
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        remove_partials(folder, age=_ABANDONED)
        self._looked: tuple[object, Version] | None = None

    def all(self) -> list[Version]:
        """Every version whose files are there, oldest first."""
        found = [self._read(path) for path in self.folder.glob("*.json") if _NOTES.fullmatch(path.name)]
        versions = sorted((version for version in found if version), key=lambda version: version.number)
        return [Version(0, self.base), *versions]

    def active(self) -> Version:
        """The version that is served: the one that was chosen last, or the newest before it that is undamaged."""
        stamp, looked = _stamp(self.folder / "active.json"), self._looked  # which another thread may change meanwhile
        if looked is None or looked[0] != stamp:
            looked = self._looked = stamp, self._find(self._chosen())
        return looked[1]

    def publish(self, candidate: Path, notes: Mapping[str, Any]) -> Version:
        """Make a checkpoint the newest version, and serve it.

        Publishing the same ``job`` again does what a server that was killed at it has left undone: a version that it
        has written and not yet chosen is served, one that somebody has gone back from since is not.

        Args:
            candidate: the weights.
            notes: what is known of them; ``job`` says which training made them.
        """
        begun = [version for version in self.all() if version.number and version.notes.get("job") == notes["job"]]
        version = begun[-1] if begun else self._write(candidate, notes)
        if version.number > self._chosen_from():
            self._point_at(version.number)
        self._tidy(self.active().number)
        return version

    def _write(self, candidate: Path, notes: Mapping[str, Any]) -> Version:
        number = max(self._numbers(), default=0) + 1  # a number that was given once is not given again
        checkpoint = self.folder / f"{number:06d}.safetensors"
        write_atomically(checkpoint, lambda partial: shutil.copyfile(candidate, partial), mode=_PRIVATE)
        told = {**notes, "sha256": sha256_of(checkpoint), "published_at": time.time()}
        write_text(self.folder / f"{number:06d}.json", json.dumps(told, indent=1), mode=_PRIVATE)
        return Version(number, checkpoint, told)

    def activate(self, number: int) -> Version:
        """Serve another version, as one from before.

        Raises:
            RequestError: there is none of that number (404), or its file is damaged (409).
        """
        found = {version.number: version for version in self.all()}
        if number not in found:
            there = ", ".join(map(str, found))
            raise RequestError(f"there is no version {number}; there are {there}", status=404)
        if not _is_undamaged(found[number]):
            raise RequestError(f"the weights of version {number} are damaged; nothing was changed", status=409)
        self._point_at(number)
        return found[number]

    def _find(self, chosen: int) -> Version:
        before = [version for version in self.all() if version.number <= chosen]
        version = next(version for version in reversed(before) if _is_undamaged(version))  # version 0 always is
        if version.number != chosen:
            logger.warning("Version %d is missing or damaged; version %d is served", chosen, version.number)
        return version

    def _chosen(self) -> int:
        path = self.folder / "active.json"
        try:
            return int(read_json(path)["version"])
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, TypeError, KeyError) as error:
            newest = max(version.number for version in self.all())
            logger.warning("%s is damaged (%s); the newest version is served", path, error)
            return newest

    def _chosen_from(self) -> int:
        """The newest version that there was when the one that is served was chosen."""
        try:
            chosen = read_json(self.folder / "active.json")
            return int(chosen.get("newest", chosen["version"]))  # older files lack it
        except (OSError, ValueError, TypeError, KeyError, AttributeError):  # none, or damaged: the newest is served
            return 0

    def _point_at(self, number: int) -> None:
        chosen = {"version": number, "newest": max(self._numbers(), default=0)}
        write_text(self.folder / "active.json", json.dumps(chosen), mode=_PRIVATE)
        self._looked = None

    def _numbers(self) -> list[int]:
        return [int(path.stem) for path in self.folder.glob("*.*") if path.stem.isdecimal()]

    def _read(self, notes: Path) -> Version | None:
        checkpoint = notes.with_suffix(".safetensors")
        try:
            content = read_json(notes)
        except (OSError, ValueError) as error:
            logger.warning("The notes %s of a version are damaged (%s)", notes, error)
            return None
        whole = isinstance(content, dict) and checkpoint.is_file()
        return Version(int(notes.stem), checkpoint, content) if whole else None

    def _tidy(self, active: int) -> None:
        """Remove the oldest beyond ``KEPT``, and weights without notes: their server was killed between the two."""
        for version in self.all()[1:-KEPT]:
            if version.number != active:
                logger.info("Removed version %d: %d are kept", version.number, KEPT)
                version.checkpoint.with_suffix(".json").unlink(missing_ok=True)
        for checkpoint in self.folder.glob("*.safetensors"):
            if not checkpoint.with_suffix(".json").exists():
                checkpoint.unlink(missing_ok=True)


def _is_undamaged(version: Version) -> bool:
    return version.number == 0 or sha256_of(version.checkpoint) == version.notes.get("sha256")


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
