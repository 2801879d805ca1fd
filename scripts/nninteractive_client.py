"""Let nnInteractive's own client segment organs through our server, as its plug-ins do, also when the server is killed.

    python scripts/nninteractive_client.py                 # plays, writes docs/results/nninteractive.json, prints
    python scripts/nninteractive_client.py --print         # the table alone

For each organ of the CT of flare22-style (whose labels are ANOTHER MODEL'S OUTPUT: a look, not a measurement) and each
kind of start the client sends the start and then three clicks at the centre of the largest wrong region. The whole is
played twice: once as it is, once with the server killed (kill -9) and started again in the middle of each organ, after
which the client connects again and goes on. Seconds of an interaction are given as multiples of one forward pass of
the network on one slice, measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import SimpleITK as sitk
from nnInteractive.inference.remote import SessionExpiredError, nnInteractiveRemoteInferenceSession
from tqdm import tqdm

from bundle.evaluation.client_table import client_table
from bundle.evaluation.metrics import dice
from bundle.families.family import BUNDLE_ROOT
from bundle.files import write_text
from bundle.interactive.segmenter import Segmenter
from bundle.interactive.slice_model import SlicePrompt, SliceView
from bundle.prompts.simulation import error_voxel, interior_point, tight_box
from bundle.waiting import PASSIVE
from monailabel_app.nninteractive.command import serving_command
from monailabel_app.server.launch import ServerError, free_port, log_tail, wait_until_ready

CLICKS = 3
IMAGE, LABEL = "flare22-style/images/FLARE22_Tr_0001_0000.nii.gz", "flare22-style/labels/FLARE22_Tr_0001.nii.gz"
ORGANS = {"liver": 1, "right kidney": 2, "spleen": 3, "pancreas": 4, "left kidney": 13}
RESULTS = BUNDLE_ROOT / "docs" / "results" / "nninteractive.json"


def oriented(path: Path) -> sitk.Image:
    """An image with its axes as DICOM has them (LPS): a client sends no directions, and this is what is assumed."""
    return sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")


def largest_slice(truth: np.ndarray) -> int:
    """The slice along the first axis, (z, y, x), that shows most of the object."""
    return int(np.count_nonzero(truth, axis=(1, 2)).argmax())


def start_with_point(client: nnInteractiveRemoteInferenceSession, truth: np.ndarray) -> None:
    """A click in the middle of the largest slice."""
    index = largest_slice(truth)
    x, y = interior_point(truth[index])
    client.add_point_interaction((index, int(y), int(x)), True)


def start_with_flat_box(client: nnInteractiveRemoteInferenceSession, truth: np.ndarray) -> None:
    """A tight 2D box on the largest slice."""
    index = largest_slice(truth)
    x0, y0, x1, y1 = map(int, tight_box(truth[index]))
    client.add_bbox_interaction([[index, index + 1], [y0, y1 + 1], [x0, x1 + 1]], True)


def start_with_box(client: nnInteractiveRemoteInferenceSession, truth: np.ndarray) -> None:
    """A tight 3D box."""
    low, high = tight_box(truth).reshape(2, 3).astype(int)
    client.add_bbox_interaction([[int(a), int(b) + 1] for a, b in zip(low, high, strict=True)], True)


def start_with_scribble(client: nnInteractiveRemoteInferenceSession, truth: np.ndarray) -> None:
    """A stroke two voxels thick through the middle of the largest slice, along its longer side."""
    index = largest_slice(truth)
    x, y = (int(value) for value in interior_point(truth[index]))
    mask = np.zeros(truth.shape, np.uint8)
    mask[index, y : y + 2, :] = truth[index, y : y + 2, :]
    reach = max(2, int(truth[index, y].sum()) // 4)
    mask[index, :, : max(0, x - reach)] = 0
    mask[index, :, x + reach :] = 0
    client.add_scribble_interaction(mask, True)


def start_with_lasso(client: nnInteractiveRemoteInferenceSession, truth: np.ndarray) -> None:
    """A lasso some three voxels around the object on its largest slice."""
    from scipy.ndimage import binary_dilation

    index = largest_slice(truth)
    mask = np.zeros(truth.shape, np.uint8)
    mask[index] = binary_dilation(truth[index], iterations=3)
    client.add_lasso_interaction(mask, True)


STARTS: dict[str, Callable[[nnInteractiveRemoteInferenceSession, np.ndarray], None]] = {
    "point": start_with_point,
    "2D box": start_with_flat_box,
    "3D box": start_with_box,
    "scribble": start_with_scribble,
    "lasso": start_with_lasso,
}


class Server:
    """A server that can be killed and started again; its work lies in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.port = folder, free_port()
        self._process: subprocess.Popen | None = None

    def start(self) -> str:
        """Start it; its address."""
        command = serving_command("nninteractive", port=self.port, conf={"sessions": str(self._folder / "sessions")})
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, env={**os.environ, **PASSIVE}, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{self.port}"
        try:
            wait_until_ready(url, self._process, timeout=120.0)
        except ServerError as error:
            raise ServerError(f"{error}:\n{log_tail(self._folder / 'server.log')}") from error
        return url

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()


