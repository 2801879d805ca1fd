"""Preparing slices in the background, while nobody's request has the device."""

from __future__ import annotations

import logging
import threading

from bundle.errors import MonaiSamError
from bundle.interactive.precompute import precompute
from bundle.interactive.volume_slices import VolumeSlices
from monailabel_app.work import Work, checkpoint, current_queue, is_in_background, turn

logger = logging.getLogger(__name__)


class Ahead:
    """One thread that prepares slices outward from the last one that somebody clicked on; a newer click replaces it.

    It gives the device to any request that waits, between two blocks of the encoder, and never has it while one can use
    it. Where no server is (a test, a script), nothing is prepared.
    """

    def __init__(self) -> None:
        self._work: Work | None = None
        self._lock = threading.Lock()

    def begin(self, slices: VolumeSlices, *, axis: int, index: int) -> None:
        """Go on from a slice of a volume that a click was just answered on; a batch is followed by no further click."""
        queue = current_queue()
        if queue is None or is_in_background() or not slices.predictor.network.spec.keeps_prepared:
            return
        work = queue.background("precompute")
        with self._lock:
            self._cancel()
            self._work = work
        threading.Thread(target=_run, args=(work, slices, axis, index), name="precompute", daemon=True).start()

    def stop(self) -> None:
        """Prepare nothing more until the next click, as for a network that is not served any more."""
        with self._lock:
            self._cancel()

    def _cancel(self) -> None:
        if self._work is not None:
            self._work.cancel()
        self._work = None


def _run(work: Work, slices: VolumeSlices, axis: int, index: int) -> None:
    try:
        with work.queue.in_background(work), turn(work):
            precompute(
                slices, axis=axis, index=index, progress=lambda _: checkpoint(), interrupted=work.should_give_way
            )
    except MonaiSamError as error:  # cancelled by a newer click, or its time is over
        logger.debug("Stopped preparing slices: %s", error)
