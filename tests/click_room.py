"""The app over a network without weights that a test lets go from slice to slice, with the two models of a click."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import session_room
from app_room import QuietApp, client_over, listening
from fakes import BrightRegionSam, bright_contract
from fastapi import FastAPI
from requests_toolbelt import MultipartDecoder
from torch import nn

from bundle.data.volume import Volume, read_label, write_volume
from bundle.engines.cache import PreparedCache
from bundle.interactive.cube_network import CubeNetwork
from bundle.interactive.cube_predictor import CubePredictor
from bundle.interactive.guided_following import GuidedFollowing
from bundle.interactive.journal import Journal
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_model import SlicePredictor
from monailabel_app.tasks.interactive import SamTask
from monailabel_app.tasks.open_images import ImageSessions

PATIENCE = 60.0  # seconds; only a broken test waits for them


class HeldSam(BrightRegionSam):
    """Says of each slice that it is asked, and answers once a test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may_answer = threading.Semaphore(0), threading.Semaphore(0)

    def predict(self, *arguments, **options):
        self.asked.release()
        assert self.may_answer.acquire(timeout=PATIENCE)
        return super().predict(*arguments, **options)

    def is_asked(self) -> None:
        """Wait for its next slice."""
        assert self.asked.acquire(timeout=PATIENCE)

    def answers_all(self) -> None:
        """Hold it no more."""
        self.may_answer.release(10_000)


class Opener:
    """Stands in for a segmenter.

    Args:
        network: of slices.
        cubes: a network of volumes beside it; None follows slice by slice.
    """

    def __init__(self, network: nn.Module, cubes: nn.Module | None = None) -> None:
        self.predictor, self._model = SlicePredictor(network, bright_contract(32), store=PreparedCache()), None
        if cubes is not None:
            self._model = GuidedFollowing(self.predictor, CubeNetwork(CubePredictor(cubes, bright_contract(32))))

    def open(self, volume: Volume, *, journal: Journal | None = None) -> InteractiveSession:
        return InteractiveSession(volume, self.predictor, volume_model=self._model, journal=journal)


class ClickApp(QuietApp):
    """The quiet app with the two models of a click; sessions are kept on disk."""

    def __init__(self, studies: Path, folder: Path, opener: Any) -> None:
        self._open = ImageSessions(opener, kept_in=folder / "kept")
        super().__init__(studies, folder / "sessions")

    def init_infers(self) -> dict[str, SamTask]:
        names = ["left", "right"]  # the objects of session_room
        return {f"sam_{dimension}d": SamTask(self._open, dimension=dimension, names=names) for dimension in (2, 3)}


@dataclass
class Clicks:
    """A server that is listening, and the threads of its clients.

    Attributes:
        app: of the server.
        url: where it is.
        kept: folder of its sessions on disk.
    """

    app: FastAPI
    url: str
    kept: Path
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4))

    def post(self, model: str, params: dict[str, Any], image: str = "image=ct", **options: Any) -> httpx.Response:
        """A click, answered."""
        data = {"params": json.dumps(params)}
        return httpx.post(f"{self.url}/infer/{model}?{image}", data=data, timeout=PATIENCE, **options)

    def click(self, *arguments: Any, **options: Any) -> Future[httpx.Response]:
        """The same, in a thread of its own."""
        return self._pool.submit(self.post, *arguments, **options)

    def jobs(self, **options: Any) -> list[dict[str, Any]]:
        """What the server is at."""
        return httpx.get(f"{self.url}/jobs/", timeout=PATIENCE, **options).json()

    def cancel(self, job: dict[str, Any] | str, **options: Any) -> httpx.Response:
        """Cancel a request, by what is told of it or by its id."""
        id = job if isinstance(job, str) else job["id"]
        return httpx.delete(f"{self.url}/jobs/{id}", timeout=PATIENCE, **options)

    def files(self) -> dict[str, bytes]:
        """The sessions on disk."""
        return {path.name: path.read_bytes() for path in sorted(self.kept.iterdir())} if self.kept.is_dir() else {}


def answered(reply: httpx.Response) -> tuple[dict[str, Any], np.ndarray]:
    """The JSON of a reply without what hangs on the time, and its label map."""
    assert reply.status_code == 200, reply.text
    about, file = MultipartDecoder(reply.content, reply.headers["content-type"]).parts
    told = json.loads(about.content)
    del told["latencies"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "answer.nii.gz")
        path.write_bytes(file.content)
        return told, read_label(path).array


@contextmanager
def clicking(folder: Path, opener: Any, image: Volume | None = None) -> Iterator[Clicks]:
    """A server over one image ``ct``, by default that of ``session_room``. One at a time: MONAI Label has one app."""
    studies = write_volume(image or session_room.volume(), folder / "studies" / "ct.nii.gz").parent
    with client_over(ClickApp(studies, folder, opener)) as client, listening(client.app) as url:
        yield Clicks(client.app, url, folder / "kept")
