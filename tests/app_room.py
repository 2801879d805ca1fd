"""The app without its network, its routes called in this process."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.utils.app import apps

from bundle.data.volume import Volume, write_label, write_volume
from monailabel_app.datastore.session_folder import SessionFolder
from monailabel_app.datastore.study_folder import StudyFolder
from monailabel_app.server.app import create_app
from monailabel_app.server.lingering import LingeringProtocol
from monailabel_app.strategies.assignments import Assignments
from monailabel_app.strategies.pool import Images
from monailabel_app.strategies.strategies import all_strategies

AFFINE = np.diag([-1.5, -1.5, 3.0, 1.0])
SHAPE = (8, 7, 6)


class QuietApp(MONAILabelApp):
    """Datastore, sessions and next samples as the app has them; no model."""

    def __init__(self, studies: Path, sessions: Path) -> None:
        self._sessions_at = sessions
        self.assignments = Assignments()
        super().__init__("", str(studies), {}, labels=["liver"])

    def init_datastore(self) -> StudyFolder:
        return StudyFolder(self.studies)

    def init_strategies(self) -> dict:
        return all_strategies(Images(self.assignments, lambda: None))

    def async_scoring(self, method, params=None) -> dict:
        return {}

    def init_trainers(self) -> dict:
        return {}

    def _load_sessions(self, load: bool = False) -> SessionFolder:
        return SessionFolder(str(self._sessions_at))


@contextlib.contextmanager
def client_over(app: MONAILabelApp, **options) -> Iterator[TestClient]:
    """A client of a server of an app; a defect of the server is a 500, as for any client."""
    key = f"{settings.MONAI_LABEL_APP_DIR}{settings.MONAI_LABEL_STUDIES}"
    apps[key] = app
    try:
        address = {"base_url": "http://127.0.0.1:8000", "client": ("127.0.0.1", 50000)}
        yield TestClient(create_app(), raise_server_exceptions=False, **address | options)
    finally:
        apps.pop(key, None)


@contextlib.contextmanager
def client_of(studies: Path, sessions: Path, **options) -> Iterator[TestClient]:
    """The same over a folder of studies."""
    with client_over(QuietApp(studies, sessions), **options) as client:
        yield client


@contextlib.contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """The same app behind a real socket of this machine; gives its address."""
    door = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=LingeringProtocol, lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        door.close()


def a_volume(path: Path, value: int = 0) -> Path:
    """A small image in a file."""
    return write_volume(Volume(np.full(SHAPE, value, np.int16), AFFINE), path)


def a_label(path: Path, value: int = 1) -> Path:
    """A label map of the same grid in a file."""
    grid = Volume(np.zeros(SHAPE, np.int16), AFFINE)
    return write_label(np.full(SHAPE, value, np.uint8), grid, path)
