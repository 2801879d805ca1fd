"""The images that are being worked on, kept open so that a click does not read and encode them again."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from pathlib import Path

from bundle.data import guarded
from bundle.data.digest import image_digest
from bundle.data.volume import Volume
from bundle.engines.interruption import holding, wait_until
from bundle.errors import SeriesError
from bundle.interactive.journal import Journal
from bundle.interactive.segmenter import Segmenter
from bundle.interactive.session import InteractiveSession
from monailabel_app.errors import RequestError, without_folders
from monailabel_app.tasks.ahead import Ahead
from monailabel_app.work import is_in_background, rest

logger = logging.getLogger(__name__)

_MOST_USERS = 16  # of one image whose sessions stay in memory


class OpenImage:
    """A volume before the model, and the session of each user who works on it.

    Args:
        volume: the image.
        segmenter: answers; the users' sessions share what it prepares of the image, and nothing else.
        kept_in: folder of sessions on disk; None keeps them in memory.
    """

    def __init__(self, volume: Volume, segmenter: Segmenter, kept_in: Path | None = None) -> None:
        self.volume, self._segmenter, self._kept_in = volume, segmenter, kept_in
        self._opened = segmenter.open(volume)
        self._sessions: OrderedDict[str, InteractiveSession] = OrderedDict()
        self._digest: str | None = None
        self._lock = threading.Lock()
        self._switching = threading.Lock()

    def answer_with(self, served: Callable[[], Segmenter]) -> None:
        """Let the network that is served answer from each session's next request on.

        Args:
            served: gives it. It is asked when nobody else switches, so that an earlier network is not the last to open.
        """
        with holding(self._switching, idle=rest):
            segmenter = served()
            if segmenter is not self._segmenter:
                self._opened = segmenter.open(self.volume)  # reads the whole volume once
                self._segmenter = segmenter

    def session(self, user: str = "") -> InteractiveSession:
        """The session of a user, where it was left. The ones used longest ago are closed; on disk they are kept.

        Raises:
            JournalError: what is on disk of it cannot be used.
        """
        known = self._sessions.get(user)
        if known is not None:
            known.answer_with(self._opened, idle=rest)
        opened = self._opened.for_user(self._journal(user)) if known is None else known  # may wait, beside other users
        with self._lock:
            self._sessions.setdefault(user, opened)
            self._sessions.move_to_end(user)
            if len(self._sessions) > _MOST_USERS:
                self._sessions.popitem(last=False)
            return self._sessions[user]

    def turn_of(self, user: str = "") -> Hashable:
        """What this user's requests take turns on: the record of the session, which several sessions may share.

        As where the image is open under two keys (a modality, an upload), or its session was closed for other users and
        opened again: who waited for that record with the device would stop its holder, who waits for the device.
        """
        journal = self._journal(user)
        return (id(self), user) if journal is None else journal.path

    def _journal(self, user: str) -> Journal | None:
        if self._kept_in is None:
            return None
        self._digest = self._digest or image_digest(self.volume)
        return Journal.of(self._kept_in, self.volume, user, digest=self._digest, idle=rest)


class ImageSessions:
    """Open images by identity; the ones used longest ago are closed beyond a number or an amount of memory.

    What the server opened of its own accord goes first. Safe to use from several threads: an image that two requests
    want at once is read once, and a closed image stays usable for the request that holds it.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        max_images: int = 8,
        max_bytes: int = 4 * 2**30,
        modality: str | None = None,
        kept_in: Path | None = None,
    ) -> None:
        """Args:
        segmenter: opens the sessions.
        max_images: images kept open.
        max_bytes: memory of their voxels; the newest image stays open even if it is larger.
        modality: of every image of which a request says nothing else; None is what its file says.
        kept_in: folder of the sessions on disk; None keeps them in memory, as long as their image is open.
        """
        self._segmenter = segmenter
        self._max_images = max_images
        self._max_bytes = max_bytes
        self._modality = modality
        self._kept_in = kept_in
        self.ahead = Ahead()
        self._images: OrderedDict[Hashable, Future[OpenImage]] = OrderedDict()
        self._lock = threading.Lock()
        guarded.start()

    def open(
        self, path: Path, *, key: Hashable | None = None, modality: str | None = None, series: str | None = None
    ) -> OpenImage:
        """The open image of a file or DICOM folder.

        Args:
            path: the image.
            key: its identity; by default ``file_identity``, so that a replaced file is read again.
            modality: what kind of values it holds, see ``read_volume``; one image read in two ways is open twice.
            series: which DICOM series and scan, see ``read_volume``; each is an image of its own.

        Raises:
            VolumeError: the image cannot be read.
            Cancelled: the request was while another one reads the image, or its client has left.
        """
        modality = modality or self._modality
        key = file_identity(path) if key is None else key, modality, series
        with self._lock:
            future = self._images.get(key)
            is_new = future is None
            if future is None:
                future = self._images[key] = Future()
            if not is_in_background():
                self._images.move_to_end(key)
            elif is_new:  # the first to be closed, so that a batch closes no image that somebody works on
                self._images.move_to_end(key, last=False)
        if is_new:
            self._read(path, key, future, modality, series)  # to its end, for others may wait for it by now
        wait_until(future.done, idle=rest)
        image = future.result()
        image.answer_with(lambda: self._segmenter)
        return image

    def switch(self, segmenter: Segmenter) -> None:
        """Let another network answer; sessions that are open go on with it at their next request."""
        self._segmenter = segmenter
        self.ahead.stop()

    def __len__(self) -> int:
        return len(self._images)

    @property
    def nbytes(self) -> int:
        """Bytes of the voxels of all open images."""
        with self._lock:
            return self._nbytes()

    def _read(
        self, path: Path, key: Hashable, future: Future[OpenImage], modality: str | None, series: str | None
    ) -> None:
        try:
            volume = _read_image(path, modality, series)
            future.set_result(OpenImage(volume, self._segmenter, self._kept_in))
        except BaseException as error:
            with self._lock:
                self._images.pop(key, None)
            future.set_exception(error)
        else:
            self._close_oldest()

    def _close_oldest(self) -> None:
        with self._lock:
            while len(self._images) > 1 and self._is_full():
                key, _ = self._images.popitem(last=False)
                logger.info("Closed the image used longest ago: %s", key)

    def _is_full(self) -> bool:
        return len(self._images) > self._max_images or self._nbytes() > self._max_bytes

    def _nbytes(self) -> int:
        return sum(future.result().volume.array.nbytes for future in self._images.values() if future.done())


def _read_image(path: Path, modality: str | None, series: str | None) -> Volume:
    try:
        return guarded.read_volume(path, modality=modality, series=series)
    except SeriesError as error:
        sentence = error.asked_with('"series" in the params of the request')
        raise RequestError(without_folders(sentence)) from error


def file_identity(path: Path) -> Hashable:
    """What tells a file, or a folder of files, from another or from itself after a change: place, time and size."""
    path = path.resolve()
    parts = sorted(path.iterdir()) if path.is_dir() else [path]
    return str(path), tuple((part.name, (stat := part.stat()).st_mtime_ns, stat.st_size) for part in parts)
