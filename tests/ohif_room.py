"""OHIF in a real browser, used with the mouse as a person does; what the page holds is read from its own memory."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import pytest
from browser_room import browser
from selenium.common.exceptions import JavascriptException
from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import alert_is_present, url_changes
from selenium.webdriver.support.ui import WebDriverWait

from bundle.data.volume import Volume

PATIENCE = 120  # seconds; only a broken page waits for them
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SOFTWARE_GL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")

# Keeps what the panel asked and what it was answered, without changing either, and whether the page has drawn since.
_LISTEN = """window.heard = [];
const open = XMLHttpRequest.prototype.open, send = XMLHttpRequest.prototype.send;
XMLHttpRequest.prototype.open = function (method, address, ...rest) {
  this.address = String(address);
  return open.call(this, method, address, ...rest);
};
XMLHttpRequest.prototype.send = function (body) {
  if (this.address.includes("/infer/"))
    this.addEventListener("load", () => {
      heard.push({status: this.status, params: body.get("params"), body: this.response});
      window.isDrawn = false;
    });
  return send.call(this, body);
};
const drawn = cornerstoneTools.Enums.Events.SEGMENTATION_DATA_MODIFIED;
cornerstone.eventTarget.addEventListener(drawn, () => { window.isDrawn = true; });"""
_ENGINE = "cornerstone.getRenderingEngine('OHIFCornerstoneRenderingEngine')"
_VIEWPORT = f"{_ENGINE}.getViewport(arguments[0])"
_IS_LOADED = f"""{_ENGINE}.getViewports().length === 3 && {_ENGINE}.getViewports().every(
  one => cornerstone.cache.getVolume(one.getVolumeId()).loadStatus.loaded)"""
_SEGMENTATION = "services.segmentationService.getLabelmapVolume('1')"
_TAB = "[...document.querySelectorAll('.tab')].find(tab => tab.innerText.includes(arguments[0]))"
# The crosshairs are annotations, too, and may come late.
_POINTS = """cornerstoneTools.annotation.state.getAllAnnotations().filter(
  one => one.metadata.toolName === 'ProbeMONAILabel').length"""


@dataclass(frozen=True, eq=False)
class Reply:
    """What the server answered.

    Attributes:
        params: that the page sent.
        file: the NRRD file.
        labels: (I, J, K) of the NRRD file.
        affine: (4, 4) of the NRRD file, voxel index to RAS+ mm.
    """

    params: dict[str, Any]
    file: bytes
    labels: np.ndarray
    affine: np.ndarray


class Ohif:
    """The page of a study in the mode MONAI Label.

    Attributes:
        server: its address.
    """

    def __init__(self, driver: Chrome, server: str) -> None:
        self._driver, self.server, self._has_notice = driver, server, True

    def show_studies(self, text: str) -> None:
        """Open the list of studies, and wait until a text, as a patient's name, stands in it."""
        self._driver.get(f"{self.server}/ohif/")
        self._until(f"document.body.innerText.includes({json.dumps(text)})")

    def open(self, study: str) -> None:
        """Open a study, close the notice that it is no medical device, which comes once, and wait for the image."""
        self._driver.get(f"{self.server}/ohif/monai-label?StudyInstanceUIDs={study}")
        if self._has_notice:
            notice = "[...document.querySelectorAll('button')].find(one => one.innerText === 'Confirm and Hide')"
            self._until(notice)
            self._run(f"{notice}.click()")
            self._has_notice = False
        self._until(f"document.querySelector('.settingsTable button') && {_IS_LOADED}")
        self._run(_LISTEN)

    def connect(self) -> list[str]:
        """Press the panel's connect button, with the address that stands in its field; the organs it then offers."""
        self._run("document.querySelector('.settingsTable button').click()")
        self._until(f"document.querySelector('tr.clickable-row') && {_SEGMENTATION}")
        self._run(f"{_TAB}.querySelector('label').click()", "Point Prompts")
        rows = "[...document.querySelectorAll('tr.clickable-row')].map(row => row.innerText.trim())"
        return self._get(rows)

    def choose_model(self, name: str) -> None:
        """Choose a model of the point prompts; the page forgets its points."""
        select = f"const select = {_TAB}.querySelector('select'); select.value = arguments[1];"
        self._run(select + "select.dispatchEvent(new Event('change', {bubbles: true}))", "Point Prompts", name)

    def choose_organ(self, name: str) -> None:
        """Choose what the next points belong to; ``background`` is what is off the object."""
        row = "[...document.querySelectorAll('tr.clickable-row')].find(row => row.innerText.trim() === arguments[0])"
        self._run(f"{row}.click()", name)

    def click(self, viewport: str, world: Sequence[float]) -> None:
        """Go to the slice of a place and click on it.

        Args:
            viewport: ``axial``, ``sagittal`` or ``coronal``.
            world: RAS+ mm.
        """
        place = [float(value) for value in (_LPS_TO_RAS @ [*world, 1])[:3]]
        name, before = f"mpr-{viewport}", self._get(_POINTS)
        self._run("services.viewportGridService.setActiveViewportId(arguments[0])", name)  # what a first click does
        self._run(f"{_VIEWPORT}.jumpToWorld(arguments[1])", name, place)
        script = f"const viewport = {_VIEWPORT}, corner = viewport.element.getBoundingClientRect();"
        script += "const [x, y] = viewport.worldToCanvas(arguments[1]); return [corner.left + x, corner.top + y];"
        x, y = self._run(script, name, place)
        mouse = ActionChains(self._driver)
        mouse.w3c_actions.pointer_action.move_to_location(round(x), round(y))
        mouse.w3c_actions.pointer_action.click()
        mouse.perform()
        self._until(f"{_POINTS} > {before}")  # it waits whether a second click makes it a double click

    def run(self) -> Reply:
        """Press *Run*; the answer, once the page has drawn it."""
        count = self._get("heard.length")
        self._run(f"{_TAB}.querySelector('.modelSelector button').click()", "Point Prompts")
        self._until(f"heard.length > {count}")
        status, params = self._get("[heard.at(-1).status, heard.at(-1).params]")
        body = self._bytes("heard.at(-1).body")
        assert status == 200, body
        self._until("isDrawn")
        header = nrrd.read_header(stream := io.BytesIO(body))
        assert header["space"] == "left-posterior-superior"
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = header["space directions"].T, header["space origin"]
        return Reply(json.loads(params), body, nrrd.read_data(header, stream), _LPS_TO_RAS @ affine)

    def segmentation(self) -> tuple[np.ndarray, np.ndarray]:
        """(I, J, K) segment indices that the page shows, and (4, 4) voxel index to RAS+ mm as it takes them."""
        volume = f"const volume = {_SEGMENTATION};"
        about = "return [volume.dimensions, volume.direction, volume.spacing, volume.origin]"
        shape, directions, spacing, origin = self._run(f"{volume} {about}")
        values = self._bytes(f"{_SEGMENTATION}.voxelManager.getCompleteScalarDataArray()")
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(directions, (3, 3)).T * spacing
        affine[:3, 3] = origin
        return np.frombuffer(values, np.uint8).reshape(shape, order="F"), _LPS_TO_RAS @ affine

    def segment(self, name: str) -> int:
        """The index that an organ has in the page's segmentation."""
        segments = "Object.values(services.segmentationService.getSegmentation('1').segments)"
        return self._get(f"{segments}.find(one => one.label === '{name}').segmentIndex")

    def next_sample(self) -> tuple[str, str]:
        """Press *Next Sample* and go there; what the page says of the sample, and the address that it opens."""
        self._run(f"{_TAB}.querySelector('label').click()", "Active Learning")
        self._run("[...document.querySelectorAll('button')].find(one => one.innerText === 'Next Sample').click()")
        self._until("document.querySelector('.nextSampleForm table')")
        text, before = self._get("document.querySelector('.nextSampleForm').innerText"), self._driver.current_url
        self._driver.find_element(By.CSS_SELECTOR, ".nextSampleForm button[type=submit]").click()
        patience = WebDriverWait(self._driver, PATIENCE, 0.1)
        patience.until(alert_is_present()).accept()  # that the page is left
        patience.until(url_changes(before))
        return text, self._driver.current_url

    def screenshot(self, path: Path, viewport: str | None = None) -> Path:
        """Write what is on the screen as PNG, or one view alone, once no message lies over it; the file."""
        self._until("!document.body.innerText.includes('Running Inference')")
        if viewport is None:
            self._driver.save_screenshot(str(path))
        else:
            self._run(f"return {_VIEWPORT}.element", f"mpr-{viewport}").screenshot(str(path))
        return path

    def _run(self, script: str, *values: Any) -> Any:
        return self._driver.execute_script(script, *values)

    def _get(self, expression: str) -> Any:
        return self._run(f"return {expression}")

    def _until(self, condition: str) -> None:
        """Wait for a condition; what it asks for may not be there yet."""
        wait = WebDriverWait(self._driver, PATIENCE, 0.1, [JavascriptException])
        wait.until(lambda _: self._get(f"!!({condition})"), condition)

    def _bytes(self, expression: str) -> bytes:
        script = f"const bytes = new Uint8Array({expression}); let text = '';"
        script += "for (let n = 0; n < bytes.length; n += 32768)"
        script += "  text += String.fromCharCode(...bytes.subarray(n, n + 32768));"
        return base64.b64decode(self._run(f"{script} return btoa(text)"))


