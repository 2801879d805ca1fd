"""What is exported answers as the network does, in other runtimes and in other projects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnxruntime
import pytest
import torch
from fixtures.parity.cases import fill_with_seeded_weights
from segment_anything.modeling import ImageEncoderViT, TwoWayTransformer

from bundle.families import export, sam_builders
from bundle.families.builders import prompted_unet, sam_tiny_vit, sam_vit
from bundle.families.checkpoints import CheckpointError, open_checkpoint
from bundle.families.export import export_official, export_onnx, export_torchscript
from bundle.networks import tiny_vit
from bundle.networks.interface import PromptableNetwork
from bundle.networks.promptable_sam import PromptableSam
from bundle.networks.prompted_unet import PromptedUNet
from bundle.networks.tuning.lora import merge_lora
from bundle.networks.vit import VIT_VARIANTS
from bundle.prompts.batch import PromptBatch

SIZE = 64
LORA = [{"kind": "lora", "part": "encoder"}, {"kind": "lora", "part": "decoder"}]


@contextmanager
def few_blocks() -> Iterator[None]:
    """One block in each stage of a TinyViT, a windowed and a global one of width 64 in a ViT, one in a decoder.

    An export takes as long as there are blocks.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_vit, "DEPTHS", (1, 1, 1, 1))
        patch.setitem(VIT_VARIANTS, "vit_b", (64, 2, 4, (1,)))
        patch.setattr(sam_builders, "TwoWayTransformer", lambda depth, **options: TwoWayTransformer(1, **options))
        yield


@few_blocks()
def tiny(*, fine: bool = False) -> PromptableSam:
    return sam_tiny_vit(image_size=SIZE, grid=8, neck="pyramid", window_sizes=(8, 4, 4), raster_prompts=True, fine=fine)


@few_blocks()
def vit(tuning=()) -> PromptableSam:
    return sam_vit(image_size=SIZE, tuning=tuning)


def unet(tuning=()) -> PromptedUNet:
    return prompted_unet(image_size=SIZE, widths=(8, 16, 16), depths=(1, 1, 1), tuning=tuning)


NETWORKS = {
    "tiny_vit_with_fine_features": lambda: tiny(fine=True),
    "vit_with_lora": lambda: vit(LORA),
    "unet_with_lora": lambda: unet(LORA),
}


@pytest.fixture(scope="module", params=NETWORKS.values(), ids=NETWORKS)
def network(request) -> PromptableNetwork:
    network = request.param().eval()
    fill_with_seeded_weights(network)
    return network


@pytest.fixture(scope="module")
def torchscript(network, tmp_path_factory):
    return {path.stem: torch.jit.load(path) for path in export_torchscript(network, tmp_path_factory.mktemp("ts"))}


@pytest.fixture(scope="module")
def onnx(network, tmp_path_factory):
    return {
        path.stem: onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for path in export_onnx(network, tmp_path_factory.mktemp("onnx"))
    }


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(count))


def question(network: PromptableNetwork, objects: int, points: int, *, masks: bool) -> PromptBatch:
    """A box and some points for each object, in two images."""
    generator = torch.Generator().manual_seed(objects)
    size = network.spec.mask_size
    return PromptBatch(
        points=SIZE * torch.rand(objects, points, 2, generator=generator),
        point_labels=torch.randint(-1, 2, (objects, points), generator=generator),
        boxes=SIZE * torch.rand(objects, 4, generator=generator).sort(dim=1).values,
        masks=torch.randn(objects, 1, size, size, generator=generator) if masks else None,
        image_index=torch.arange(objects) % 2,
    )


def graph_inputs(network: PromptableNetwork, prompts: PromptBatch) -> dict[str, torch.Tensor]:
    coords, labels = prompts.tokens()
    size = network.spec.mask_size
    masks = prompts.masks if prompts.masks is not None else torch.full((len(prompts), 1, size, size), torch.nan)
    return dict(image_index=prompts.image_index, coords=coords, labels=labels.long(), masks=masks)


@torch.no_grad()
def test_an_encoder_is_exported_where_what_it_gives_is_kept(network, torchscript, onnx):
    expected = {"encoder", "decoder"} if network.spec.keeps_prepared else {"network"}
    assert set(torchscript) == set(onnx) == expected


