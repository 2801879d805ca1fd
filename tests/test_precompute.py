"""Slices around the one in view are prepared ahead, outward, within the store's share."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from fakes import BrightRegionSam, bright_contract
from hypothesis import given
from hypothesis import strategies as st
from test_export import vit

from bundle.data.volume import Volume
from bundle.engines.cache import PreparedCache
from bundle.engines.interruption import Interrupted, interruptible, watch
from bundle.interactive.precompute import SHARE, precompute, slices_outward
from bundle.interactive.slice_model import SlicePredictor, SlicePrompt
from bundle.interactive.volume_slices import VolumeSlices

ENTRY = 32 * 32 * 4  # bytes of what the test network prepares of a slice


def slices(count: int = 7, memory_bytes: int = 1 << 20) -> VolumeSlices:
    array = np.random.default_rng(0).uniform(0, 100, (9, 8, count)).astype(np.float32)
    predictor = SlicePredictor(BrightRegionSam(), bright_contract(32), store=PreparedCache(memory_bytes=memory_bytes))
    return VolumeSlices(Volume(array, np.eye(4), "CT", None), predictor)


@given(count=st.integers(1, 40), data=st.data())
def test_every_slice_comes_once_and_never_nearer_than_the_one_before(count, data):
    index = data.draw(st.integers(0, count - 1))
    order = list(slices_outward(index, count))
    distances = [abs(other - index) for other in order]
    assert sorted(order) == list(range(count)) and order[0] == index and distances == sorted(distances)


def test_a_click_after_it_encodes_nothing():
    volume = slices()
    assert precompute(volume, axis=2, index=3) == 7
    answer = volume.predictor.predict(volume.view(volume.frame(2), 5), SlicePrompt(box=np.array([0.0, 0, 5, 5])))
    assert answer.encoded == 0 and volume.predictor.network.encoded == 7


def test_it_ends_where_its_share_of_the_memory_is_full():
    volume = slices(memory_bytes=8 * ENTRY)
    assert precompute(volume, axis=2, index=0) == SHARE * 8
    assert volume.predictor.store.held_bytes == SHARE * 8 * ENTRY


def test_what_its_progress_raises_ends_it_and_what_is_prepared_stays():
    volume = slices()

    def stop(done: int) -> None:
        if done == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        precompute(volume, axis=2, index=3, progress=stop)
    assert volume.predictor.network.encoded == 3 and precompute(volume, axis=2, index=3) == 7
    assert volume.predictor.network.encoded == 7


def test_a_network_without_an_encoder_prepares_nothing(monkeypatch):
    volume = slices()
    monkeypatch.setattr(BrightRegionSam, "spec", BrightRegionSam.spec.__class__((3, 64, 64), 64, keeps_prepared=False))
    assert precompute(volume, axis=2, index=3) == 0 and volume.predictor.network.encoded == 0


def test_an_encoder_is_left_between_two_layers_and_its_slice_begun_anew():
    network = vit().eval()
    predictor = SlicePredictor(network, bright_contract(64), store=PreparedCache())
    volume = VolumeSlices(slices(1).volume, predictor)
    asked, rounds = [], []

    def interrupted() -> bool:
        asked.append(1)
        return len(asked) == 3  # before the third layer

    assert precompute(volume, axis=2, index=0, progress=rounds.append, interrupted=interrupted) == 1
    assert rounds == [0, 0] and len(asked) > 10


def leave() -> None:
    raise Interrupted


def test_another_thread_is_not_interrupted():
    network = vit().eval()
    watch(network)
    found = []
    with interruptible(leave), torch.inference_mode():
        with pytest.raises(Interrupted):
            network.prepare(torch.zeros(1, 3, 64, 64))
        thread = threading.Thread(target=lambda: found.append(network.prepare(torch.zeros(1, 3, 64, 64))))
        thread.start()
        thread.join()
    assert len(found) == 1
