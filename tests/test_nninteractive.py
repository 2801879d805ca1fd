"""nnInteractive's own client against our server: every call, undo, leases, restored work, two clients at once."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import nnInteractive.inference.remote as remote
import numpy as np
import pytest
from nninteractive_room import ball, balls, bright_opener, running

from monailabel_app.nninteractive.app import META
from monailabel_app.nninteractive.leases import Leases
from monailabel_app.nninteractive.packed_arrays import pack_array


def dice(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one != 0, other != 0
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.fixture(scope="module")
def url():
    with running(bright_opener(), leases=Leases(places=64)) as address:
        yield address


def connected(url, *, image=None, dtype=np.uint8):
    client = remote.nnInteractiveRemoteInferenceSession(url)
    image = balls() if image is None else image
    client.set_image(image[None], {"spacing": [3.0, 2.0, 2.0]})
    client.set_target_buffer(np.zeros(image.shape, dtype))
    return client


@pytest.fixture
def client(url):
    with connected(url) as session:
        yield session


def drawn(where, *, shape=(30, 36, 40)):
    mask = np.zeros(shape, np.uint8)
    mask[where] = 1
    return mask


PROMPTS = {
    "point": lambda c: c.add_point_interaction((15, 12, 12), True),
    "flat box": lambda c: c.add_bbox_interaction([[15, 16], [4, 21], [4, 21]], True),
    "box": lambda c: c.add_bbox_interaction([[8, 23], [5, 20], [5, 20]], True),
    "scribble": lambda c: c.add_scribble_interaction(drawn(np.s_[15, 11:13, 8:16]), True),
    "lasso": lambda c: c.add_lasso_interaction(drawn(np.s_[15, 4:21, 4:21]), True),
    "scribble of a part": lambda c: c.add_scribble_interaction(
        np.ones((1, 2, 8), np.uint8), True, interaction_bbox=[[15, 16], [11, 13], [8, 16]]
    ),
}


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_each_kind_of_prompt_finds_the_object(client, prompt):
    box = prompt(client)
    assert dice(client.target_buffer, ball(0)) > 0.9
    found = np.argwhere(client.target_buffer)
    assert box == [[int(low), int(high) + 1] for low, high in zip(found.min(axis=0), found.max(axis=0), strict=True)]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.int64])
def test_a_buffer_of_any_type_is_filled(url, dtype):
    with connected(url, dtype=dtype) as client:
        client.add_point_interaction((15, 12, 12), True)
        assert dice(client.target_buffer, ball(0)) > 0.9
        assert client.target_buffer.dtype == dtype


def test_a_buffer_of_torch_is_filled(url):
    import torch

    with connected(url) as client:
        client.set_target_buffer(torch.zeros((30, 36, 40), dtype=torch.uint8))
        client.add_point_interaction((15, 12, 12), True)
        assert dice(client.target_buffer.numpy(), ball(0)) > 0.9


def test_capabilities_and_health_are_what_the_client_reads(client):
    assert client.ping()
    assert client.supports_undo and all(client.supported_interactions.values())
    assert client.license == "Apache-2.0"
    assert 0 < client.lease_status()["remaining_seconds"] <= client.idle_timeout_seconds
    assert client.heartbeat() > 0
    client.set_do_autozoom(False)


def test_undo_goes_back_to_the_beginning_bit_for_bit(client):
    before = []
    for voxel, positive in [((15, 12, 12), True), ((15, 24, 28), True), ((12, 12, 12), False)]:
        before.append(client.target_buffer.copy())
        client.add_point_interaction(voxel, positive)
    for expected in reversed(before):
        assert client.undo()
        np.testing.assert_array_equal(client.target_buffer, expected)
    assert not client.undo()


def test_a_point_off_the_object_takes_the_voxel_out(client):
    client.add_bbox_interaction([[8, 23], [5, 20], [5, 20]], True)
    client.add_point_interaction((15, 12, 12), False)
    assert not client.target_buffer[15, 12, 12]


def test_what_was_added_without_an_answer_is_answered_by_predict(client):
    assert client.add_point_interaction((15, 12, 12), True, run_prediction=False) is None
    assert not client.target_buffer.any()
    assert client._predict() is not None
    assert dice(client.target_buffer, ball(0)) > 0.9


def test_the_next_object_starts_in_an_empty_buffer(client):
    client.add_point_interaction((15, 12, 12), True)
    client.reset_interactions()
    assert not client.target_buffer.any()
    client.add_point_interaction((15, 24, 28), True)
    assert dice(client.target_buffer, ball(1)) > 0.9
    assert client.undo()
    assert not client.undo()  # the object before is not touched


def test_a_segmentation_is_taken_as_it_is_and_corrected(client):
    client.add_point_interaction((15, 24, 28), True)
    start = ball(0).astype(np.uint8)
    client.add_initial_seg_interaction(start)
    np.testing.assert_array_equal(client.target_buffer, start)
    client.add_point_interaction((15, 12, 12), False)
    assert not client.target_buffer[15, 12, 12]
    assert client.undo()
    np.testing.assert_array_equal(client.target_buffer, start)


def test_two_clients_of_one_user_do_not_undo_each_other(tmp_path):
    with running(bright_opener(tmp_path)) as url, connected(url) as one, connected(url) as other:
        one.add_point_interaction((15, 12, 12), True)
        other.add_point_interaction((15, 24, 28), True)
        assert one.undo() and not one.target_buffer.any() and not one.undo()
        assert dice(other.target_buffer, ball(1)) > 0.9


def test_two_clients_at_once_get_what_each_gets_alone(url):
    def segment(number):
        with connected(url) as client:
            for voxel in [(15, 12, 12), (15, 24, 28)][:: 1 if number else -1]:
                client.add_point_interaction(voxel, True)
            client.add_point_interaction((12, 12, 12), False)
            return client.target_buffer

    alone = [segment(0), segment(1)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(segment, (0, 1)))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


# ---- leases ---------------------------------------------------------------------------------------------------------


def test_an_expired_lease_says_so_and_its_work_is_there_again(tmp_path):
    now = [0.0]
    with running(bright_opener(tmp_path), leases=Leases(places=2, clock=lambda: now[0])) as url:
        client = connected(url)
        client.add_point_interaction((15, 12, 12), True)
        done = client.target_buffer.copy()
        now[0] = 1000.0
        with pytest.raises(remote.SessionExpiredError, match="your work is kept"):
            client.undo()
        again = connected(url)
        again.add_point_interaction((12, 12, 12), False)
        assert (again.target_buffer != done).any()
        assert again.undo()
        np.testing.assert_array_equal(again.target_buffer, done)
        assert again.undo()
        assert not again.target_buffer.any()


def test_a_restarted_server_has_the_work(tmp_path):
    with running(bright_opener(tmp_path)) as url:
        client = connected(url)
        client.add_point_interaction((15, 12, 12), True)
        done = client.target_buffer.copy()
    with running(bright_opener(tmp_path)) as url, connected(url) as again:
        again.add_point_interaction((12, 12, 12), False)
        assert again.undo()
        np.testing.assert_array_equal(again.target_buffer, done)


def test_work_that_was_finished_is_not_in_the_way_of_the_next(tmp_path):
    with running(bright_opener(tmp_path)) as url:
        with connected(url) as client:
            client.add_point_interaction((15, 12, 12), True)
        with connected(url) as client:
            client.add_point_interaction((15, 24, 28), True)
            assert dice(client.target_buffer, ball(1)) > 0.9


def test_a_full_server_says_when_to_come_again():
    with running(bright_opener(), leases=Leases(places=1)) as url, connected(url):
        with pytest.raises(remote.ServerAtCapacityError, match="all 1 places"):
            remote.nnInteractiveRemoteInferenceSession(url)
        assert int(httpx.post(f"{url}/claim").headers["Retry-After"]) > 0


# ---- requests that are wrong ----------------------------------------------------------------------------------------


@pytest.fixture
def lease(client):
    return {"X-Lease-Token": client._lease_token}


POINT = {"coordinates": [15, 12, 12], "include_interaction": True}
MASK = {"include_interaction": True, "interaction_bbox": None}


@pytest.mark.parametrize(
    ("path", "body", "meta", "message"),
    [
        ("add_point_interaction", {**POINT, "coordinates": [1, 2]}, None, "coordinates must be finite numbers"),
        ("add_point_interaction", {**POINT, "coordinates": [1, 2, "x"]}, None, "coordinates must be"),
        ("add_point_interaction", {**POINT, "coordinates": [1e400, 2, 3]}, None, "coordinates must be|JSON"),
        ("add_point_interaction", {**POINT, "coordinates": [99, 2, 3]}, None, "outside the volume"),
        ("add_point_interaction", {"coordinates": [1, 2, 3]}, None, "include_interaction must be true or false"),
        ("add_point_interaction", [], None, "must be a JSON object"),
        ("add_bbox_interaction", {**POINT, "bbox_coords": [[1, 1], [2, 4], [2, 4]]}, None, "at least one voxel"),
        ("add_bbox_interaction", {**POINT, "bbox_coords": [[90, 91], [2, 4], [2, 4]]}, None, "does not meet"),
        ("add_scribble_interaction", b"", MASK, "ends within its header"),
        ("add_scribble_interaction", pack_array(drawn(np.s_[:0])), MASK, "mask is empty"),
        ("add_scribble_interaction", pack_array(np.ones((2, 2, 2), bool)), MASK, "must have the shape"),
        (
            "add_lasso_interaction",
            pack_array(np.ones((2, 2, 2), bool)),
            {**MASK, "interaction_bbox": [[29, 31], [0, 2], [0, 2]]},
            "leaves the image",
        ),
        ("add_lasso_interaction", pack_array(drawn(np.s_[15, 4, 4])), MASK, "encloses nothing"),
        ("add_initial_seg_interaction", pack_array(np.ones((2, 2, 2), bool)), {}, "must have the shape"),
        ("set_target_buffer", {"shape": [1, 2, 3], "dtype": "uint8"}, None, "must have the image's shape"),
        ("set_target_buffer", {"shape": [30, 36, 40], "dtype": "object"}, None, "dtype must be one of"),
        ("set_target_buffer", {"shape": "x", "dtype": "uint8"}, None, "shape must be a list"),
        ("set_image", pack_array(np.zeros((4, 4), np.float32)), {}, "must have the shape"),
        ("set_image", pack_array(balls()), {"image_properties": {"spacing": [1, 0, 1]}}, "above 0"),
        ("set_image", pack_array(np.full((4, 4, 4), np.nan, np.float32)), {}, "no finite value"),
        ("set_image", pack_array(balls()), {"image_properties": {"spacing": "x"}}, "spacing must be"),
        ("set_do_autozoom", {"do_autozoom": 1}, None, "true or false"),
    ],
)
def test_what_cannot_be_used_is_a_400_with_a_sentence(url, client, lease, path, body, meta, message):
    if isinstance(body, bytes):
        reply = httpx.post(f"{url}/{path}", content=body, headers={**lease, META: json.dumps(meta)})
    else:
        reply = httpx.post(f"{url}/{path}", content=json.dumps(body), headers=lease)
    assert reply.status_code == 400, reply.text
    assert reply.json()["detail"]
    assert re.search(message, reply.json()["detail"]), reply.text


@pytest.mark.parametrize("path", ["predict", "undo", "reset_interactions", "add_point_interaction"])
def test_nothing_is_done_without_a_lease_or_an_image(url, path):
    assert httpx.post(f"{url}/{path}", json=POINT).status_code == 410
    client = remote.nnInteractiveRemoteInferenceSession(url)
    reply = httpx.post(f"{url}/{path}", json=POINT, headers={"X-Lease-Token": client._lease_token})
    assert (reply.status_code, reply.json()["detail"]) == (400, "there is no image yet; call /set_image first")
    client.close()


def test_another_users_lease_is_unknown(tmp_path):
    with running(bright_opener(tmp_path), user_of=lambda request: request.headers.get("authorization", "")) as url:
        ann = remote.nnInteractiveRemoteInferenceSession(url, api_key="ann")
        reply = httpx.post(f"{url}/undo", headers={"X-Lease-Token": ann._lease_token, "Authorization": "Bearer ben"})
        assert reply.status_code == 410