@torch.no_grad()
def test_exported_encoders_take_any_number_of_images(network, torchscript, onnx):
    prepared = network.prepare(images(3)).tensors
    answers = torchscript["encoder"](images(3)) if "encoder" in torchscript else (images(3),)
    for answer, expected in zip(answers, prepared.values(), strict=True):
        torch.testing.assert_close(answer, expected, atol=1e-4, rtol=1e-4)
    if "encoder" in onnx:
        answers = onnx["encoder"].run(list(prepared), {"images": images(3).numpy()})
    for answer, expected in zip(answers, prepared.values(), strict=True):
        np.testing.assert_allclose(answer, expected.numpy(), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("objects", "points", "masks"), [(2, 1, False), (5, 7, True)])
@torch.no_grad()
def test_both_answer_any_number_of_objects_and_points(network, torchscript, onnx, objects, points, masks):
    prepared = network.prepare(images(2))
    prompts = question(network, objects, points, masks=masks)
    expected = network.predict_all(prepared, prompts)
    inputs = graph_inputs(network, prompts)
    graph = torchscript.get("decoder") or torchscript["network"]
    logits, iou = graph(tuple(prepared.tensors.values()), **inputs)
    torch.testing.assert_close(logits, expected.logits, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(iou, expected.iou, atol=1e-4, rtol=1e-3)
    graph = onnx.get("decoder") or onnx["network"]
    given = {name: value.numpy() for name, value in {**prepared.tensors, **inputs}.items()}
    logits, iou = graph.run(["logits", "iou"], given)
    np.testing.assert_allclose(logits, expected.logits.numpy(), atol=1e-4, rtol=1e-3)
    np.testing.assert_allclose(iou, expected.iou.numpy(), atol=1e-4, rtol=1e-3)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("build", [tiny, unet])
def test_monais_export_can_trace_the_whole_network(build):
    network = build().eval()
    traced = torch.jit.trace(network, images(1))
    torch.testing.assert_close(traced(images(1)), network(images(1)), atol=1e-4, rtol=1e-4)


def test_exporting_leaves_the_network_as_it_was(tmp_path):
    network = vit(LORA).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    export_torchscript(network, tmp_path)
    assert network.training
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, before[key])


def test_segment_anything_opens_the_official_layout_with_lora_merged(tmp_path):
    network = vit(LORA).eval()
    fill_with_seeded_weights(network)
    state = torch.load(export_official(network, tmp_path / "sam.pth"), weights_only=True)
    encoder = ImageEncoderViT(
        img_size=SIZE, embed_dim=64, depth=2, num_heads=4, use_rel_pos=True, window_size=14, global_attn_indexes=(1,)
    )
    encoder.load_state_dict({k.removeprefix("image_encoder."): v for k, v in state.items() if k.startswith("image_")})
    merge_lora(network)
    torch.testing.assert_close(encoder.pos_embed, network.image_encoder.pos_embed)
    torch.testing.assert_close(encoder.blocks[0].attn.qkv.weight, network.image_encoder.blocks[0].attn.qkv.weight)
    assert not [key for key in state if "linear_" in key or ".w_" in key]


def test_the_official_layout_comes_back_in(tmp_path):
    network = sam_tiny_vit(image_size=SIZE, grid=4)
    back = open_checkpoint(export_official(network, tmp_path / "mobile.pt")).state_dict
    assert all(torch.equal(value, back[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("build", "name", "message"),
    [
        (tiny, "x.pth", "no official layout; export to ONNX"),
        (unet, "x.pth", "no official layout; export to ONNX"),
        (lambda: vit([{"kind": "adapter"}]), "x.pth", "no place for adapters"),
        (vit, "x.safetensors", ".pth or .pt"),
    ],
)
def test_what_the_official_layout_cannot_say_is_refused(tmp_path, build, name, message):
    with pytest.raises(CheckpointError, match=message):
        export_official(build(), tmp_path / name)


def test_a_network_too_large_for_onnx_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_ONNX_LIMIT", 1000)
    with pytest.raises(CheckpointError, match="use TorchScript"):
        export_onnx(vit(), tmp_path)
