"""Which engine runs a network, and what is said where it cannot."""

from __future__ import annotations

import pytest
import torch
from fakes import BrightRegionSam
from test_export import vit

from bundle.commands import common
from bundle.engines import choice
from bundle.engines.choice import engine_name, on_engine
from bundle.errors import EngineError
from bundle.families.builders import prompted_unet

CPU = torch.device("cpu")
PAYS = choice._pays  # before a test puts another one in its place


def chosen(wish: str, *, network=None, device: torch.device = CPU):
    network = network or prompted_unet(image_size=64, widths=(8, 8), depths=(1, 1))
    return on_engine(network, wish, device=device, identity="")


def test_the_command_line_offers_the_engines_that_there_are():
    assert common.ENGINES == choice.ENGINES


def test_torch_is_the_network_itself():
    network = BrightRegionSam()
    assert chosen("torch", network=network) is network and engine_name(network) == "torch"


def test_auto_takes_openvino_for_an_encoder_on_a_cpu_where_it_is_installed(monkeypatch):
    encoder, unet = vit(), prompted_unet(image_size=64, widths=(8, 8), depths=(1, 1))
    for installed in (True, False):
        monkeypatch.setattr(choice, "is_installed", lambda installed=installed: installed)
        assert PAYS(encoder, CPU) == installed
        assert not PAYS(unet, CPU) and not PAYS(encoder, torch.device("cuda:0")) and not PAYS(BrightRegionSam(), CPU)


def test_an_unknown_engine_is_refused_with_those_that_there_are():
    with pytest.raises(EngineError, match="auto, torch, openvino, got 'onnx'"):
        chosen("onnx")


def test_what_is_not_installed_is_refused_when_asked_for_and_passed_over_when_not(monkeypatch):
    monkeypatch.setattr(choice, "is_installed", lambda: False)
    assert engine_name(chosen("auto")) == "torch"
    with pytest.raises(EngineError, match="pip install"):
        chosen("openvino")


def test_openvino_on_another_device_is_refused(monkeypatch):
    monkeypatch.setattr(choice, "is_installed", lambda: True)
    with pytest.raises(EngineError, match="on cuda:0"):
        chosen("openvino", device=torch.device("cuda:0"))


@pytest.mark.parametrize(("wish", "refused"), [("auto", False), ("openvino", True)])
def test_a_network_that_cannot_be_converted_is_run_by_torch_unless_openvino_was_asked_for(
    wish, refused, monkeypatch, caplog
):
    module = pytest.importorskip("bundle.engines.openvino")

    def fail(*_, **__):
        raise EngineError("no such operator")

    monkeypatch.setattr(module, "OpenVinoNetwork", fail)
    monkeypatch.setattr(choice, "_pays", lambda *_: True)
    if refused:
        with pytest.raises(EngineError, match="no such operator"):
            chosen(wish)
    else:
        assert engine_name(chosen(wish)) == "torch" and "no such operator; PyTorch runs it" in caplog.text
