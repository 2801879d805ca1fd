"""Embeddings by content."""

from __future__ import annotations

import threading
from pathlib import Path

import torch
from torch import nn

from bundle.engines.cache import EmbeddingStore, network_identity


def entry(value: float, cells: int = 16) -> torch.Tensor:
    return torch.full((1, 1, cells, cells), float(value))  # 4 bytes a cell


def test_what_is_known_is_not_computed_again():
    store = EmbeddingStore()
    _, first = store.get("a", lambda: entry(1))
    found, second = store.get("a", lambda: entry(2))
    assert (first, second, store.computed) == (True, False, 1) and found.mean() == 1


def test_the_memory_budget_drops_the_least_recently_used():
    store = EmbeddingStore(memory_bytes=2 * 1024)
    for key in "ab":
        store.get(key, lambda: entry(0))
    store.get("a", lambda: entry(0))
    store.get("c", lambda: entry(0))
    assert not store.get("a", lambda: entry(0))[1] and store.get("b", lambda: entry(0))[1]


def test_an_entry_larger_than_the_budget_is_answered_but_not_kept():
    store = EmbeddingStore(memory_bytes=100)
    assert store.get("a", lambda: entry(3))[0].mean() == 3
    assert store.get("a", lambda: entry(3))[1]


def test_another_server_finds_entries_on_disk(tmp_path):
    EmbeddingStore(folder=tmp_path).get("a", lambda: entry(5))
    found, computed = EmbeddingStore(folder=tmp_path).get("a", lambda: entry(6))
    assert not computed and torch.equal(found, entry(5))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def bytes_in(folder) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_the_disk_budget_is_kept_without_looking_at_every_file_at_every_write(tmp_path, monkeypatch):
    looks, glob = [], Path.glob
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: looks.append(folder) or glob(folder, pattern))
    budget = 50 * 1152  # an entry is 1024 bytes and numpy's header
    store = EmbeddingStore(folder=tmp_path, disk_bytes=budget, memory_bytes=0)
    for n in range(120):
        store.get(f"{n:03d}", lambda: entry(0))
        assert bytes_in(tmp_path) <= budget
    assert bytes_in(tmp_path) > 0.8 * budget and len(looks) < 120 / 4
    assert not store.get("119", lambda: entry(0))[1] and store.get("000", lambda: entry(0))[1]


def test_entries_of_another_server_count_in_the_disk_budget(tmp_path):
    one, other = (EmbeddingStore(folder=tmp_path, disk_bytes=10 * 1152, memory_bytes=0) for _ in range(2))
    for n in range(10):
        one.get(f"a{n}", lambda: entry(0))
        other.get(f"b{n}", lambda: entry(0))
    assert bytes_in(tmp_path) <= (10 + 1) * 1152  # two servers write a tenth each before they look again


def test_many_threads_agree():
    store, found = EmbeddingStore(), []
    threads = [threading.Thread(target=lambda: found.append(store.get("a", lambda: entry(7))[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and all(torch.equal(embedding, entry(7)) for embedding in found)


def test_networks_with_other_weights_have_another_identity():
    torch.manual_seed(0)
    one, other = nn.Linear(3, 3), nn.Linear(3, 3)
    assert network_identity(one) == network_identity(one) != network_identity(other)
