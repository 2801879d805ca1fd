"""The routes over a real DICOMweb server: what they list, fetch, save and read back, and what they leave to it."""

from __future__ import annotations

import io
import json
import urllib.request

import numpy as np
import pydicom
import pytest
from app_room import client_over
from monailabel.config import settings
from pacs_room import PacsApp, ask, orthanc, write_series

from bundle.data.volume import read_label, read_volume, write_label
from monailabel_app.datastore.dicomweb import connect
from monailabel_app.datastore.dicomweb_store import DicomWebStore

pytestmark = pytest.mark.clients

FIRST, SECOND = "1.2.840.1.1", "1.2.840.1.2"
INFO = '{"label_info": [{"name": "liver", "idx": 1}, {"name": "aorta", "idx": 5, "color": [200, 20, 30]}]}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pacs")


@pytest.fixture(scope="module")
def pacs(folder):
    with orthanc(folder / "orthanc", *(write_series(folder / uid, uid) for uid in (FIRST, SECOND))) as address:
        yield address


@pytest.fixture
def client(pacs, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "MONAI_LABEL_STUDIES", pacs)
    with client_over(PacsApp(DicomWebStore(connect(pacs), tmp_path / "cache"), tmp_path / "sessions")) as client:
        yield client


@pytest.fixture(scope="module")
def label(folder, pacs):
    image = read_volume(folder / FIRST)
    labels = np.zeros(image.shape, np.uint8)
    labels[1:3, 1, 1], labels[4, 3, 5] = 1, 5
    return write_label(labels, image, folder / "label.nii.gz")


def save(client, label, image=FIRST):
    files = {"label": (label.name, label.read_bytes())}
    return client.put(f"/datastore/label?image={image}&tag=final", files=files, data={"params": INFO})


def test_series_are_listed_before_any_is_fetched(client):
    listed = client.get("/datastore/?output=all").json()["objects"]
    assert set(listed) == {FIRST, SECOND} and listed[FIRST]["image"]["info"]["PatientID"] == "P1"
    assert client.get("/info/").json()["datastore"]["total"] == 2


def test_an_image_is_downloaded_as_the_series_is(client, folder, tmp_path):
    (tmp_path / "got.nii.gz").write_bytes(client.get(f"/datastore/image?image={FIRST}").content)
    got, stored = read_volume(tmp_path / "got.nii.gz"), read_volume(folder / FIRST)
    np.testing.assert_array_equal(got.array, stored.array)
    np.testing.assert_allclose(got.affine, stored.affine)


def test_a_label_is_a_dicom_seg_of_the_server_and_comes_back_by_the_id_of_the_reply(client, pacs, label, tmp_path):
    reply = save(client, label)
    assert reply.status_code == 200 and reply.json() == {"image": FIRST, "label": FIRST}
    found = client.get(f"/datastore/label?label={reply.json()['label']}&tag=final")
    (tmp_path / "got.nii.gz").write_bytes(found.content)
    np.testing.assert_array_equal(read_label(tmp_path / "got.nii.gz").array, read_label(label).array)
    assert client.get("/info/").json()["datastore"]["completed"] == 1
    assert client.get("/datastore/?output=all").json()["objects"][FIRST]["labels"].keys() == {"final"}
    seg = newest_seg(pacs)
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["liver", "aorta"]
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == FIRST and seg.PatientID == "P1"


def test_another_server_reads_that_label_from_the_dicomweb_server(client, pacs, label, tmp_path):
    save(client, label)
    other = DicomWebStore(connect(pacs), tmp_path / "other")
    with client_over(PacsApp(other, tmp_path / "other sessions")) as second:
        (tmp_path / "got.nii.gz").write_bytes(second.get(f"/datastore/label?label={FIRST}&tag=final").content)
        told = second.get(f"/datastore/label/info?label={FIRST}&tag=final").json()["label_info"]
    np.testing.assert_array_equal(read_label(tmp_path / "got.nii.gz").array > 0, read_label(label).array > 0)
    assert [(entry["name"], entry["idx"]) for entry in told] == [("liver", 1), ("aorta", 2)]
    np.testing.assert_allclose(told[1]["color"], [200, 20, 30], atol=1)


@pytest.mark.parametrize(
    ("method", "address", "status"),
    [
        ("GET", "/datastore/image?image=1.2.9.9", 404),
        ("GET", "/datastore/image?image=nobody", 404),
        ("HEAD", "/datastore/image?image=1.2.9.9", 404),
        ("GET", f"/datastore/label?label={SECOND}&tag=final", 404),
        ("HEAD", f"/datastore/label?image={SECOND}&tag=final", 404),
        ("DELETE", f"/datastore/image?id={FIRST}", 405),
        ("DELETE", f"/datastore/?id={FIRST}", 405),
        ("DELETE", f"/datastore/label?id={FIRST}&tag=final", 405),
    ],
)
def test_unknown_series_are_not_found_and_removal_happens_at_the_server(client, method, address, status):
    reply = client.request(method, address)
    assert reply.status_code == status
    if method != "HEAD":
        assert len(reply.json()["detail"].split()) > 3


def test_an_upload_happens_at_the_server(client, label):
    reply = client.put("/datastore/image?image=new", files={"file": ("ct.nii.gz", label.read_bytes())})
    assert reply.status_code == 405 and "DICOMweb server, not here" in reply.json()["detail"]


def test_the_next_sample_is_a_series_without_a_segmentation(client, label):
    save(client, label)
    sample = client.post("/activelearning/random", json={}).json()
    assert sample["id"] == SECOND and sample["StudyInstanceUID"] == "1.2.3"


def test_the_viewer_reads_through_the_proxy(client):
    found = client.get("/proxy/dicom/qido/studies/1.2.3/series").json()
    assert {item["0020000E"]["Value"][0] for item in found} >= {FIRST, SECOND}


def newest_seg(address: str) -> pydicom.Dataset:
    """The last DICOM SEG that the server took."""
    root = address.removesuffix("/dicom-web")
    query = {"Level": "Instance", "Query": {"Modality": "SEG"}}
    found = ask(f"{root}/tools/find", json.dumps(query).encode())
    with urllib.request.urlopen(f"{root}/instances/{found[-1]}/file", timeout=30) as reply:
        return pydicom.dcmread(io.BytesIO(reply.read()))
