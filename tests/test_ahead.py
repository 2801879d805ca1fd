"""After a click slices are prepared in the background, for whoever clicks next, and a newer click begins anew."""

from __future__ import annotations

import threading

from test_precompute import slices

from bundle.interactive.volume_slices import VolumeSlices
from monailabel_app.tasks.ahead import Ahead
from monailabel_app.work import WorkQueue, doing, turn


def finish() -> None:
    for thread in threading.enumerate():
        if thread.name == "precompute":
            thread.join(60)


def click(queue: WorkQueue, ahead: Ahead, volume: VolumeSlices, index: int) -> int:
    """A request that answers and lets the slices around it be prepared; how many are prepared when it ends."""
    with queue.admitted("anna", "sam_2d") as work, doing(work), turn("image"):
        ahead.begin(volume, axis=2, index=index)
        return volume.predictor.network.encoded


def test_slices_are_prepared_once_the_request_has_ended():
    volume, queue = slices(), WorkQueue()
    assert click(queue, Ahead(), volume, 3) == 0  # the request has the device
    finish()
    assert volume.predictor.network.encoded == 7 and queue.waiting == len(queue) == 0


def test_a_newer_click_replaces_what_was_begun():
    volume, queue, ahead = slices(), WorkQueue(), Ahead()
    with queue.admitted("anna", "sam_2d") as work, doing(work), turn("image"):
        ahead.begin(volume, axis=2, index=0)
        first = ahead._work
        ahead.begin(volume, axis=2, index=6)
        assert first.should_give_way() and not ahead._work._is_cancelled
    finish()
    assert volume.predictor.network.encoded == 7


def test_what_was_begun_for_a_network_that_is_not_served_any_more_ends():
    volume, queue, ahead = slices(), WorkQueue(), Ahead()
    with queue.admitted("anna", "sam_2d") as work, doing(work), turn("image"):
        ahead.begin(volume, axis=2, index=0)
        ahead.stop()
    finish()
    assert volume.predictor.network.encoded == 0


def test_without_a_server_nothing_is_prepared():
    volume, ahead = slices(), Ahead()
    ahead.begin(volume, axis=2, index=0)
    finish()
    assert volume.predictor.network.encoded == 0
