"""What a server keeps on its disk of the images that people work on, where, and for how long."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundle.engines.cache import PreparedCache
from bundle.engines.prepared_files import prepared_folder
from bundle.interactive.session_files import DAYS, purge_sessions, sessions_folder
from monailabel_app.conf import chosen_folder, number_above_0
from monailabel_app.work import rest

logger = logging.getLogger(__name__)

OPTIONS = ("sessions", "session_days", "prepared", "prepared_gb")
GIGABYTES = 8.0  # of prepared slices: 2000 of an embedding of 4 MiB
_EVERY = 3600.0  # seconds between two looks for what is too old


@dataclass(frozen=True)
class Kept:
    """What a server keeps on disk.

    Attributes:
        sessions: folder of the users' sessions; None keeps them in memory, as long as their image is open.
        prepared: what networks made of slices, one store for all that the server loads.
        days: after its last use that either is kept.
    """

    sessions: Path | None
    prepared: PreparedCache
    days: float = DAYS

    @classmethod
    def of(cls, conf: Mapping[str, str]) -> Kept:
        """As the options of the app say (``OPTIONS``). One age for both: whoever shortens one means the other, too.

        Raises:
            RequestError: a number that is none above 0, or a folder that cannot be used or that others may look into.
        """
        days, gigabytes = number_above_0(conf, "session_days", DAYS), number_above_0(conf, "prepared_gb", GIGABYTES)
        sessions = chosen_folder(conf, "sessions", sessions_folder(), without="Sessions end with the server")
        prepared = chosen_folder(
            conf, "prepared", prepared_folder(), without="Slices are prepared again by the next server"
        )
        cache = PreparedCache(folder=prepared, disk_bytes=int(gigabytes * 2**30), days=days, idle=rest)
        return cls(sessions, cache, days)

    def purge(self) -> None:
        """Remove what is older, and prepared slices beyond their budget."""
        if self.sessions is not None and (count := purge_sessions(self.sessions, days=self.days)):
            logger.info("Removed %d sessions on which nothing was done for %g days", count, self.days)
        self.prepared.purge()

    def __str__(self) -> str:
        files = self.prepared.files
        places = [str(folder) if folder else "memory alone" for folder in (self.sessions, files and files.folder)]
        return f"Sessions are kept in {places[0]}, prepared slices in {places[1]}, for {self.days:g} days"


@contextmanager
def purged(purge: Callable[[], object], *, every: float = _EVERY) -> Iterator[None]:
    """Purge at once, and again every so many seconds while the block runs, in a thread; a failure is logged."""
    ends = threading.Event()

    def work() -> None:
        while True:
            try:
                purge()
            except Exception:  # the next time may go well, and the server lives on
                logger.exception("What is too old could not be removed")
            if ends.wait(every):
                return

    thread = threading.Thread(target=work, name="purge", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()
