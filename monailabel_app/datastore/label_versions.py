"""The labels from before: each label that is replaced or removed is kept, with who saved it and when.

They lie beside the labels in ``.versions/<tag>/<image>/``, as ``000001.nii.gz`` with ``000001.json``. The number rises;
the label in ``labels/`` is the newest and has none.
"""

from __future__ import annotations

import filecmp
import json
import logging
import re
import shutil
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bundle.files import remove_partials, sha256_of, write_text
from monailabel_app.datastore.file_changes import PRIVATE, link_or_copy
from monailabel_app.errors import RequestError

logger = logging.getLogger(__name__)

VERSIONS = ".versions"
_NOTES = re.compile(r"(\d{6,})\.json")


@dataclass(frozen=True)
class Version:
    """A label from before.

    Attributes:
        number: from 1.
        file: its label map.
        saved_at: when it was saved, in seconds since 1970.
        replaced_at: when another took its place, or it was removed.
        info: what was known about it; ``saved_by`` and ``client_id`` say who saved it.
    """

    number: int
    file: Path
    saved_at: float
    replaced_at: float
    info: dict[str, Any]

    def told(self) -> dict[str, Any]:
        """As clients see it."""
        return {
            "version": self.number,
            "saved_at": _written(self.saved_at),
            "replaced_at": _written(self.replaced_at),
            "saved_by": self.info.get("saved_by"),
            "client_id": self.info.get("client_id"),
            "bytes": self.file.stat().st_size,
        }


class LabelVersions:
    """The versions in a folder of studies. Whoever calls it holds the folder's lock."""

    def __init__(self, root: Path, *, most: int) -> None:
        """Args:
        root: of the studies.
        most: versions of one label that are kept; the oldest go.
        """
        self._root = root / VERSIONS
        self._most = most

    def list(self, image_id: str, tag: str) -> list[Version]:
        """The versions of a label, oldest first."""
        folder = self._folder(image_id, tag)
        found = [self._read(path) for path in folder.glob("*.json") if _NOTES.fullmatch(path.name)]
        return sorted((version for version in found if version), key=lambda version: version.number)

    def get(self, image_id: str, tag: str, number: int) -> Version:
        """One version.

        Raises:
            RequestError: there is none of that number (404).
        """
        versions = {version.number: version for version in self.list(image_id, tag)}
        if number not in versions:
            there = ", ".join(map(str, versions)) or "none"
            raise RequestError(f"the label {image_id!r} of {tag!r} has no version {number}; it has {there}", status=404)
        return versions[number]

    def keep(self, label: Path, ending: str, image_id: str, tag: str, info: dict[str, Any]) -> int | None:
        """Keep a label that is about to be replaced or removed.

        Returns:
            Its number; None if there is no such file, or a server that was killed had kept it already.
        """
        if not label.is_file():
            return None
        folder = self._folder(image_id, tag)
        for part in (self._root, folder.parent, folder):
            part.mkdir(mode=0o700, exist_ok=True)
        versions = self.list(image_id, tag)
        if versions and filecmp.cmp(versions[-1].file, label, shallow=False):
            return None
        number = versions[-1].number + 1 if versions else 1
        file = folder / f"{number:06d}{ending}"
        file.unlink(missing_ok=True)  # of a server that was killed before it wrote the notes
        try:
            link_or_copy(label, file)
            notes = {"file": file.name, "replaced_at": time.time(), "sha256": sha256_of(file), "info": info}
            write_text(folder / f"{number:06d}.json", json.dumps(notes, indent=2), mode=PRIVATE)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        for old in versions[: max(0, len(versions) + 1 - self._most)]:
            logger.info("Removed version %d of the label %r of %r: %d are kept", old.number, image_id, tag, self._most)
            _remove(old)
        return number

    def tidy(self) -> None:
        """Remove what a server that was killed left half written."""
        for folder in self._root.glob("*/*/"):
            remove_partials(folder)

    def forget(self, image_id: str, tag: str, number: int) -> None:
        """Take back what ``keep`` did: the label was not replaced after all."""
        for version in self.list(image_id, tag):
            if version.number == number:
                _remove(version)

    def remove_all(self, image_id: str) -> None:
        """Remove every version of every label of an image."""
        for tag in self._root.iterdir() if self._root.is_dir() else ():
            shutil.rmtree(tag / image_id, ignore_errors=True)

    def remove_older(self, than: float) -> int:
        """Remove the versions that were replaced before a time; returns how many."""
        count = 0
        for folder in sorted(self._root.glob("*/*/")):
            for version in self.list(folder.name, folder.parent.name):
                if version.replaced_at < than:
                    _remove(version)
                    count += 1
            if not any(folder.iterdir()):
                folder.rmdir()
        return count

    def _folder(self, image_id: str, tag: str) -> Path:
        return self._root / tag / image_id

    def _read(self, notes: Path) -> Version | None:
        try:
            found = json.loads(notes.read_bytes())
            file = notes.with_name(Path(found["file"]).name)
            info = found["info"]
            version = Version(int(notes.stem), file, float(info.get("ts", 0)), float(found["replaced_at"]), info)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("The notes %s of a label's version are damaged (%s)", notes, error)
            return None
        return version if file.is_file() else None


def _remove(version: Version) -> None:
    version.file.with_name(f"{version.number:06d}.json").unlink(missing_ok=True)
    version.file.unlink(missing_ok=True)


def _written(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
