"""What a person does at each client on the way of scripts/walkthrough.py, and the pictures of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from dicom_files import MR, write_volume_series
from dicomweb_client import DICOMwebClient
from napari_room import use_napari
from ohif_room import Ohif, at, chrome, on_grid
from PIL import Image
from selenium.webdriver.support.ui import WebDriverWait

from bundle.data.grid import check_grid
from bundle.data.volume import Volume, read_label, read_volume
from bundle.evaluation.metrics import dice
from bundle.prompts.simulation import tight_box
from monailabel_app.demo.active_round import Case, place_in
from monailabel_app.nninteractive.command import serving_command
from monailabel_app.server.launch import free_port, wait_until_ready

START_S = 600.0  # until a server answers on a busy machine
_PAGE = (1000, 1700)  # pixels
_GAP = 8  # between pictures side by side
_BESIDE = 4  # voxels that the wrong click lies outside of the box

Shown = dict[str, Any]
"""What a picture shows, as ``bundle.evaluation.learning_table.shown_table`` reads it."""


# ---- Orthanc and OHIF -----------------------------------------------------------------------------------------------


def uid_of(case: Case, what: str) -> str:
    """A UID of a case, the same each time."""
    return pydicom.uid.generate_uid(entropy_srcs=[case.name, what])


def store(pacs: str, case: Case, folder: Path) -> None:
    """Send an image to a DICOMweb server as a series.

    Args:
        pacs: address of the server.
        case: whose UIDs are those of ``uid_of``: study, series, frame.
        folder: for the DICOM files.
    """
    volume = read_volume(case.image)
    low, high = window_of(volume.array)
    about = {
        "StudyInstanceUID": uid_of(case, "study"),
        "SeriesInstanceUID": uid_of(case, "series"),
        "FrameOfReferenceUID": uid_of(case, "frame"),
        "PatientID": case.name,
        "PatientName": case.name.rpartition("-")[2],
        "StudyDescription": "T1 MR of a hippocampus",
        "SeriesDescription": "MSD Task04",
        "WindowCenter": (low + high) / 2,
        "WindowWidth": high - low,
    }
    volume = replace(volume, array=volume.array.astype(np.int16))
    series = write_volume_series(folder / case.name, volume, "LPS", Modality="MR", sop=MR, **about)
    DICOMwebClient(pacs).store_instances([pydicom.dcmread(path) for path in sorted(series.iterdir())])


def click(viewer: Ohif, case: Case, *, network: int) -> Shown:
    """Open the study of a case, click into its first structure and run."""
    volume, name, mask = volume_and_mask(case)
    viewer.open(uid_of(case, "study"))
    viewer.connect()
    viewer.choose_model("sam_2d")
    viewer.choose_organ(name)
    place = place_in(mask)
    viewer.click("axial", at(volume, place))
    viewer.run()
    labels, affine = viewer.segmentation()
    found = on_grid(labels == viewer.segment(name), affine, volume)
    return _shown("OHIF", "a click", case, network, found[:, :, place[2]], mask[:, :, place[2]])


# ---- the host page --------------------------------------------------------------------------------------------------


def page_of(url: str, folder: Path) -> Path:
    """The host page from its images to its networks, as PNG."""
    with chrome(folder / "page", size=_PAGE) as browser:
        browser.get(url)
        networks = browser.find_element("id", "versions")
        WebDriverWait(browser, START_S).until(lambda _: "answers" in networks.text)
        top, bottom, width = browser.execute_script(
            "return [document.querySelector('#images').previousElementSibling.getBoundingClientRect().top,"
            " document.querySelector('#learning').getBoundingClientRect().bottom, document.documentElement.clientWidth]"
        )
        browser.save_screenshot(str(folder / "page.png"))
    with Image.open(folder / "page.png") as whole:
        part = whole.crop((0, int(top), width, min(int(bottom), whole.height)))
    part.save(folder / "page.png")
    return folder / "page.png"


# ---- napari ---------------------------------------------------------------------------------------------------------


@contextmanager
def nninteractive(checkpoint: Path | None, folder: Path, log: Path) -> Iterator[str]:
    """A server of napari's dialect with weights, the shipped ones without any; its address.

    It asks no network of volumes, which no training changes.
    """
    url = f"http://127.0.0.1:{(port := free_port())}"
    conf = {"family": "default-without_3d", "sessions": str(folder / "napari-sessions")}
    conf |= {"checkpoint": str(checkpoint)} if checkpoint else {}
    with log.open("wb") as output:
        command = serving_command("nninteractive", port=port, conf=conf)
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            wait_until_ready(url, process, START_S)
            yield url
        finally:
            process.terminate()
            process.wait(30)


def draw_in_napari(url: str, case: Case, network: int, folder: Path) -> list[Shown]:
    """A box around the first structure on the slice that shows most of it, a click beside it, and undo.

    Returns:
        What is shown after each; the folder then holds window-1.png, canvas-1.png, ...
    """
    volume, _, mask = volume_and_mask(case)
    # The client sends an array as SimpleITK has it, (z, y, x), and the server takes it as lying in LPS.
    image, truth = (np.ascontiguousarray(array[::-1, ::-1].T) for array in (volume.array, mask))
    z = int(truth.sum(axis=(1, 2)).argmax())
    x0, y0, x1, y1 = (int(value) for value in tight_box(truth[z]))
    steps = [
        {"tool": "box", "from": [z, y0, x0], "to": [z, y1 + 1, x1 + 1]},
        {"tool": "point", "at": [z, max(0, y0 - _BESIDE), min(truth.shape[2] - 1, x1 + _BESIDE)], "positive": True},
        {"tool": "undo"},
    ]
    spacing = [float(side) for side in volume.spacing[::-1]]
    masks = use_napari(url, folder, image.astype(np.float32), spacing, steps, window=window_of(image)) > 0
    np.testing.assert_array_equal(masks[2], masks[0], err_msg="undo did not bring back what the box was answered with")
    return [
        _shown("napari", what, case, network, found[z], truth[z])
        for what, found in zip(("a box", "a click beside it", "undo"), masks, strict=True)
    ]


# ---- all ------------------------------------------------------------------------------------------------------------


def volume_and_mask(case: Case) -> tuple[Volume, str, np.ndarray]:
    """The image, the name of its first structure, and where that is, (I, J, K) bool."""
    volume = read_volume(case.image)
    name, value = next(iter(case.names.items()))
    return volume, name, check_grid(volume, read_label(case.label)).array == value


def window_of(array: np.ndarray) -> list[float]:
    """The lowest and the highest grey value that is shown."""
    return [float(value) for value in np.percentile(array, [1, 99.5]).round()]


def save_picture(path: Path, *parts: Path) -> None:
    """Write pictures side by side as a PNG of at most 256 colours."""
    images = [Image.open(part).convert("RGB") for part in parts]
    width = sum(image.width for image in images) + _GAP * (len(images) - 1)
    whole = Image.new("RGB", (width, max(image.height for image in images)), "white")
    left = 0
    for image in images:
        whole.paste(image, (left, 0))
        left += image.width + _GAP
    whole.quantize(256).save(path, format="PNG", optimize=True)


def _shown(client: str, prompt: str, case: Case, network: int, found: np.ndarray, truth: np.ndarray) -> Shown:
    about = {"client": client, "prompt": prompt, "network": network, "patient": case.name}
    return {**about, "structure": next(iter(case.names)), "dsc": round(float(dice(found, truth)), 4)}
