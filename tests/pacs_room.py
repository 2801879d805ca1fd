"""A DICOMweb server for the tests: a real Orthanc where it is installed, and a small one in memory."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from app_room import QuietApp
from dicom_files import write_stack
from pydicom.dataset import Dataset
from requests.exceptions import ConnectionError, HTTPError

from monailabel_app.datastore.dicomweb import DicomWeb
from monailabel_app.datastore.dicomweb_store import DicomWebStore
from monailabel_app.server.launch import free_port

_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_ORTHANC = shutil.which("Orthanc") or "/usr/sbin/Orthanc"


def write_series(folder: Path, uid: str, slices: int = 6, study: str = "1.2.3", **tags) -> Path:
    """A CT series of 5 x 4 pixels."""
    places = [(0.0, 0.0, 3.0 * k) for k in range(slices)]
    about = {"StudyInstanceUID": study, "SeriesInstanceUID": uid, "FrameOfReferenceUID": "1.2.9", "Modality": "CT"}
    return write_stack(folder, places, PatientID="P1", PatientName="Doe^Jane", StudyID="1", **{**about, **tags})


@contextlib.contextmanager
def orthanc(folder: Path, *series: Path) -> Iterator[str]:
    """An Orthanc that holds series; gives the address of its DICOMweb. The test skips where there is none."""
    if not (Path(_ORTHANC).is_file() and _PLUGIN.is_file()):
        pytest.skip("needs Orthanc with DICOMweb: apt-get install orthanc orthanc-dicomweb")
    folder.mkdir(parents=True)
    port = free_port()
    settings = {
        "Name": "tests",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "Plugins": [str(_PLUGIN)],
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([_ORTHANC, str(folder / "orthanc.json")], stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(f"{address}/system", process)
            for path in (path for one in series for path in sorted(one.iterdir())):
                ask(f"{address}/instances", path.read_bytes())
            yield f"{address}/dicom-web"
        finally:
            process.terminate()
            process.wait(30)


def ask(address: str, body: bytes | None = None, method: str | None = None) -> object:
    """Orthanc's own interface."""
    request = urllib.request.Request(address, data=body, method=method)
    with urllib.request.urlopen(request, timeout=30) as reply:
        content = reply.read()
    return json.loads(content) if content else None


def _wait(address: str, process: subprocess.Popen) -> None:
    for _ in range(300):
        assert process.poll() is None, "Orthanc stopped"
        with contextlib.suppress(OSError):
            ask(address)
            return
        time.sleep(0.1)
    raise AssertionError("Orthanc gave no answer")


class PacsApp(QuietApp):
    """The quiet app over a DICOMweb server."""

    def __init__(self, store: DicomWebStore, sessions: Path) -> None:
        self._store = store
        super().__init__(sessions / "none", sessions)

    def init_datastore(self) -> DicomWebStore:
        return self._store


class FakeClient:
    """dicomweb_client's calls, answered from files; ``fault`` is raised by the next ones."""

    base_url = "http://pacs.example/dicom-web"

    def __init__(self, *series: Path) -> None:
        self.instances = [pydicom.dcmread(path) for folder in series for path in sorted(folder.iterdir())]
        self.asked: list[str] = []
        self.fault: Exception | None = None

    def _called(self, name: str) -> None:
        self.asked.append(name)
        if self.fault is not None:
            raise self.fault

    def set_http_retry_params(self, retry: bool) -> None:
        assert not retry

    def search_for_series(self, *, search_filters: dict, fields: list[str], get_remaining: bool) -> list[dict]:
        self._called("search")
        firsts = {one.SeriesInstanceUID: one for one in self.instances}.values()
        return [
            one.to_json_dict(bulk_data_threshold=8, bulk_data_element_handler=lambda element: "http://bulk")
            for one in firsts
            if all(str(one.get(name)) == value for name, value in search_filters.items())
        ]

    def _of(self, series: str) -> list[Dataset]:
        return [one for one in self.instances if series == one.SeriesInstanceUID]

    def iter_series(self, study: str, series: str) -> Iterator[Dataset]:
        self._called("series")
        yield from self._of(series)

    def retrieve_series_metadata(self, study: str, series: str) -> list[dict]:
        self._called("metadata")
        return [
            one.to_json_dict(bulk_data_threshold=8, bulk_data_element_handler=lambda element: "http://bulk")
            for one in self._of(series)
        ]

    def retrieve_instance(self, study: str, series: str, instance: str) -> Dataset:
        self._called("instance")
        return next(one for one in self._of(series) if instance == one.SOPInstanceUID)

    def store_instances(self, datasets: list[Dataset]) -> Dataset:
        self._called("store")
        self.instances += datasets
        return Dataset()


def refusing(status: int) -> HTTPError:
    """What the client raises when the server answers with a status."""
    from requests import Response

    response = Response()
    response.status_code = status
    return HTTPError(response=response)


def away() -> ConnectionError:
    """What the client raises when there is no server."""
    return ConnectionError("refused")


def store_of(client: object, cache: Path, *, fresh: float = 0.0) -> DicomWebStore:
    """A store over a client."""
    return DicomWebStore(DicomWeb(client, {"Modality": "CT"}, fresh=fresh), cache)
