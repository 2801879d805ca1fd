"""What a server keeps on its disk of images: found by the next one, private, bounded, and gone after some days."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
import torch
from app_room import AFFINE, client_over
from evaluation_room import write_family, write_weights
from test_precompute import slices

from bundle.data.volume import Volume, write_volume
from bundle.engines.cache import PreparedCache
from bundle.engines.prepared_files import PreparedFiles
from bundle.errors import MonaiSamError
from bundle.networks.interface import Prepared
from monailabel_app.errors import RequestError
from monailabel_app.main import MonaiSam
from monailabel_app.server.launch import APP
from monailabel_app.tasks.ahead import Ahead
from monailabel_app.tasks.kept import Kept, purged
from monailabel_app.work import Cancelled, WorkQueue, doing, turn

PATIENCE = 60.0  # seconds; only a broken test waits for them


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small family with an image encoder, its weights, and two images."""
    folder = tmp_path_factory.mktemp("room")
    write_weights(write_family(folder), folder / "weights.safetensors", seed=0)
    rng = np.random.default_rng(0)
    for name in ("ct", "other"):
        array = rng.uniform(0, 100, (32, 32, 4)).astype(np.float32)
        write_volume(Volume(array, AFFINE), folder / "studies" / f"{name}.nii.gz")
    return folder


@pytest.fixture
def prepared(tmp_path) -> Path:
    return tmp_path / "prepared"


def server(folder: Path, **conf: object) -> MonaiSam:
    """A server that keeps no sessions, so that it has nothing to answer from but the network."""
    given = {"family": folder / "tiny.json", "checkpoint": folder / "weights.safetensors", "device": "cpu"}
    given |= {"sessions": "off", "learning": "off", **conf}
    return MonaiSam(str(APP), str(folder / "studies"), {name: str(value) for name, value in given.items()})


def encoded(app: MonaiSam, k: int = 1, image: str = "ct") -> int:
    """How many slices a click has encoded."""
    path = app.datastore().get_image_uri(image)
    found = app.infer({"model": "sam_2d", "image": path, "foreground": [[16, 16, k]], "reset_state": True})
    os.unlink(found["file"])
    return found["params"]["encoded_slices"]


def entries(prepared: Path) -> list[Path]:
    return sorted(prepared.glob("*.prepared"))


def test_the_next_server_answers_on_a_slice_that_was_seen_without_encoding_it(folder, prepared):
    first = server(folder, prepared=prepared)
    assert (encoded(first), encoded(first)) == (1, 0)
    again = server(folder, prepared=prepared)
    assert (encoded(again), encoded(again, k=2)) == (0, 1)
    assert again.held()["disk_bytes"] >= entries(prepared)[0].stat().st_size


def test_a_damaged_file_is_computed_anew(folder, prepared):
    encoded(server(folder, prepared=prepared))
    (path,) = entries(prepared)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert encoded(server(folder, prepared=prepared)) == 1
    assert encoded(server(folder, prepared=prepared)) == 0


