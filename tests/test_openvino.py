"""OpenVINO answers what PyTorch answers, from graphs that are converted once."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
import torch
from fixtures.parity.cases import fill_with_seeded_weights
from test_export import unet, vit

from bundle.data.volume import read_volume
from bundle.engines.cache import PreparedCache, network_identity
from bundle.engines.choice import engine_identity, is_installed
from bundle.engines.interruption import Interrupted, interruptible
from bundle.interactive.slice_model import SlicePredictor, SlicePrompt, SliceView
from bundle.networks.interface import PromptableNetwork
from bundle.prompts.batch import PromptBatch
from bundle.transforms.contract import Contract

if not is_installed():
    pytest.skip("OpenVINO is not installed", allow_module_level=True)

from bundle.engines import openvino as engine
from bundle.engines.openvino import OpenVinoNetwork

VIEW = {"kind": "window", "low": 0, "high": 100}
CONTRACT = {
    "size": 64,
    "resize": "longest",
    "interpolation": "bilinear",
    "channels": [{"CT": VIEW, "other": VIEW, "windowed": {"kind": "identity"}}],
    "normalise": {"scale": "0-1"},
    "eight_bit": False,
}
PROMPTS = {
    "one point": PromptBatch(points=torch.tensor([[[30.0, 20.0]]]), point_labels=torch.ones(1, 1)),
    "boxes of two images": PromptBatch(
        boxes=torch.tensor([[3.0, 4, 40, 50], [9, 9, 30, 20], [1, 2, 60, 60]]), image_index=torch.tensor([0, 1, 1])
    ),
    "a mask alone": PromptBatch(masks=torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))),
}


def opened(network: PromptableNetwork, folder) -> OpenVinoNetwork:
    with pytest.MonkeyPatch.context() as patch:  # float32 on every machine, so that numbers can be compared
        patch.setattr(engine, "computes_in_bfloat16", lambda device: False)
        return OpenVinoNetwork(network, identity=network_identity(network), folder=folder)


@pytest.fixture(scope="module")
def network() -> PromptableNetwork:
    network = vit([{"kind": "lora", "part": "encoder"}]).eval()
    fill_with_seeded_weights(network)
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def converted(network, folder) -> OpenVinoNetwork:
    return opened(network, folder)


@pytest.fixture(scope="module")
def small() -> PromptableNetwork:
    network = unet().eval()
    fill_with_seeded_weights(network)
    return network


@pytest.fixture(scope="module")
def small_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("small_graphs")


@pytest.fixture
def no_conversion(converted, monkeypatch) -> None:
    def convert(*_, **__):
        raise AssertionError("it was converted already")

    monkeypatch.setattr(engine._Conversion, "_convert", convert)


def test_it_prepares_what_the_network_prepares(network, converted):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = network.prepare(images).tensors, converted.prepare(images).tensors
    assert list(found) == list(expected)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
def test_it_answers_any_number_of_objects_and_prompts(network, converted, prompts):
    images = torch.randn(1 if prompts.image_index is None else 2, 3, 64, 64)
    with torch.inference_mode():
        prepared = network.prepare(images)
        expected, found = network.predict(prepared, prompts), converted.predict(prepared, prompts)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.iou, expected.iou, atol=1e-3, rtol=1e-3)


def test_the_weights_stay_as_they_are_and_a_second_opening_converts_nothing(network, folder, no_conversion):
    opened(network, folder)


def test_a_damaged_graph_is_made_again(small, small_folder, monkeypatch, caplog):
    opened(small, small_folder)
    (path,) = small_folder.glob("*.zip")
    content = path.read_bytes()
    made, convert = [], engine._Conversion._convert
    monkeypatch.setattr(engine._Conversion, "_convert", lambda self, *a: made.append(a[0]) or convert(self, *a))
    # A bit of the weights, which nothing but the checksum shows.
    path.write_bytes(content[:-2000] + bytes([content[-2000] ^ 1]) + content[-1999:])
    opened(small, small_folder)
    assert made == ["decoder"] and "is damaged" in caplog.text


def test_other_weights_have_other_graphs(network, folder, no_conversion):
    with pytest.raises(engine.EngineError, match="converted already"):
        OpenVinoNetwork(network, identity="of other weights", folder=folder)


def test_a_graph_that_answers_something_else_is_refused_and_not_kept(small, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "_LARGEST_DEVIATION", -1.0)
    with pytest.raises(engine.EngineError, match=r"deviates by 0\.000"):
        opened(small, tmp_path)
    assert not list(tmp_path.glob("*.zip"))


def test_masks_of_slices_agree(network, folder, no_conversion):
    contract = Contract.from_config(CONTRACT)
    picture = np.random.default_rng(0).uniform(0, 100, (80, 70)).astype(np.float32)
    view = SliceView(picture, contract.intensity(picture, "CT"))
    masks = []
    for net in (network, opened(network, folder)):
        predictor = SlicePredictor(net, contract, store=PreparedCache())
        masks.append(predictor.predict(view, SlicePrompt(box=np.array([10.0, 12.0, 50.0, 60.0]))).mask)
    assert 2 * (masks[0] & masks[1]).sum() >= 0.995 * (masks[0].sum() + masks[1].sum())


def test_masks_of_real_slices_agree(network, folder, no_conversion, real_data):
    contract = Contract.from_config(CONTRACT)
    predictors = [SlicePredictor(one, contract, store=PreparedCache()) for one in (network, opened(network, folder))]
    volume = read_volume(real_data / "flare22-style" / "images" / "FLARE22_Tr_0001_0000.nii.gz")
    intensity, depth = contract.intensity(volume.array, volume.modality), volume.shape[2]
    scores = []
    for k in range(depth // 4, depth, depth // 4):
        view = SliceView(np.asarray(volume.array[:, :, k]), intensity)
        rows, columns = view.picture.shape
        prompt = SlicePrompt(box=np.array([columns / 4, rows / 4, columns / 2, rows / 2]))
        one, other = (predictor.predict(view, prompt).mask for predictor in predictors)
        scores.append(2 * (one & other).sum() / max(1, one.sum() + other.sum()))
    assert np.mean(scores) >= 0.995


def test_prepared_tensors_of_one_engine_are_not_those_of_another(network, converted):
    assert engine_identity(network) == "torch float32" and engine_identity(converted) == "openvino float32"


def leave() -> None:
    raise Interrupted


def test_an_encoder_that_runs_is_left_when_something_else_asks(converted):
    # The small graph may end before the first look.
    with suppress(Interrupted), interruptible(leave), torch.inference_mode():
        converted.prepare(torch.zeros(1, 3, 64, 64))
    with torch.inference_mode():
        assert converted.prepare(torch.zeros(1, 3, 64, 64)).tensors["embedding"].isfinite().all()


def test_a_network_without_an_encoder_is_one_graph(small, small_folder):
    ours = opened(small, small_folder)
    prompts = PromptBatch(boxes=torch.tensor([[3.0, 4, 40, 50]]))
    with torch.inference_mode():
        prepared = ours.prepare(torch.randn(1, 3, 64, 64))
        expected, found = small.predict(prepared, prompts), ours.predict(prepared, prompts)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-3, rtol=1e-3)
    assert len(list(small_folder.glob("*.zip"))) == 1


def test_images_look_to_it_as_they_look_to_the_network(network, converted, small, small_folder):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for one, other in ((network, converted), (small, opened(small, small_folder))):
            torch.testing.assert_close(other.describe(images), one.describe(images), atol=1e-4, rtol=1e-4)
