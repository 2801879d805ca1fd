"""After a click slices are prepared in the background, for whoever clicks next, and a newer click begins anew."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from app_room import AFFINE, SHAPE, QuietApp, client_over, listening
from fakes import BrightRegionSam, bright_contract
from test_precompute import slices

from bundle.data.volume import Volume, write_volume
from bundle.engines.cache import PreparedCache
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_model import SlicePredictor
from bundle.interactive.volume_slices import VolumeSlices
from monailabel_app.tasks.ahead import Ahead
from monailabel_app.tasks.interactive import SamTask
from monailabel_app.tasks.open_images import ImageSessions
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
        assert first.should_give_way() and not ahead._work.is_ending
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


def test_a_batch_does_not_take_the_place_of_what_is_prepared_for_clicks():
    volume, queue, ahead = slices(), WorkQueue(), Ahead()
    with queue.in_background(queue.background("batch")), turn("image"):
        ahead.begin(volume, axis=2, index=0)
    finish()
    assert volume.predictor.network.encoded == 0


# ---- over the wire ---------------------------------------------------------------------------------------------------

PATIENCE = 60.0  # seconds; only a broken test waits for them


class HeldSam(BrightRegionSam):
    """Says whose forward pass begins, and holds those of the background until a test lets one go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[str] = []
        self.let_go = threading.Semaphore(0)

    def prepare(self, images):
        in_background = threading.current_thread().name == "precompute"
        self.begun.append("background encodes" if in_background else "click encodes")
        if in_background:
            assert self.let_go.acquire(timeout=PATIENCE)
        return super().prepare(images)

    def predict(self, *arguments, **options):
        self.begun.append("click decodes")
        return super().predict(*arguments, **options)


class HeldApp(QuietApp):
    """The quiet app with a task to click with."""

    def __init__(self, studies, sessions, network) -> None:
        self.predictor = SlicePredictor(network, bright_contract(32), store=PreparedCache())
        super().__init__(studies, sessions)

    def open(self, volume, *, journal=None):
        return InteractiveSession(volume, self.predictor, journal=journal)

    def init_infers(self):
        return {"sam_2d": SamTask(ImageSessions(self), dimension=2)}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("index", "passes"),
    [(3, ["click decodes"]), (0, ["click encodes", "click decodes"])],
    ids=["of the slice that is being prepared", "of another slice"],
)
def test_the_passes_of_a_click_begin_after_the_one_of_the_background_that_runs(tmp_path, index, passes):
    network = HeldSam()
    array = np.random.default_rng(0).uniform(0, 100, SHAPE).astype(np.float32)  # slices that are alike are one entry
    studies = write_volume(Volume(array, AFFINE), tmp_path / "studies" / "ct.nii.gz").parent

    def post(url: str, k: int) -> int:
        params = {"foreground": [[SHAPE[0] // 2, SHAPE[1] // 2, k]], "slice": k}
        reply = httpx.post(f"{url}/infer/sam_2d?image=ct", data={"params": json.dumps(params)}, timeout=PATIENCE)
        return reply.status_code

    with client_over(HeldApp(studies, tmp_path / "sessions", network)) as client, listening(client.app) as url:
        assert post(url, 2) == 200
        until(lambda: "background encodes" in network.begun)
        before = len(network.begun)
        with ThreadPoolExecutor(1) as pool:
            click = pool.submit(post, url, index)
            until(lambda: client.app.state.queue.waiting == 1)
            assert len(network.begun) == before  # one at a time
            network.let_go.release()
            assert click.result(PATIENCE) == 200
        assert network.begun[before : before + len(passes)] == passes
        network.let_go.release(100)
        finish()
    assert network.encoded == SHAPE[2]
