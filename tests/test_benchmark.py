"""The benchmark of training from stored embeddings."""

from __future__ import annotations

from training_room import one_thread as one_thread

from bundle.training.benchmark import Benchmark, measure


def test_both_ways_are_timed_and_the_embedding_is_stored(tmp_path, one_thread):
    running, stored = measure(Benchmark(batch_size=1, steps=1, threads=1), tmp_path)
    assert running > 0 and stored > 0 and len(list(tmp_path.glob("*.prepared"))) == 1