def at(volume: Volume, voxel: Sequence[float]) -> list[float]:
    """Where a voxel of a volume lies, in RAS+ mm."""
    return (volume.affine @ [*voxel, 1])[:3].tolist()


def on_grid(array: np.ndarray, affine: np.ndarray, volume: Volume) -> np.ndarray:
    """An array of the page on the grid of a volume, which has the same voxels in another order."""
    indices = np.indices(volume.shape).reshape(3, -1)
    places = np.linalg.inv(affine) @ volume.affine @ np.vstack([indices, np.ones(indices.shape[1])])
    return array[tuple(places[:3].round().astype(int))].reshape(volume.shape)


@contextlib.contextmanager
def ohif(server: str, profile: Path, *, size: tuple[int, int] = (1000, 700)) -> Iterator[Ohif]:
    """A browser for the viewer of a server; the test skips where there is none."""
    with chrome(profile, size=size) as driver:
        yield Ohif(driver, server)


@contextlib.contextmanager
def chrome(profile: Path, *, size: tuple[int, int]) -> Iterator[Chrome]:
    """A browser with a window of so many pixels; the test skips where there is none."""
    driver = shutil.which("chromedriver")
    if driver is None:
        pytest.skip("needs a browser's driver: apt-get install chromium-driver")
    options = ChromeOptions()
    options.binary_location = browser()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run", *_SOFTWARE_GL):
        options.add_argument(argument)
    for argument in ("--disable-background-networking", "--disable-extensions", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.add_argument(f"--window-size={size[0]},{size[1]}")
    page = Chrome(options=options, service=Service(driver))
    try:
        page.set_script_timeout(PATIENCE)
        yield page
    finally:
        page.quit()
