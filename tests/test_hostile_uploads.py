"""Whatever a client sends as a file, it gets 400 and a sentence, and the next click is answered."""

from __future__ import annotations

import gzip
import socket
from urllib.parse import urlsplit

import nibabel as nib
import numpy as np
import pytest
import requests
from app_server import Study, shared_study

from bundle.data.volume import Volume, write_volume
from monailabel_app.errors import RequestError
from monailabel_app.server.uploads import check_label_fits

TEXT = b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 8 8 4\nencoding: txt\n\n" + b"1" * 2000
META = b"ObjectType = Image\nNDims = %s\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = %s\n"
LINKED = b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 8 8 4\nencoding: raw\ndata file: /etc/passwd\n\n"


def bomb() -> bytes:
    """A gigavoxel in a megabyte: as much of it as the check looks at."""
    header = nib.Nifti1Header()
    header.set_data_shape((1024, 1024, 1024))
    header.set_data_dtype(np.uint8)
    return gzip.compress(header.binaryblock + bytes(4)) + gzip.compress(bytes(2**20)) * 1024


HOSTILE = [
    ("txt.nrrd", TEXT, "encoding must be raw or gzip"),
    ("hang.mha", META % (b"-1", b"LOCAL") + bytes(64), "NDims"),
    ("crash.mha", META % (b"100", b"LOCAL") + bytes(64), "NDims"),
    ("other.nrrd", LINKED, "detached data"),
    ("other.nhdr", LINKED, "detached data"),
    ("other.mha", META % (b"3", b"/etc/passwd"), "detached data"),
    ("other.mhd", META % (b"3", b"/dev/zero"), "detached data"),
    ("bomb.nii.gz", bomb(), "too large"),
]


@pytest.fixture(scope="module")
def study() -> Study:
    return shared_study()


@pytest.mark.parametrize(("name", "content", "sentence"), HOSTILE, ids=[name for name, _, _ in HOSTILE])
def test_a_hostile_file_gets_a_sentence_and_the_server_goes_on(study, name, content, sentence):
    click = {"foreground": [[2, 4, 1]]}
    upload = study.post(params=click, file=(name, content))
    label = requests.put(
        f"{study.url}/datastore/label", params={"image": "ct"}, files={"label": (name, content)}, timeout=60
    )
    session = requests.put(f"{study.url}/session/", files={"files": (name, content)}, timeout=60).json()["session_id"]
    for reply in (upload, label, study.post(params=click, session_id=session)):
        assert reply.status_code == 400
        assert sentence in reply.json()["detail"]
        assert "/etc" not in reply.json()["detail"]
    requests.delete(f"{study.url}/session/{session}", timeout=60)
    assert study.post(params={"foreground": [study.inside()]}, image="ct").status_code == 200


def test_a_segmentation_of_slicer_is_looked_at_before_it_is_stored(tmp_path):
    image = write_volume(Volume(np.zeros((4, 4, 4), np.int16), np.eye(4)), tmp_path / "ct.nrrd")
    (tmp_path / "a.seg.nrrd").write_bytes(b"garbage")
    with pytest.raises(RequestError, match=r"the label was not saved: cannot read a\.seg\.nrrd, it is damaged"):
        check_label_fits(tmp_path / "a.seg.nrrd", image)


def test_a_client_that_sends_what_is_no_http_is_answered_by_the_real_server_too(study):
    place = urlsplit(study.url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as client:
        client.sendall(b"PUT /session/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n")
        client.sendall(bytes(2**22))  # a connection that is closed at once is broken by the middle of these
        assert client.recv(2**16).startswith(b"HTTP/1.1 400 ")
