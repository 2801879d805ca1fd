"""An answer that is ended in the middle of a forward pass."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
from session_room import LEFT, open_session, point, state, volume
from torch import Tensor, nn

from bundle.engines.cache import PreparedCache
from bundle.engines.interruption import holding, interruptible, wait_until, watch
from bundle.interactive.cube_network import CubeNetwork
from bundle.interactive.cube_predictor import CubePredictor
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_model import SlicePredictor
from bundle.networks.interface import Prepared
from bundle.networks.prompted_unet_3d import PromptedUNet3D
from bundle.prompts.prompts import ObjectPrompts

from fakes import BrightRegionSam, bright_contract  # isort: skip


class Left(Exception):
    """The user has left."""


class Layered(BrightRegionSam):
    """The network of bright regions, with layers that pass the image on."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(4))
        self.passed = 0

    def prepare(self, images: Tensor) -> Prepared:
        for layer in self.layers:
            layer(images)
            self.passed += 1
        return super().prepare(images)


def layered() -> InteractiveSession:
    return InteractiveSession(volume(), SlicePredictor(Layered(), bright_contract(32), store=PreparedCache()))


def leaving(after: int):
    """A check that ends the answer when it is called for so many times."""
    called = []

    def check() -> None:
        called.append(1)
        if len(called) > after:
            raise Left

    return check


def test_an_answer_ends_in_the_middle_of_a_pass_and_the_session_is_as_it_was():
    session = layered()
    before = state(session)
    with pytest.raises(Left), interruptible(leaving(2)):
        session.add(point(LEFT))
    assert session.predictor.network.passed == 2 and state(session) == before
    assert not session.predictor.store.held_bytes
    session.add(point(LEFT))
    assert session.mask("object").any()


def test_a_check_that_raises_nothing_changes_no_answer_and_holds_for_its_block_alone():
    session, other, called = layered(), layered(), []
    with interruptible(lambda: called.append(1)):
        session.add(point(LEFT))
    assert called
    called.clear()
    other.add(point(LEFT))
    assert not called and np.array_equal(session.mask("object"), other.mask("object"))


def test_a_network_is_watched_once_and_its_copies_and_weights_stay_what_they_are():
    network = Layered()
    names = list(network.state_dict())
    for _ in range(2):
        watch(network)
    assert [len(layer._forward_pre_hooks) for layer in network.layers] == [1] * 4
    watch(copied := copy.deepcopy(network))
    assert [len(layer._forward_pre_hooks) for layer in copied.layers] == [1] * 4
    assert list(network.state_dict()) == names


def test_an_engine_that_is_no_module_is_left_alone():
    watch(object())
    assert open_session().add(point(LEFT)).predicted


def test_a_network_of_volumes_is_left_in_the_middle_of_a_pass_too():
    network = CubeNetwork(CubePredictor(PromptedUNet3D(8, widths=(8, 8), depths=(1, 1)), bright_contract(8)))
    prompts = ObjectPrompts([point(LEFT)])
    with pytest.raises(Left), interruptible(leaving(2)):
        network.predict(network.start(volume()), prompts, None)


# ---- waiting for others ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("looks", range(4))
def test_it_is_looked_for_until_it_is_there_and_not_waited_for_once_it_is(looks):
    there, idled = iter([False] * looks + [True]), []
    assert wait_until(lambda: next(there), idle=idled.append)
    assert len(idled) == looks and all(0 < seconds < 0.1 for seconds in idled)


def test_what_is_not_there_in_time_is_looked_for_once_more_at_least():
    idled = []
    assert not wait_until(lambda: False, idle=idled.append, seconds=0.0) and idled == []
    assert wait_until(lambda: True, idle=idled.append, seconds=-1.0)


def test_whoever_may_end_a_pass_may_end_waiting_too():
    idled, there = [], iter([False] * 9 + [True])
    with pytest.raises(Left), interruptible(leaving(2)):
        wait_until(lambda: next(there), idle=idled.append)
    assert len(idled) == 2


@pytest.mark.parametrize("make", [threading.Lock, threading.RLock])
def test_a_lock_is_held_for_the_block_alone_and_not_at_all_by_who_stops_waiting_for_it(make):
    lock, seen = make(), []

    def leave(seconds: float) -> None:
        raise Left

    def other() -> None:
        try:
            with holding(lock, idle=leave):
                seen.append("held")
        except Left:
            seen.append("left")

    def look() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(60)

    with pytest.raises(ZeroDivisionError), holding(lock):
        look()
        raise ZeroDivisionError
    look()
    assert seen == ["left", "held"]
