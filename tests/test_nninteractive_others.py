"""The dialects of SlicerNNInteractive before 1.0 and of ITK-SNAP, replayed as their clients send them."""

from __future__ import annotations

import base64
import gzip
import io
import json

import numpy as np
import pytest
from fastapi.testclient import TestClient
from nninteractive_room import ball, balls, bright_opener

from monailabel_app.errors import RequestError
from monailabel_app.nninteractive import itksnap, slicer
from monailabel_app.nninteractive.plain_arrays import gunzip, read_npy, read_raw


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def drawn(where) -> np.ndarray:
    mask = np.zeros((30, 36, 40), np.uint8)
    mask[where] = 1
    return mask


# ---- SlicerNNInteractive before 1.0 ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plug_in():
    return TestClient(slicer.create_app(bright_opener()), raise_server_exceptions=False)


def bits(reply) -> np.ndarray:
    """As the plug-in reads a reply."""
    assert reply.headers["content-encoding"] == "gzip"
    return np.unpackbits(np.frombuffer(reply.content, np.uint8), count=30 * 36 * 40).reshape(30, 36, 40).astype(bool)


def uploaded(plug_in, path="/u/ann"):
    assert plug_in.post(f"{path}/upload_image", files={"file": npy(balls())}).json() == {"status": "ok"}
    plug_in.post(f"{path}/upload_segment", files={"file": gzip.compress(npy(drawn(np.s_[:0])))})
    return path