@contextmanager
def server() -> Iterator[tuple[Server, str]]:
    """A running server, and its address."""
    with tempfile.TemporaryDirectory(prefix="monai-sam-nninteractive-") as folder:
        running = Server(Path(folder))
        try:
            yield running, running.start()
        finally:
            running.kill()


def connect(url: str, image: np.ndarray, spacing: Sequence[float]) -> nnInteractiveRemoteInferenceSession:
    """As a plug-in connects: claim, image, empty buffer."""
    client = nnInteractiveRemoteInferenceSession(url, read_timeout=600)
    client.set_image(image[None], {"spacing": list(spacing)})
    client.set_target_buffer(np.zeros(image.shape, np.uint8))
    return client


def play(
    image: np.ndarray,
    spacing: Sequence[float],
    truth: np.ndarray,
    start: str,
    url: str,
    crash: Callable[[], str] | None = None,
) -> dict[str, Any]:
    """One object: its start and the clicks.

    Args:
        image: (z, y, x).
        spacing: in mm, in that order.
        truth: (z, y, x) bool.
        start: of ``STARTS``.
        url: of the server.
        crash: kills the server before the second click and starts another; its address.
    """
    client = connect(url, image, spacing)
    client.reset_interactions()
    seconds, scores = [], []
    shown = client.target_buffer != 0
    for number in range(CLICKS + 1):
        if number == 2 and crash is not None:
            url = crash()
            with suppress(SessionExpiredError, httpx.HTTPError):
                client.close()
            client = connect(url, image, spacing)
        click = error_voxel(truth, shown) if number else None
        if number and click is None:
            break
        begun = time.perf_counter()
        if number:
            *voxel, label = click
            client.add_point_interaction([int(index) for index in voxel], bool(label))
        else:
            STARTS[start](client, truth)
        seconds.append(time.perf_counter() - begun)
        shown = client.target_buffer != 0
        scores.append(round(float(dice(shown, truth)), 4))
    client.close()
    return {"dsc": scores, "seconds": [round(value, 3) for value in seconds]}


def forward_pass(image: np.ndarray) -> float:
    """Median seconds of one answer of the network on one slice, by nobody else's process."""
    segmenter = Segmenter.from_family("default")
    intensity = segmenter.predictor.contract.intensity(image, "CT")
    view = SliceView(image[len(image) // 2], intensity)
    box = np.array([40.0, 40.0, 80.0, 80.0])
    times = []
    for _ in range(12):
        begun = time.perf_counter()
        segmenter.predictor.predict(view, SlicePrompt(box=box))
        times.append(time.perf_counter() - begun)
    return float(np.median(times[2:]))


def main(argv: Sequence[str] | None = None) -> None:
    """Play what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("MONAI_SAM_DATA", BUNDLE_ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--organs", nargs="+", choices=list(ORGANS), default=list(ORGANS))
    parser.add_argument("--starts", nargs="+", choices=list(STARTS), default=list(STARTS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--print", action="store_true", help="play nothing")
    options = parser.parse_args(argv)
    if not options.print:
        results = play_all(options)
        write_text(options.results, json.dumps(results, indent=1) + "\n")
    print(client_table(json.loads(options.results.read_text(encoding="utf-8"))).as_markdown())


def play_all(options: argparse.Namespace) -> dict[str, Any]:
    """Every organ from every start, with and without a crash."""
    picture = oriented(options.data / IMAGE)
    image, spacing = sitk.GetArrayFromImage(picture).astype(np.float32), picture.GetSpacing()[::-1]
    labels = sitk.GetArrayFromImage(oriented(options.data / LABEL))
    rows = []
    with server() as (running, url):

        def crash() -> str:
            running.kill()
            return running.start()

        todo = [(organ, start) for organ in options.organs for start in options.starts]
        for organ, start in tqdm(todo, desc="organs and starts"):
            truth = labels == ORGANS[organ]
            plain = play(image, spacing, truth, start, url)
            crashed = play(image, spacing, truth, start, url, crash)
            rows.append({"organ": organ, "start": start, **plain, "after_crash": crashed["dsc"]})
    return {"forward_seconds": round(forward_pass(image), 4), "rows": rows}


if __name__ == "__main__":
    main()
