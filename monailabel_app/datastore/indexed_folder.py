"""A folder of studies and its index, kept in step: who looks, who changes, and what happens when that breaks off."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastoreModel
from monailabel.interfaces.datastore import DefaultLabelTag

from bundle.data.limits import LIMITS
from bundle.files import remove_partials
from monailabel_app.datastore.file_changes import FileChanges
from monailabel_app.datastore.label_versions import LabelVersions
from monailabel_app.datastore.study_files import find_images, find_labels, is_image, is_plain_name
from monailabel_app.datastore.study_index import INDEX, entry, new_index, read_index, write_index
from monailabel_app.errors import RequestError

logger = logging.getLogger(__name__)

_TAGS = (DefaultLabelTag.FINAL.value, DefaultLabelTag.ORIGINAL.value)  # whose folders are made
_PATIENCE = 60.0  # seconds to wait for another server that writes into the same folder
_SETTLED = 2.0  # seconds after which a change of a folder shows in its time, however coarse the file system's clock


class IndexedFolder:
    """Images in ``root``, labels in ``root/labels/<tag>/``, what was said about them in ``root/datastore_v2.json``.

    The folder decides which images and labels there are: it is looked at whenever it has changed, so that no watching
    thread can fall behind or die. An index that is handed out is never changed, only replaced.

    Attributes:
        root: of the studies.
        labels: the folder of the tags.
        versions: the labels from before.
        unclear: ids that several files have -> their names; none of them is listed.
        read_only: whether every change is refused.
    """

    def __init__(self, root: Path, *, patterns: Sequence[str], read_only: bool) -> None:
        """Args:
        root: the folder; it is made.
        patterns: which names are images.
        read_only: refuse every change. A folder that cannot be written to is so anyway.
        """
        root.mkdir(parents=True, mode=0o700, exist_ok=True)
        self.root = root
        self.labels = root / "labels"
        self.versions = LabelVersions(root, most=LIMITS.label_versions)
        self.unclear: dict[str, list[str]] = {}
        self._patterns = patterns
        self.read_only = read_only or not os.access(root, os.W_OK)
        self._lock = threading.RLock()
        self._between_servers = FileLock(root / ".lock")
        self._index = new_index()  # of the folder as it was seen last
        self._written: LocalDatastoreModel | None = None  # what the file holds; None if it has to be written
        self._file_seen: object = None
        self._folder_seen: object = None
        if self.read_only:
            logger.warning("The folder of studies %s is read only: labels cannot be saved", root)
        else:
            self._tidy()
        self.current()

    def current(self) -> LocalDatastoreModel:
        """The index of what lies in the folder now."""
        with self._lock:
            stamps = self._stamps()
            if stamps == self._folder_seen:
                return self._index
            if self._look() and not self.read_only:
                self._write_found()
            newest = max(stamp[0] for stamp in stamps.values() if stamp)
            self._folder_seen = stamps if time.time_ns() - newest > _SETTLED * 1e9 else None
            return self._index

    def look_again(self) -> None:
        """Look at the folder even if it seems the same."""
        with self._lock:
            self._folder_seen = None
            self.current()

    @contextmanager
    def changing(self) -> Iterator[LocalDatastoreModel]:
        """A copy of the index to change and ``commit``, while nobody else changes the folder.

        Raises:
            RequestError: the folder is read only (403), or another server holds its lock (503).
        """
        if self.read_only:
            raise RequestError("this server's folder of studies is read only; nothing was changed", status=403)
        with self._lock, self._others_kept_out(_PATIENCE):
            self.look_again()
            yield self._index.model_copy(deep=True)

    def commit(
        self,
        index: LocalDatastoreModel,
        source: Path | None = None,
        target: Path | None = None,
        *,
        removed: Iterable[Path] = (),
    ) -> None:
        """Let the changed index and what it tells of take their places together; a failure leaves all as it was.

        Args:
            index: the new one.
            source: a file of which a copy takes a place,
            target: and that place.
            removed: files that go.
        """
        changes = FileChanges()

        def place() -> None:
            if source is not None and target is not None:
                changes.put(source, target)
            for path in removed:
                changes.remove(path)

        try:
            write_index(self.root / INDEX, index, place)
        except BaseException:
            changes.take_back()
            raise
        changes.keep()
        self._index = self._written = index
        self._file_seen, self._folder_seen = _stamp(self.root / INDEX), None

    def place(self, folder: Path, name: str) -> Path:
        """The path of a file that may be written or removed.

        Raises:
            RequestError: the folder is a link that leads out of the folder of studies.
        """
        if not self._is_inside(folder):
            place = folder.relative_to(self.root)
            raise RequestError(f"{place} is a link that leads out of the folder of studies; nothing is written there")
        return folder / name

    def check_takes(self, name: str) -> None:
        """Refuse a file that would not be listed as an image.

        Raises:
            RequestError: its name says so.
        """
        if not is_image(name, self._patterns):
            kinds = "" if "*" in self._patterns else f" (it lists {', '.join(self._patterns)})"
            raise RequestError(f"{name} is no image that this server takes{kinds}; convert it, for instance to .nii.gz")

    # ---- looking ----------------------------------------------------------------------------------------------------

    def _look(self) -> bool:
        """Read the index if it was changed, list the folder, and say whether the two differ."""
        stamp = _stamp(self.root / INDEX)
        if stamp is None:
            self._written = None
        elif stamp != self._file_seen:
            index, was_damaged = read_index(self.root / INDEX, otherwise=self._index)
            self._index, self._written = index, None if was_damaged else index
        self._file_seen = stamp
        self._index = self._listed(self._index)
        return self._written is None or self._written.objects != self._index.objects

    def _write_found(self) -> None:
        """Bring the index up to date; what it would say can be found again, so that a failure stops nobody."""
        try:
            with self._others_kept_out(1.0):
                if self._look():  # the other server may have done it
                    self.commit(self._index)
        except (OSError, RequestError) as error:
            logger.warning("The index %s could not be brought up to date: %s", self.root / INDEX, error)

    def _stamps(self) -> dict[Path, tuple[int, ...] | None]:
        """What changes when a file comes, goes or is renamed."""
        folders = [self.root, self.labels, *(self.labels / tag for tag in self._tags())]
        return {path: _stamp(path) for path in (*folders, self.root / INDEX)}

    def _tags(self) -> list[str]:
        if not self.labels.is_dir():
            return []
        return sorted(path.name for path in self.labels.iterdir() if path.is_dir() and is_plain_name(path.name))

    def _listed(self, index: LocalDatastoreModel) -> LocalDatastoreModel:
        """An index of the files there are, with what ``index`` says about them."""
        before = {name: image.image for name, image in index.objects.items()}
        found, self.unclear = find_images(self.root, self._patterns, _endings(before))
        images = _described(found, before)
        objects = {name: ImageLabelModel(image=image) for name, image in images.items()}
        for tag in self._tags():
            before = {name: image.labels[tag] for name, image in index.objects.items() if tag in image.labels}
            labels = _described(find_labels(self.labels / tag, images, _endings(before)), before)
            for name, label in labels.items():
                objects[name].labels[tag] = label
        return index.model_copy(update={"objects": objects})

    # ---- writing ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _others_kept_out(self, patience: float) -> Iterator[None]:
        try:
            self._between_servers.acquire(timeout=patience)
        except Timeout as error:
            raise RequestError("another server is busy in this folder of studies; try again", status=503) from error
        try:
            yield
        finally:
            self._between_servers.release()

    def _is_inside(self, folder: Path) -> bool:
        return folder.resolve().is_relative_to(self.root.resolve())

    def _tidy(self) -> None:
        """Make the folders of labels, and remove what a server that was killed left half written."""
        with self._others_kept_out(_PATIENCE):
            self.versions.tidy()
            for folder in (self.root, *(self.labels / tag for tag in {*_TAGS, *self._tags()})):
                if self._is_inside(folder):
                    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
                    remove_partials(folder)
                for kept in folder.glob(".*.previous"):  # version 0.1 kept the label before beside the new one
                    logger.warning("%s is the label from before a save that broke off; see which one is right", kept)


def _described(endings: dict[str, str], before: dict[str, DataModel]) -> dict[str, DataModel]:
    """What is known about each file: as before, unless it is new or of another format."""
    return {
        name: before[name] if name in before and before[name].ext == ending else entry(name, ending)
        for name, ending in endings.items()
    }


def _endings(known: dict[str, DataModel]) -> dict[str, str]:
    return {name: part.ext for name, part in known.items()}


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
