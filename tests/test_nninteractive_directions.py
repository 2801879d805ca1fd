"""Every dialect of nnInteractive's clients, for arrays in all orders of axes and all directions of them.

The clients say nothing of directions, so what is held here is that no axis is exchanged or turned on the way: the
answer lies where the prompt was, and is the engine's own for that array, to the bit.
"""

from __future__ import annotations

import base64
import gzip
import io
import itertools
import json

import nnInteractive.inference.remote as remote
import numpy as np
import pytest
from fastapi.testclient import TestClient
from nninteractive_room import bright_opener, running

from bundle.data.volume import volume_of_array
from bundle.prompts.interactions import Point
from monailabel_app.nninteractive import itksnap, slicer
from monailabel_app.nninteractive.leases import Leases
from monailabel_app.nninteractive.workbench import Seats, Workbench, affine_of

ORDERS = list(itertools.permutations(range(3)))
FLIPS = list(itertools.product((False, True), repeat=3))
SOME = [(order, FLIPS[(3 * number + 1) % 8]) for number, order in enumerate(ORDERS)]  # each axis both ways
SPACING = (3.0, 2.0, 2.5)
SHAPE, VOXEL = (10, 14, 12), (4, 5, 7)  # of the image, and the middle of a bright ball in it
BALL = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - VOXEL, axis=-1) < 3.5


@pytest.fixture(scope="module")
def address():
    with running(bright_opener(), leases=Leases(places=64)) as address:
        yield address


@pytest.fixture(scope="module")
def plug_in():
    return TestClient(slicer.create_app(bright_opener()))


@pytest.fixture(scope="module")
def snap():
    return TestClient(itksnap.create_app(bright_opener()))


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_what_the_dialects_share(order):
    spacing = [SPACING[axis] for axis in order]
    work = Workbench("ann", bright_opener(), Seats())
    for flips in FLIPS:
        array, voxel, truth = stored(order, flips)
        work.set_image(array, spacing)
        work.add([Point(voxel)], predict=True)
        check(work.mask, array, voxel, truth, spacing)


@pytest.mark.parametrize(("order", "flips"), SOME, ids=str)
def test_napari_mitk_and_slicer(address, order, flips):
    array, voxel, truth = stored(order, flips)
    spacing = [SPACING[axis] for axis in order]
    with remote.nnInteractiveRemoteInferenceSession(address) as client:
        client.set_image(array[None], {"spacing": spacing})
        client.set_target_buffer(np.zeros(array.shape, np.uint8))
        client.add_point_interaction(voxel, True)
        check(client.target_buffer > 0, array, voxel, truth, spacing)


@pytest.mark.parametrize(("order", "flips"), SOME, ids=str)
def test_slicers_plug_in_before_1_0(plug_in, order, flips):
    array, voxel, truth = stored(order, flips)
    plug_in.post("/upload_image", files={"file": npy(array)})
    reply = plug_in.post("/add_point_interaction", json={"voxel_coord": voxel, "positive_click": True})
    bits = np.frombuffer(reply.content, np.uint8)
    check(np.unpackbits(bits, count=array.size).reshape(array.shape) > 0, array, voxel, truth)


@pytest.mark.parametrize(("order", "flips"), SOME, ids=str)
def test_itk_snap(snap, order, flips):
    array, voxel, truth = stored(order, flips)
    session = snap.get("/start_session").json()["session_id"]
    about = json.dumps({"dimensions": array.shape[::-1], "components_per_pixel": 1})
    file = {"file": gzip.compress(array.astype("<f4").tobytes())}
    assert snap.post(f"/upload_raw/{session}", files=file, data={"metadata": about}).json() == {"status": "success"}
    x, y, z = voxel[::-1]
    reply = snap.get(f"/process_point_interaction/{session}?x={x}&y={y}&z={z}&foreground=true").json()
    mask = np.frombuffer(gzip.decompress(base64.b64decode(reply["result"])), np.int8)
    check(mask.reshape(array.shape) > 0, array, voxel, truth)


def stored(order, flips) -> tuple[np.ndarray, list[int], np.ndarray]:
    """The ball as another file may have it: the image, the voxel of the prompt, and the ball."""
    turned = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    array, truth = (np.ascontiguousarray(one.transpose(order)[turned]) for one in (BALL * np.float32(100), BALL))
    places = (VOXEL[axis] for axis in order)
    voxel = [size - 1 - at if flip else at for at, size, flip in zip(places, array.shape, flips, strict=True)]
    return array, voxel, truth


def check(found, array, voxel, truth, spacing=(1.0, 1.0, 1.0)) -> None:
    """The answer of a dialect lies on the ball, and is what the engine itself answers."""
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9
    session = bright_opener()(volume_of_array(array, affine_of(spacing)), "own", "")
    session.new_object("own")
    session.add([Point(voxel)], object="own", axis=int(np.argmax(spacing)))
    np.testing.assert_array_equal(found, session.mask("own"))


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()
