"""An answer that is ended in the middle of a forward pass."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from session_room import LEFT, open_session, point, state, volume
from torch import Tensor, nn

from bundle.engines.cache import PreparedCache
from bundle.engines.interruption import interruptible, watch
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
