"""A user of 3D Slicer without its windows: the plugin's own client code, and the parameters that its panels send."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bundle.data.volume import read_label
from monailabel_app.datastore.study_files import split_name

_CLIENT = Path("monailabel", "plugins", "slicer", "MONAILabel", "MONAILabelLib", "client.py")


class SlicerError(RuntimeError):
    """What Slicer would show in a message box."""


@dataclass(frozen=True, eq=False)
class Answer:
    """One reply.

    Attributes:
        mask: (I, J, K) bool.
        params: the JSON of the reply.
        seconds: between the click and the file being on disk.
    """

    mask: np.ndarray
    params: dict[str, Any]
    seconds: float


def load_slicer_client() -> ModuleType:
    """The module ``MONAILabelLib.client`` of the Slicer plugin that MONAI Label's wheel installs.

    Raises:
        SlicerError: the plugin is not there.
    """
    path = Path(sys.prefix, _CLIENT)
    if not path.is_file():
        raise SlicerError(f"the Slicer plugin of MONAI Label is not at {path}; install monailabel in this environment")
    spec = importlib.util.spec_from_file_location("monailabel_slicer_client", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class SlicerUser:
    """Works on one volume that is open in Slicer: uploads it as a session, clicks, and submits the label."""

    def __init__(self, url: str, folder: Path, *, client_id: str = "demo") -> None:
        """Args:
        url: address of the server.
        folder: where replies are stored.
        client_id: the name that Slicer's settings hold.
        """
        self._module = load_slicer_client()
        folder.mkdir(parents=True, exist_ok=True)
        self._client = self._module.MONAILabelClient(url, tmpdir=str(folder), client_id=client_id)
        self._session = ""
        self._image_id = ""

    def info(self) -> dict[str, Any]:
        """What the server offers; Slicer asks when the user connects."""
        return self._call("info")

    def open_volume(self, image: Path) -> None:
        """Upload a volume as a session: what Slicer does before the first click on a volume of its own."""
        self._image_id, _ = split_name(image.name)
        self._session = self._call("create_session", str(image))["session_id"]

    def click(
        self,
        model: str,
        label: str,
        *,
        foreground: Sequence[Sequence[int]] = (),
        background: Sequence[Sequence[int]] = (),
        roi: Sequence[int] | None = None,
        slice_index: int | None = None,
        reset: bool = False,
    ) -> Answer:
        """Press Update in SmartEdit.

        Args:
            model: sam_2d or sam_3d.
            label: name of the segment.
            foreground: all points on the object so far, voxel indices (i, j, k).
            background: all points off it.
            roi: [i0, i1, j0, j1, k0, k1].
            slice_index: k of the slice that is shown; the 2D panel sends it.
            reset: whether the segment was changed since the last click.

        Raises:
            SlicerError: the server refused.
        """
        params: dict[str, Any] = {
            "label": label,
            "foreground": [list(point) for point in foreground],
            "background": [list(point) for point in background],
        }
        params |= {"roi": list(roi)} if roi is not None else {}
        params |= {"slice": slice_index} if slice_index is not None else {}
        params |= {"reset_state": True} if reset else {}
        params |= {"result_extension": ".nrrd", "result_dtype": "uint8"}
        started = time.perf_counter()
        file, reply = self._call("infer", model, self._image_id, params, session_id=self._session)
        seconds = time.perf_counter() - started
        mask = read_label(file).array != 0
        Path(file).unlink()
        return Answer(mask, reply, seconds)

    def submit(self, image: Path, label: Path, label_info: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Submit a label: Slicer adds the session's image to the datastore first."""
        self._call("upload_image", str(image), self._image_id)
        return self._call("save_label", self._image_id, str(label), params={"label_info": list(label_info)})

    def fetch_label(self, tag: str = "final") -> Path:
        """Download the label that the datastore holds."""
        return Path(self._call("download_label", self._image_id, tag))

    def close_volume(self) -> None:
        """Remove the session."""
        self._call("remove_session", self._session)

    def _call(self, name: str, *args: Any, **options: Any) -> Any:
        try:
            return getattr(self._client, name)(*args, **options)
        except self._module.MONAILabelClientException as error:
            raise SlicerError(error.msg) from error
