"""What clients can do to the datastore, and what they cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from app_room import a_label, a_volume, client_of

from bundle.data.limits import LIMITS


@pytest.fixture
def studies(tmp_path) -> Path:
    a_volume(tmp_path / "studies/ct.nii.gz")
    return tmp_path / "studies"


@pytest.fixture
def client(studies, tmp_path):
    with client_of(studies, tmp_path / "sessions") as client:
        yield client


def put_image(client, path: Path, **query):
    return client.put("/datastore/image", files={"file": (path.name, path.read_bytes())}, params=query)


def put_label(client, path: Path, **query):
    query = {"image": "ct", "tag": "final"} | query
    return client.put("/datastore/label", files={"label": (path.name, path.read_bytes())}, params=query)


def refused(reply, status: int, sentence: str) -> None:
    assert reply.status_code == status, reply.text
    assert sentence in reply.json()["detail"] and "\n" not in reply.json()["detail"]


# ---- images ---------------------------------------------------------------------------------------------------------


def test_an_image_is_added_under_its_own_name_or_another(client, studies, tmp_path):
    new = a_volume(tmp_path / "patient.1.2.NRRD".lower(), 3)
    assert put_image(client, new).json() == {"image": "patient.1.2"}
    assert put_image(client, new, image="Läsion (left)").json() == {"image": "Läsion (left)"}
    assert (studies / "Läsion (left).nrrd").read_bytes() == new.read_bytes()
    assert client.get("/datastore/image", params={"image": "patient.1.2"}).content == new.read_bytes()
    assert set(client.get("/datastore/", params={"output": "all"}).json()["objects"]) == {
        *("ct", "patient.1.2", "Läsion (left)")
    }


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nrrd", "CT.MHA"])
def test_an_image_that_exists_is_not_replaced(client, studies, tmp_path, name):
    before = (studies / "ct.nii.gz").read_bytes()
    new = a_volume(tmp_path / name.lower(), 5)
    refused(put_image(client, new, image="ct"), 409, "there is an image 'ct' already and it stays")
    assert (studies / "ct.nii.gz").read_bytes() == before


def test_the_same_image_again_is_no_new_one(client, studies, tmp_path):
    for name in ("ct.nii.gz", "ct.nrrd"):  # Slicer sends its volume with each label, in the format of its settings
        assert put_image(client, a_volume(tmp_path / name), image="ct").json() == {"image": "ct"}
    assert [path.name for path in studies.glob("ct*")] == ["ct.nii.gz"]


@pytest.mark.parametrize("name", ["garbage.nii.gz", "garbage.nrrd", "x.py", "x.html", "x.tar.gz", "nothing", "x.nhdr"])
def test_what_cannot_be_read_is_not_stored(client, studies, tmp_path, name):
    (tmp_path / name).write_bytes(b"garbage")
    refused(put_image(client, tmp_path / name, image="new"), 400, "was not stored")
    assert sorted(path.name for path in studies.iterdir()) == [".lock", "ct.nii.gz", "datastore_v2.json", "labels"]


@pytest.mark.parametrize("name", [".lock", "datastore_v2.json", ".hidden.nii.gz", "a\nb", "../x", "x" * 201, "ä" * 101])
def test_names_that_lead_elsewhere_or_hide_are_refused(client, studies, tmp_path, name):
    new, before = a_volume(tmp_path / "new.nii.gz", 5), (studies / "datastore_v2.json").read_bytes()
    reply = put_image(client, new, image=name)
    if name == "datastore_v2.json":  # an ordinary id: the image is datastore_v2.json.nii.gz
        assert reply.status_code == 200 and (studies / "datastore_v2.json").read_bytes() != b""
        return
    refused(reply, 400, "plain name")
    assert (studies / "datastore_v2.json").read_bytes() == before


def test_an_image_goes_with_its_labels(client, studies, tmp_path):
    put_label(client, a_label(tmp_path / "label.nii.gz"))
    assert client.delete("/datastore/image", params={"id": "ct"}).status_code == 200
    assert client.get("/datastore/").json() == {"total": 0, "completed": 0, "label_tags": {}}
    refused(client.delete("/datastore/image", params={"id": "ct"}), 404, "no image")
    refused(client.get("/datastore/image", params={"image": "ct"}), 404, "no image")


def test_the_check_sum_of_an_image_is_compared(client, studies):
    import hashlib

    digest = hashlib.sha256((studies / "ct.nii.gz").read_bytes()).hexdigest()
    for check_sum, status in (("", 200), (digest, 200), (f"SHA256:{digest}", 200), ("SHA256:0", 404), ("CRC:1", 400)):
        reply = client.head("/datastore/image", params={"image": "ct", "check_sum": check_sum})
        assert reply.status_code == status, check_sum


# ---- labels ---------------------------------------------------------------------------------------------------------


def test_a_label_is_saved_with_its_names_and_comes_back(client, tmp_path):
    label, info = a_label(tmp_path / "label.nii.gz"), {"label_info": [{"name": "liver", "idx": 1}]}
    reply = client.put(
        "/datastore/label",
        params={"image": "ct"},
        files={"label": (label.name, label.read_bytes())},
        data={"params": json.dumps(info)},
    )
    assert reply.json() == {"image": "ct", "label": "ct"}
    where = {"label": "ct", "tag": "final"}
    assert client.get("/datastore/label", params=where).content == label.read_bytes()
    assert client.get("/datastore/label/info", params=where).json()["label_info"] == info["label_info"]
    assert client.delete("/datastore/label", params={"id": "ct", "tag": "final"}).status_code == 200
    assert client.get("/datastore/label", params=where).status_code == 404


def test_a_label_that_cannot_be_read_leaves_the_one_before(client, studies, tmp_path):
    good, bad = a_label(tmp_path / "label.nii.gz"), tmp_path / "bad.nii.gz"
    put_label(client, good)
    for content in (b"", good.read_bytes()[:60]):
        bad.write_bytes(content)
        refused(put_label(client, bad), 400, "not saved")
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"x")
    refused(put_label(client, bad), 400, "not saved")
    assert (studies / "labels/final/ct.nii.gz").read_bytes() == good.read_bytes()
    refused(put_label(client, good, tag=".hidden"), 400, "plain name")
    refused(put_label(client, good, image="nobody"), 404, "no image")


def test_no_temporary_file_stays_whatever_happens(client, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    label = a_label(tmp_path / "label.nii.gz")
    assert put_label(client, label).status_code == 200
    assert client.get("/datastore/dataset").status_code == 200
    refused(put_label(client, label, image="nobody"), 404, "no image")

    def broken(*_):
        raise RuntimeError("a defect")

    monkeypatch.setattr("monailabel_app.datastore.study_folder.StudyFolder.save_label", broken)
    refused(put_label(client, label), 500, "RuntimeError")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_full_disk_is_said(client, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("monailabel_app.datastore.file_changes.shutil.copyfile", full)
    refused(put_label(client, a_label(tmp_path / "label.nii.gz")), 507, "disk is full")
    refused(put_image(client, a_volume(tmp_path / "new.nii.gz")), 507, "disk is full")
    assert client.get("/datastore/").json() == {"total": 1, "completed": 0, "label_tags": {}}


def test_a_data_set_needs_a_label(client, tmp_path):
    refused(client.get("/datastore/dataset"), 404, "no image has a final label")
    put_label(client, a_label(tmp_path / "label.nii.gz"))
    assert client.get("/datastore/dataset").content[:2] == b"PK"
    refused(client.get("/datastore/dataset", params={"limit_cases": -1}), 400, "limit_cases")


# ---- information ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "status", "sentence"),
    [
        ('{"x": NaN}', 400, "finite"),
        ('{"x": 1e999}', 400, "finite"),
        ('{"strategy": 5}', 400, "server's own note"),
        ('{"x": "\\ud800"}', 400, "no Unicode"),
        ('{"x": ' + "[" * 900 + "]" * 900 + "}", 400, "nested"),
        ("[]", 400, "JSON object"),
        ("1", 400, "JSON object"),
        ("{", 400, "must be JSON"),
        ('{"x": "' + "a" * LIMITS.json_bytes + '"}', 400, "maximum size"),
    ],
)
def test_information_that_would_break_the_datastore_is_refused(client, tmp_path, text, status, sentence):
    label, image = a_label(tmp_path / "label.nii.gz"), a_volume(tmp_path / "new.nii.gz")
    put_label(client, label)
    where = {"label": "ct", "tag": "final"}
    refused(client.put("/datastore/image/info", params={"image": "ct"}, data={"info": text}), status, sentence)
    refused(client.put("/datastore/label/info", params=where, data={"info": text}), status, sentence)
    refused(client.put("/datastore/updatelabelinfo", params=where, data={"params": text}), status, sentence)
    for address, query, field, path in (
        ("/datastore/label", {"image": "ct", "tag": "final"}, "label", label),
        ("/datastore/image", {"image": "new"}, "file", image),
    ):
        files = {field: (path.name, path.read_bytes())}
        refused(client.put(address, params=query, files=files, data={"params": text}), status, sentence)
    for address in (
        "/datastore/?output=all",
        "/datastore/image/info?image=ct",
        "/datastore/label/info?label=ct&tag=final",
    ):
        assert client.get(address).status_code == 200
    assert client.post("/activelearning/random").status_code == 200


def test_information_does_not_grow_without_end(client):
    for number in range(3):
        text = json.dumps({str(number): "x" * (LIMITS.json_bytes // 2)})
        last = client.put("/datastore/image/info", params={"image": "ct"}, data={"info": text})
    refused(last, 413, "MONAI_SAM_MAX_JSON_BYTES")


def test_information_about_nothing_is_not_found(client):
    refused(client.put("/datastore/image/info", params={"image": "nobody"}, data={"info": "{}"}), 404, "no image")
    where = {"label": "ct", "tag": "final"}
    refused(client.put("/datastore/label/info", params=where, data={"info": "{}"}), 404, "no label")
