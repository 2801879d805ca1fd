"""A request cannot be larger than its route needs, whatever it says about itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from app_room import a_volume, client_of

from bundle.data.limits import LIMITS
from monailabel_app.server.body_limits import BODY_BYTES

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def client(tmp_path):
    a_volume(tmp_path / "studies/ct.nii.gz")
    with client_of(tmp_path / "studies", tmp_path / "sessions") as client:
        yield client


def pieces(size: int, sent: list[int]) -> Iterator[bytes]:
    for _ in range(0, size, 2**16):
        sent.append(2**16)
        yield b" " * 2**16


def refused(reply, sentence: str = "too large", status: int = 413) -> None:
    assert reply.status_code == status and sentence in reply.json()["detail"], reply.text


def test_a_body_of_json_is_small(client):
    refused(client.post("/activelearning/random", content=b" " * (BODY_BYTES + 1), headers=JSON))
    refused(client.put("/datastore/image/info?image=ct", content=b"info=" + b"x" * BODY_BYTES))


def test_a_body_without_a_length_is_counted_as_it_comes(client):
    refused(client.post("/activelearning/random", content=pieces(10 * BODY_BYTES, []), headers=JSON))


def test_a_body_that_is_longer_than_it_says_is_counted_as_it_comes(client):
    headers = JSON | {"Content-Length": "5"}
    refused(client.post("/activelearning/random", content=b" " * (BODY_BYTES + 1), headers=headers))


@pytest.mark.parametrize("address", ["/session/", "/infer/sam_2d", "/datastore/image", "/datastore/label?image=ct"])
def test_an_upload_is_refused_by_the_length_that_it_says_before_it_comes(client, address):
    headers = {"Content-Length": str(LIMITS.body_bytes + 1), "Content-Type": "multipart/form-data; boundary=x"}
    method = "POST" if "infer" in address else "PUT"
    refused(client.request(method, address, content=b"--x", headers=headers), "MONAI_SAM_MAX_BODY_BYTES")


def test_an_upload_may_be_larger_than_json(client):
    files = {"files": ("ct.nii.gz", b"0" * (2 * BODY_BYTES))}
    assert client.put("/session/", files=files).status_code == 200


def test_a_form_has_few_fields_of_a_limited_size(client):
    many = {f"field{number}": "x" for number in range(17)}
    file = {"file": ("x.nii.gz", b"x")}
    refused(client.post("/infer/sam_2d", data=many, files=file), "Too many fields", 400)
    refused(
        client.post("/infer/sam_2d", data={"params": "x" * (LIMITS.json_bytes + 1)}, files=file), "maximum size", 400
    )
    refused(client.put("/datastore/image", files=[("file", ("x", b"x"))] * 5), "Too many files", 400)