CALLS = {
    "add_point_interaction": {"json": {"voxel_coord": [15, 12, 12], "positive_click": True}},
    "add_bbox_interaction": {
        "json": {"outer_point_one": [15, 20, 20], "outer_point_two": [15, 4, 4], "positive_click": True}
    },
    "add_scribble_interaction": {
        "files": {"file": gzip.compress(npy(drawn(np.s_[15, 11:13, 8:16])))},
        "data": {"positive_click": "yes"},
    },
    "add_lasso_interaction": {
        "files": {"file": gzip.compress(npy(drawn(np.s_[15, 4:21, 4:21])))},
        "data": {"positive_click": "true"},
    },
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("path", ["", "/u/ann"])
def test_each_call_of_the_plug_in_finds_the_object(plug_in, call, path):
    uploaded(plug_in, path)
    assert dice(bits(plug_in.post(f"{path}/{call}", **CALLS[call])), ball(0)) > 0.9


def test_a_segment_is_gone_on_with_and_two_users_do_not_meet(plug_in):
    ann, ben = uploaded(plug_in, "/u/ann"), uploaded(plug_in, "/u/ben")
    segment = {"file": gzip.compress(npy(ball(1).astype(np.uint8)))}
    assert plug_in.post(f"{ann}/upload_segment", files=segment).json() == {"status": "ok"}
    off = {"voxel_coord": [15, 24, 28], "positive_click": False}
    hers = bits(plug_in.post(f"{ann}/add_point_interaction", json=off))
    his = bits(plug_in.post(f"{ben}/add_point_interaction", **CALLS["add_point_interaction"]))
    assert not hers[15, 24, 28]
    assert (hers == ball(1))[np.r_[:15, 16:30]].all()  # the other slices are as they were given
    assert dice(his, ball(0)) > 0.9


@pytest.mark.parametrize(
    ("call", "request_", "message"),
    [
        ("add_point_interaction", CALLS["add_point_interaction"], "No image uploaded"),
        ("add_scribble_interaction", CALLS["add_scribble_interaction"], "No image uploaded"),
        ("upload_image", {"files": {"file": b"nothing"}}, "must be .npy"),
        ("upload_image", {"files": {"file": npy(np.zeros((3, 3)))}}, "must have the shape"),
    ],
)
def test_the_plug_in_is_told_what_is_wrong(plug_in, call, request_, message):
    reply = plug_in.post(f"/u/eve/{call}", **request_)
    assert reply.status_code == 200
    assert reply.json()["status"] == "error"
    assert message in reply.json()["message"]


# ---- ITK-SNAP -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def snap():
    return TestClient(itksnap.create_app(bright_opener()), raise_server_exceptions=False)


def raw(array: np.ndarray) -> bytes:
    return gzip.compress(np.ascontiguousarray(array, dtype="<f4").tobytes())


def started(snap, prefix):
    assert snap.get(f"{prefix}/status").json()["status"] == "ok"
    model = snap.get("/v2/models").json()["models"][0]["id"]
    start = f"/v2/start_session/{model}" if prefix else "/start_session"
    session = snap.get(start).json()["session_id"]
    about = json.dumps({"dimensions": [40, 36, 30], "components_per_pixel": 1})
    reply = snap.post(f"{prefix}/upload_raw/{session}", files={"file": raw(balls())}, data={"metadata": about})
    assert reply.json() == {"status": "success"}
    return session


def result(reply) -> np.ndarray:
    assert reply.json()["status"] == "success", reply.text
    values = gzip.decompress(base64.b64decode(reply.json()["result"]))
    return np.frombuffer(values, np.int8).reshape(30, 36, 40).astype(bool)


@pytest.mark.parametrize("prefix", ["", "/v2"])
def test_itk_snap_clicks_draws_and_begins_again(snap, prefix):
    session = started(snap, prefix)
    where = "?point=12&point=12&point=15" if prefix else "?x=12&y=12&z=15"
    found = result(snap.get(f"{prefix}/process_point_interaction/{session}{where}&foreground=true"))
    assert dice(found, ball(0)) > 0.9
    off = {"file": raw(drawn(np.s_[15, 12, 10:15]))}
    found = result(snap.post(f"{prefix}/process_scribble_interaction/{session}?foreground=false", files=off))
    assert not found[15, 12, 12]
    assert snap.get(f"{prefix}/reset_interactions/{session}").json() == {"status": "success"}
    on = {"file": raw(drawn(np.s_[15, 17:31, 21:35]))}
    found = result(snap.post(f"{prefix}/process_lasso_interaction/{session}?foreground=true", files=on))
    assert dice(found, ball(1)) > 0.9
    snap.get(f"{prefix}/end_session/{session}")
    assert snap.get(f"{prefix}/reset_interactions/{session}").json() == {"error": "Invalid session"}


@pytest.mark.parametrize("metadata", ["", "[]", '{"dimensions": [1, 2]}', '{"dimensions": [1, 2, -3]}', "[" * 5000])
def test_itk_snap_is_told_what_is_wrong_with_its_image(snap, metadata):
    session = snap.get("/start_session").json()["session_id"]
    reply = snap.post(f"/upload_raw/{session}", files={"file": raw(balls())}, data={"metadata": metadata or " "})
    assert reply.status_code == 400
    assert reply.json()["detail"]


# ---- arrays ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", ["bool", "uint8", ">i2", "float32", "float64"])
def test_npy_files_are_read_as_numpy_reads_them(order, dtype):
    array = np.asarray(np.arange(24).reshape(2, 3, 4) % 7, dtype=dtype, order=order)
    np.testing.assert_array_equal(read_npy(npy(array)), array)


def test_a_gzip_bomb_is_not_unpacked():
    with pytest.raises(RequestError, match="more than the 1000 bytes"):
        gunzip(gzip.compress(bytes(10**7)), 1000)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npy(np.zeros((2, 3, 4)))[:-1], "has 192 bytes, got 191"),
        (npy(np.array([None] * 8).reshape(2, 2, 2)), "must hold numbers"),
        (npy(np.zeros((2, 3, 4), complex)), "must hold numbers"),
        (b"\x93NUMPY\x01\x00" + b"\xff\xff" + b"(" * 65535, "must be .npy"),
        (npy(np.zeros((2, 3, 4), np.uint8)).replace(b"(2, 3, 4)", b"(2, 3,9**9)"), "must be .npy|must have"),
    ],
)
def test_an_npy_file_that_is_none_is_refused(data, message):
    with pytest.raises(RequestError, match=message):
        read_npy(data)


def test_raw_values_must_be_as_many_as_the_image_has():
    with pytest.raises(RequestError, match="has 96 bytes, got 92"):
        read_raw(bytes(92), (2, 3, 4))
