"""Embeddings by content."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from bundle.engines import prepared_files
from bundle.engines.cache import PreparedCache, in_memory_alone, network_identity
from bundle.engines.interruption import Interrupted, interruptible
from bundle.engines.prepared_files import PreparedFiles, stripe_of
from bundle.networks.interface import Prepared

ON_DISK = 1024 + 120  # bytes of an entry: its numbers and the header of safetensors


def entry(value: float, cells: int = 16) -> Prepared:
    return Prepared({"embedding": torch.full((1, 1, cells, cells), float(value))})  # 4 bytes a cell


def value_of(prepared: Prepared) -> float:
    return float(prepared.tensors["embedding"].mean())


def test_what_is_known_is_not_computed_again():
    store = PreparedCache()
    _, first = store.get("a", lambda: entry(1))
    found, second = store.get("a", lambda: entry(2))
    assert (first, second, store.computed) == (True, False, 1) and value_of(found) == 1


def test_the_memory_budget_drops_the_least_recently_used():
    store = PreparedCache(memory_bytes=2 * 1024)
    for key in "ab":
        store.get(key, lambda: entry(0))
    store.get("a", lambda: entry(0))
    store.get("c", lambda: entry(0))
    assert not store.get("a", lambda: entry(0))[1] and store.get("b", lambda: entry(0))[1]


def test_an_entry_larger_than_the_budget_is_answered_but_not_kept():
    store = PreparedCache(memory_bytes=100)
    assert value_of(store.get("a", lambda: entry(3))[0]) == 3
    assert store.get("a", lambda: entry(3))[1]


def test_another_server_finds_entries_on_disk(tmp_path):
    PreparedCache(folder=tmp_path).get("a", lambda: entry(5))
    found, computed = PreparedCache(folder=tmp_path).get("a", lambda: entry(6))
    assert not computed and value_of(found) == 5
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.prepared"]


def bytes_in(folder) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def test_the_disk_budget_is_kept_without_looking_at_every_file_at_every_write(tmp_path, monkeypatch):
    looks, purge = [], PreparedFiles.purge
    monkeypatch.setattr(PreparedFiles, "purge", lambda files: looks.append(files) or purge(files))
    budget = 50 * ON_DISK  # of entries
    store = PreparedCache(folder=tmp_path, disk_bytes=budget, memory_bytes=0)
    for n in range(120):
        store.get(f"{n:03d}", lambda: entry(0))
        assert bytes_in(tmp_path) <= budget
    assert bytes_in(tmp_path) > 0.8 * budget and len(looks) < 120 / 4
    assert not store.get("119", lambda: entry(0))[1] and store.get("000", lambda: entry(0))[1]


def test_entries_of_another_server_count_in_the_disk_budget(tmp_path):
    one, other = (PreparedCache(folder=tmp_path, disk_bytes=10 * ON_DISK, memory_bytes=0) for _ in range(2))
    for n in range(10):
        one.get(f"a{n}", lambda: entry(0))
        other.get(f"b{n}", lambda: entry(0))
    assert bytes_in(tmp_path) <= (10 + 1) * ON_DISK  # two servers write a tenth each before they look again


def test_many_threads_agree():
    store, found = PreparedCache(), []
    threads = [threading.Thread(target=lambda: found.append(store.get("a", lambda: entry(7))[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and all(value_of(prepared) == 7 for prepared in found)


def test_networks_with_other_weights_have_another_identity():
    torch.manual_seed(0)
    one, other = nn.Linear(3, 3), nn.Linear(3, 3)
    assert network_identity(one) == network_identity(one) != network_identity(other)


def test_several_tensors_come_back_by_their_names(tmp_path):
    levels = Prepared({"embedding": torch.ones(1, 4, 2, 2), "fine2": torch.zeros(1, 2, 4, 4)})
    PreparedCache(folder=tmp_path).get("a", lambda: levels)
    found, _ = PreparedCache(folder=tmp_path).get("a", lambda: entry(0))
    assert {name: tensor.shape for name, tensor in found.tensors.items()} == {
        name: tensor.shape for name, tensor in levels.tensors.items()
    }


def test_a_damaged_entry_is_computed_again(tmp_path):
    (tmp_path / "a.prepared").write_bytes(b"cut off")
    found, computed = PreparedCache(folder=tmp_path).get("a", lambda: entry(7))
    assert computed and value_of(found) == 7
    assert not PreparedCache(folder=tmp_path).get("a", lambda: entry(8))[1]


@given(st.data())
def test_an_entry_of_which_anything_was_changed_is_computed_again(data):
    with TemporaryDirectory() as folder:
        PreparedCache(folder=folder).get("a", lambda: entry(5, 3))
        path = Path(folder, "a.prepared")
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        found, _ = PreparedCache(folder=folder).get("a", lambda: entry(5, 3))
        assert list(found.tensors) == ["embedding"] and torch.equal(
            found.tensors["embedding"], entry(5, 3).tensors["embedding"]
        )


@pytest.mark.parametrize("metadata", [None, {"crc32": "00000000"}])
def test_an_entry_of_somebody_else_is_not_taken(tmp_path, metadata, caplog):
    save_file({"something": torch.zeros(1)}, tmp_path / "a.prepared", metadata=metadata)
    found, computed = PreparedCache(folder=tmp_path).get("a", lambda: entry(7))
    assert computed and value_of(found) == 7 and "a.prepared is not as it was written" in caplog.text
    (tmp_path / "a.prepared").rename(tmp_path / "b.prepared")  # of another image
    assert PreparedCache(folder=tmp_path).get("b", lambda: entry(8))[1]


def test_of_many_threads_that_want_the_same_one_computes_it():
    store, computed, begun = PreparedCache(), [], threading.Event()

    def compute() -> Prepared:
        computed.append(1)
        begun.wait(0.05)  # the others come meanwhile
        return entry(7)

    threads = [threading.Thread(target=lambda: store.get("a", compute)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(computed) == 1 == store.computed


def test_of_two_servers_that_want_the_same_one_computes_it(tmp_path):
    one, other = PreparedCache(folder=tmp_path), PreparedCache(folder=tmp_path)
    begun, may_end, found = threading.Event(), threading.Event(), []

    def slowly() -> Prepared:
        begun.set()
        assert may_end.wait(60)
        return entry(1)

    first = threading.Thread(target=lambda: one.get("a", slowly))
    second = threading.Thread(target=lambda: found.append(other.get("a", lambda: entry(2))))
    first.start()
    assert begun.wait(60)
    second.start()
    may_end.set()
    first.join()
    second.join()
    ((prepared, computed),) = found
    assert value_of(prepared) == 1 and not computed


def test_an_entry_that_another_server_computes_is_left_by_whoever_may_be_interrupted(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared_files, "_PATIENCE", 10.0)
    store = PreparedCache(folder=tmp_path)
    looks = iter(range(3))

    def leave() -> None:
        if next(looks) == 2:
            raise Interrupted

    with (
        PreparedFiles(tmp_path, most_bytes=1).alone("a", beside=threading.Lock()),
        pytest.raises(Interrupted),
        interruptible(leave),
    ):
        store.get("a", lambda: entry(1))
    assert value_of(store.get("a", lambda: entry(2))[0]) == 2


def test_what_another_server_computes_for_too_long_is_computed_here(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(prepared_files, "_PATIENCE", 0.0)
    with PreparedFiles(tmp_path, most_bytes=1).alone("a", beside=threading.Lock()):
        assert value_of(PreparedCache(folder=tmp_path).get("a", lambda: entry(4))[0]) == 4
    assert "others may be computing as well (another process has been at it for 0 s)" in caplog.text


def test_a_server_that_cannot_lock_computes_on_its_own(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise NotImplementedError("no locks here")

    monkeypatch.setattr("bundle.engines.prepared_files.FileLock.acquire", refuse)
    assert value_of(PreparedCache(folder=tmp_path).get("a", lambda: entry(4))[0]) == 4


@given(wanted=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 24)), max_size=25))
def test_both_budgets_hold_whatever_is_asked_for(wanted):
    memory, disk = 3000, 6000
    with TemporaryDirectory() as folder:
        store = PreparedCache(folder=folder, memory_bytes=memory, disk_bytes=disk)
        for key, cells in wanted:
            cells = {"a": 5}.get(key, cells)
            found, _ = store.get(f"{key}{cells}", lambda cells=cells: entry(cells, cells))
            assert value_of(found) == cells
            assert store.held_bytes <= memory and bytes_in(Path(folder)) <= disk


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("it is full")])
def test_what_cannot_be_written_is_answered_and_kept_in_memory(tmp_path, monkeypatch, caplog, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(prepared_files, "save_file", full)
    store = PreparedCache(folder=tmp_path)
    assert value_of(store.get("a", lambda: entry(3))[0]) == 3 and "not kept on disk" in caplog.text
    assert not store.get("a", lambda: entry(4))[1] and not bytes_in(tmp_path)


def test_entries_that_another_user_wrote_are_read(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    PreparedCache(folder=tmp_path).get("a", lambda: entry(5))
    monkeypatch.setattr(prepared_files.os, "utime", refuse)
    found, computed = PreparedCache(folder=tmp_path).get("a", lambda: entry(6))
    assert value_of(found) == 5 and not computed


def test_what_nobody_looks_at_is_kept_off_the_disk_until_somebody_does(tmp_path):
    store = PreparedCache(folder=tmp_path)
    with in_memory_alone():
        store.get("a", lambda: entry(5))
        store.get("a", lambda: entry(6))
    assert "a" in store and not bytes_in(tmp_path)
    assert value_of(store.get("a", lambda: entry(7))[0]) == 5
    assert value_of(PreparedCache(folder=tmp_path).get("a", lambda: entry(8))[0]) == 5


def test_without_room_in_memory_it_is_nowhere(tmp_path):
    store = PreparedCache(folder=tmp_path, memory_bytes=1500)
    with in_memory_alone():
        for key in "aba":
            assert store.get(key, lambda: entry(5))[1]
    assert store.get("b", lambda: entry(6))[1] and [path.stem for path in tmp_path.glob("*.prepared")] == ["b"]
    (tmp_path / "b.prepared").unlink()
    assert not store.get("b", lambda: entry(7))[1] and not bytes_in(tmp_path)  # it is written once


@pytest.mark.parametrize("memory", [0, 1 << 20], ids=["from the disk", "from memory"])
def test_what_somebody_works_on_stays_on_disk_for_longer_and_nothing_else(tmp_path, memory):
    store = PreparedCache(folder=tmp_path, memory_bytes=memory, days=30)
    for key in "ab":
        store.get(key, lambda: entry(5))
        os.utime(tmp_path / f"{key}.prepared", (0, 0))
    store.get("a", lambda: entry(6))
    with in_memory_alone():
        assert not store.get("b", lambda: entry(6))[1]
    store.purge()
    assert [path.stem for path in tmp_path.glob("*.prepared")] == ["a"]


def test_who_waits_for_another_process_does_not_keep_the_threads_of_this_one_waiting(tmp_path):
    """Background work would wait for the device, which a click has that wants what it holds."""
    cache = PreparedCache(folder=tmp_path)
    stripe = cache._computing[stripe_of("a")]
    waits, may_go_on = threading.Event(), threading.Event()

    def idle(seconds: float) -> None:
        assert not stripe.locked()
        waits.set()
        may_go_on.wait(10)

    waiting = PreparedCache(folder=tmp_path, idle=idle)
    waiting._computing = cache._computing
    with PreparedFiles(tmp_path, most_bytes=1).alone("a", beside=threading.Lock()):
        thread = threading.Thread(target=waiting.get, args=("a", lambda: entry(1)))
        thread.start()
        assert waits.wait(10) and stripe.acquire(timeout=10)
        stripe.release()
    may_go_on.set()
    thread.join(10)
    assert waiting.computed == 1 and not stripe.locked()