def test_off_writes_nothing(folder, prepared, monkeypatch):
    monkeypatch.setenv("MONAI_SAM_HOME", str(prepared))
    app = server(folder, prepared="off")
    assert encoded(app) == 1 and not prepared.exists() and app.held()["disk_bytes"] == 0
    assert encoded(server(folder, prepared="off")) == 1


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_it_is_the_servers_user_alone_who_can_read_them(folder, prepared):
    encoded(server(folder, prepared=prepared))
    for path in (prepared, *prepared.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_budget_holds(folder, prepared):
    encoded(server(folder, prepared=prepared))
    size = entries(prepared)[0].stat().st_size
    app = server(folder, prepared=prepared, prepared_gb=3 * size / 2**30)
    for image in ("ct", "other"):
        for k in range(4):
            encoded(app, k, image)
            assert sum(path.stat().st_size for path in entries(prepared)) <= 3 * size
    assert app.held()["disk_bytes"] <= 3 * size


def test_a_batch_leaves_on_disk_what_people_work_on_and_adds_nothing(folder, prepared):
    app = server(folder, prepared=prepared)
    encoded(app)
    before = entries(prepared)
    params = {"label_tag": "batch", "find": "everything on the slice", "slice": 2}
    with client_over(app) as client:
        assert client.post("/batch/infer/sam_auto", json=params).status_code == 200
        app.batch.wait()
    assert app.batch.status()["done"] == 2, app.batch.status()
    assert app.kept.prepared.computed > 1 and entries(prepared) == before


def test_a_trained_version_uses_the_store_of_the_server(folder, prepared, tmp_path):
    app = server(folder, prepared=prepared, learning=tmp_path / "learning")
    assert app.learner.segmenter.predictor.store is app._segmenter.predictor.store is app.kept.prepared
    assert encoded(app) == 1 and len(entries(prepared)) == 1


# ---- options --------------------------------------------------------------------------------------------------------


def test_by_default_sessions_are_state_and_prepared_slices_are_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MONAI_SAM_HOME", raising=False)
    kept = Kept.of({})
    assert kept.sessions == tmp_path / "state" / "monai-sam" / "sessions" and kept.days == 30
    assert kept.prepared.files.folder == tmp_path / "cache" / "monai-sam" / "prepared"
    assert str(kept.sessions) in str(kept) and str(kept.prepared.files.folder) in str(kept)


def test_without_a_folder_slices_are_kept_in_memory_alone(tmp_path, monkeypatch, caplog):
    (tmp_path / "monai-sam").write_text("no folder")
    monkeypatch.setenv("MONAI_SAM_HOME", str(tmp_path / "monai-sam"))
    kept = Kept.of({"sessions": "off"})
    assert kept.sessions is None and kept.prepared.files is None
    assert "Slices are prepared again by the next server" in caplog.text and "memory alone" in str(kept)


@pytest.mark.parametrize(
    ("conf", "sentence"),
    [
        ({"prepared": "here"}, "prepared must be the full path of a folder"),
        ({"prepared": "/proc/nowhere"}, "prepared: nothing can be written in /proc/nowhere"),
        ({"prepared_gb": "much"}, "prepared_gb must be a number above 0, got 'much'"),
        ({"session_days": "0"}, "session_days must be a number above 0"),
        ({"sessions": "/proc/nowhere"}, "sessions: nothing can be written in /proc/nowhere"),
    ],
)
def test_options_that_cannot_be_used_are_refused(conf, sentence):
    with pytest.raises(RequestError, match=sentence):
        Kept.of({"sessions": "off", "prepared": "off", **conf})


# ---- what another is preparing ---------------------------------------------------------------------------------------

KEY = "ab"  # of the slice


@contextmanager
def held_by_another_server(cache: PreparedCache) -> Iterator[None]:
    with PreparedFiles(cache.files.folder, most_bytes=1).alone(KEY, beside=threading.Lock()):
        yield


@contextmanager
def held_by_a_thread_of_this_one(cache: PreparedCache) -> Iterator[None]:
    begun, may_end = threading.Event(), threading.Event()

    def compute() -> Prepared:
        begun.set()
        assert may_end.wait(PATIENCE)
        raise MonaiSamError("it could not be prepared")

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(cache.get, KEY, compute)
        assert begun.wait(PATIENCE)
        try:
            yield
        finally:
            may_end.set()
            assert isinstance(other.exception(PATIENCE), MonaiSamError)


HELD = pytest.mark.parametrize("held", [held_by_another_server, held_by_a_thread_of_this_one])


def click(queue: WorkQueue, cache: PreparedCache, user: str, key: str, begun: SimpleQueue | None = None) -> bool:
    """A request that has the device and asks for a slice; whether it prepared that."""
    with queue.admitted(user, "sam_2d") as work, doing(work), turn(user):
        if begun is not None:
            begun.put(work)
        _, computed = cache.get(key, lambda: Prepared({"embedding": torch.zeros(1)}))
        return computed


@HELD
def test_who_waits_for_a_slice_that_another_prepares_leaves_the_device_to_others_and_is_cancelled(prepared, held):
    queue, begun = WorkQueue(wait_seconds=PATIENCE), SimpleQueue()
    cache = Kept.of({"sessions": "off", "prepared": str(prepared)}).prepared
    with ThreadPoolExecutor(1) as pool, held(cache):
        anna = pool.submit(click, queue, cache, "anna", KEY, begun)
        work = begun.get(timeout=PATIENCE)
        assert click(queue, cache, "bob", "zz")  # anna had the device before
        assert not anna.done()
        work.cancel()
        with pytest.raises(Cancelled, match="cancelled"):
            anna.result(PATIENCE)
    assert click(queue, cache, "anna", KEY)


@HELD
def test_slices_that_are_prepared_ahead_do_not_keep_a_click_waiting_for_a_slice_of_another(prepared, held, monkeypatch):
    queue, waits = WorkQueue(wait_seconds=PATIENCE), threading.Event()
    cache, volume, ahead = Kept.of({"sessions": "off", "prepared": str(prepared)}).prepared, slices(), Ahead()
    volume.predictor.store = cache
    monkeypatch.setattr(type(volume.predictor), "_key", lambda *_: KEY)
    idle = cache._idle
    monkeypatch.setattr(cache, "_idle", lambda seconds: waits.set() or idle(seconds))
    with held(cache):
        with queue.admitted("anna", "sam_2d") as work, doing(work), turn("anna"):
            ahead.begin(volume, axis=2, index=0)
        assert waits.wait(PATIENCE)
        assert click(queue, cache, "bob", "zz")
        assert [work.what for work, _ in queue.jobs()] == ["precompute"]  # it still waits
    for thread in threading.enumerate():
        if thread.name == "precompute":
            thread.join(PATIENCE)
    assert KEY in cache


# ---- age ------------------------------------------------------------------------------------------------------------


def test_what_is_too_old_goes_when_the_server_starts(folder, prepared, tmp_path):
    encoded(server(folder, prepared=prepared))
    (tmp_path / "sessions").mkdir(mode=0o700)
    old = [*entries(prepared), tmp_path / "sessions" / f"{'0' * 64}.session"]
    old[1].touch()
    for path in old:
        os.utime(path, (0, 0))
    app = server(folder, prepared=prepared, sessions=tmp_path / "sessions", session_days=7)
    with client_over(app) as client, client:  # the second begins the server's life
        pass
    assert not any(path.exists() for path in old)


def test_it_is_looked_for_again_and_again_although_a_look_fails():
    looks, enough = [], threading.Event()

    def purge() -> None:
        looks.append(1)
        if len(looks) == 3:
            enough.set()
        raise MonaiSamError("not now")

    with purged(purge, every=0.001):
        assert enough.wait(PATIENCE)
    assert "purge" not in {thread.name for thread in threading.enumerate()}  # it ends with the server
