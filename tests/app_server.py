"""One real server on 127.0.0.1, over a small generated study, shared by the tests that speak to it."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import requests
from PIL import Image

from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import Volume, write_volume
from monailabel_app.server.launch import running_server

ORGAN = "liver"


@dataclass(frozen=True)
class Study:
    """A running server and what lies in its folder.

    The CT is the datastore's image ``ct``; the picture, 8 bit and colour, its image ``photo``.
    """

    url: str
    folder: Path
    ct: Path
    photo: Path
    image: Volume
    truth: Volume
    organ: np.ndarray
    log: Path
    temporary: Path

    @property
    def index(self) -> int:
        """The slice with most of the organ."""
        return int(self.organ.sum(axis=(0, 1)).argmax())

    def roi(self) -> list[int]:
        """The box of the organ on that slice, as Slicer sends it."""
        i, j = np.nonzero(self.organ[:, :, self.index])
        return [int(v) for v in (i.min(), i.max(), j.min(), j.max(), self.index, self.index)]

    def inside(self) -> list[int]:
        """A voxel of the organ on that slice."""
        i, j = np.nonzero(self.organ[:, :, self.index])
        middle = len(i) // 2
        return [int(i[middle]), int(j[middle]), self.index]

    def post(self, model: str = "sam_2d", *, params: dict | str | None = None, file=None, **query) -> requests.Response:
        """POST /infer/ as a plain client does; ``params`` may be broken text."""
        text = params if isinstance(params, str) else json.dumps(params or {})
        files = {"params": (None, text)} | ({"file": file} if file else {})
        return requests.post(f"{self.url}/infer/{model}", params=query, files=files, timeout=60)


@functools.cache
def shared_study() -> Study:
    """Start the server once; it stops when the tests end."""
    stack = ExitStack()
    atexit.register(stack.close)
    folder = Path(tempfile.mkdtemp(prefix="monai-sam-test-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)  # after the server has stopped
    studies = folder / "studies"
    image, truth, labels = make_phantom(shape=(64, 56, 20), spacing=(6.0, 6.0, 10.0), seed=1)
    ct = write_volume(image, studies / "ct.nii.gz")
    photo = studies / "photo.png"
    pixels = np.tile(np.linspace(0, 255, 48, dtype=np.uint8), (32, 1))
    Image.fromarray(np.stack([pixels] * 3, axis=-1)).save(photo)
    log = folder / "server.log"
    (folder / "tmp").mkdir()
    settings = {
        "MONAI_LABEL_SESSION_PATH": str(folder / "sessions"),
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(folder / "tmp"),
    }
    url = stack.enter_context(
        running_server(studies, log=log, settings=settings, conf={"learn_while_annotating": "off"})
    )
    return Study(url, studies, ct, photo, image, truth, truth.array == labels[ORGAN], log, folder / "tmp")
