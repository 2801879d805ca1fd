"""Adapters and LoRA start harmless, tune what they should, merge, and survive copies."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
from torch import nn

from bundle.errors import TuningError
from bundle.families.builders import prompted_unet, sam_tiny_vit, sam_vit
from bundle.families.family import load_family, structure_of
from bundle.networks.promptable_sam import PromptableSam
from bundle.networks.tuning.adapters import ConvAdapter
from bundle.networks.tuning.lora import lora_merged, merge_lora, unmerge_lora
from bundle.networks.tuning.peft import set_trainable, tuning_names
from bundle.networks.vit import VIT_VARIANTS
from bundle.prompts.batch import PromptBatch

IMAGE = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
BOX = PromptBatch(boxes=torch.tensor([[5.0, 5.0, 40.0, 50.0]]))
NETWORKS = ("tiny_vit", "vit", "unet")
EVERYWHERE = [{"kind": kind, "part": part} for kind in ("lora", "adapter") for part in ("encoder", "decoder")]


@pytest.fixture(autouse=True)
def a_tiny_vit_b(monkeypatch):
    """Width 64 and three blocks instead of 768 and twelve."""
    monkeypatch.setitem(VIT_VARIANTS, "vit_b", (64, 3, 4, (2,)))


def small(tuning=(), *, kind: str = "tiny_vit") -> PromptableSam:
    """A TinyViT, a ViT or a U-Net at 64 px."""
    torch.manual_seed(0)
    if kind == "unet":
        return prompted_unet(image_size=64, widths=(8, 16, 16), depths=(1, 1, 1), tuning=tuning).eval()
    if kind == "tiny_vit":
        return sam_tiny_vit(image_size=64, grid=4, window_sizes=(4, 4, 4), tuning=tuning).eval()
    return sam_vit(image_size=64, tuning=tuning).eval()


def stir_lora(network: nn.Module) -> None:
    """Give the updates a value, as training would."""
    for name in tuning_names(network):
        nn.init.normal_(network.get_parameter(name), std=0.1)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("part", ["encoder", "decoder"])
@torch.no_grad()
def test_untrained_lora_changes_nothing(part, kind):
    plain, tuned = small(kind=kind), small([{"kind": "lora", "part": part}], kind=kind)
    tuned.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(tuned(IMAGE), plain(IMAGE))


@pytest.mark.parametrize("kind", NETWORKS)
@torch.no_grad()
def test_merged_lora_answers_the_same_and_unmerging_restores_the_weights(kind):
    network = small([{"kind": "lora", "part": part} for part in ("encoder", "decoder")], kind=kind)
    stir_lora(network)
    before, weights = network(IMAGE), copy.deepcopy(network.state_dict())
    assert merge_lora(network) > 0
    torch.testing.assert_close(network(IMAGE), before, atol=1e-4, rtol=1e-4)
    assert merge_lora(network) == 0, "merging twice must not add the update twice"
    assert unmerge_lora(network) > 0
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, weights[name], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_lora_is_merged_within_the_block_only():
    network = small([{"kind": "lora", "part": "decoder"}])
    stir_lora(network)
    name = "mask_decoder.transformer.layers.0.self_attn.q_proj.weight"
    before = network.get_parameter(name).clone()
    with lora_merged(network):
        assert not torch.allclose(network.get_parameter(name), before)
    torch.testing.assert_close(network.get_parameter(name), before)


@pytest.mark.parametrize(
    ("tuning", "kind"),
    [*product(EVERYWHERE, NETWORKS), *product([{"kind": "conv_adapter"}], ["tiny_vit", "vit"])],
    ids=str,
)
def test_gradients_reach_exactly_the_tuning(tuning, kind):
    network = small([tuning], kind=kind).train()
    stir_lora(network)
    names = tuning_names(network)
    set_trainable(network, names)
    network.predict(network.prepare(IMAGE), BOX).logits.square().sum().backward()
    assert sorted(name for name, p in network.named_parameters() if p.grad is not None) == sorted(names)


@pytest.mark.parametrize(
    ("family", "absent"),
    [
        ("medsam_v0", ("image_encoder.", "prompt_encoder.")),
        ("medsam", ("prompt_encoder.",)),
        ("mobile_sam", ("prompt_encoder.", "mask_decoder.")),
        ("finetune_sam-vit_b-full_decoder", ("image_encoder.",)),
    ],
)
def test_a_recipe_freezes_the_parts_it_does_not_train(family, absent):
    family = load_family(family)
    trained = set_trainable(structure_of(family), family.trainable)
    assert trained
    assert not [name for name in trained if name.startswith(absent)]


def test_sam_med2d_trains_adapters_and_prompts_but_no_other_encoder_weight():
    family = load_family("sam_med2d")
    trained = set_trainable(structure_of(family), family.trainable)
    assert all(".Adapter." in name for name in trained if name.startswith("image_encoder."))
    assert {name.split(".")[0] for name in trained} == {"image_encoder", "prompt_encoder", "mask_decoder"}


def test_a_copy_has_adapters_of_its_own():
    network = small([{"kind": "adapter", "part": "encoder"}])
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for name in tuning_names(twin):
            twin.get_parameter(name).zero_()
    assert not torch.allclose(twin(IMAGE), network(IMAGE))


def test_the_conv_adapter_has_the_published_size():
    assert sum(p.numel() for p in ConvAdapter(768).parameters()) == 15_042_048


def test_the_conv_adapter_takes_tokens_as_a_grid_or_a_list():
    adapter, grid = ConvAdapter(8), torch.randn(2, 4, 4, 8)
    torch.testing.assert_close(adapter(grid.flatten(1, 2)), adapter(grid).flatten(1, 2))


def test_the_last_matching_pattern_decides_what_trains():
    network = small()
    trained = set_trainable(network, ["mask_decoder.*", "!*.iou_prediction_head.*"])
    assert trained
    assert not [name for name in trained if "iou_prediction_head" in name or not name.startswith("mask_decoder")]


def test_a_pattern_may_be_allowed_to_match_nothing():
    network = small(kind="unet")
    trained = set_trainable(network, ["~prompt_encoder.*", "mask_decoder.*", "!~mask_decoder.transformer.*"])
    assert trained == [name for name, _ in network.named_parameters()]
    with pytest.raises(TuningError, match=r"named like 'prompt_encoder\.\*'"):
        set_trainable(network, ["prompt_encoder.*"])


def test_a_u_net_has_no_place_for_a_conv_adapter():
    with pytest.raises(TuningError, match="take adapter or lora"):
        small([{"kind": "conv_adapter"}], kind="unet")


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        ({"kind": "magic"}, "conv_adapter, adapter, lora"),
        ({"kind": "lora", "part": "neck"}, "encoder or decoder"),
        ({"kind": "adapter", "rank": 4}, "no option 'rank'"),
        ({"kind": "lora", "rank": 0}, "at least 1"),
        ({"kind": "lora", "blocks": [7]}, "blocks 0 to 2"),
        ({"kind": "conv_adapter", "part": "decoder"}, "only the encoder"),
    ],
)
def test_a_wrong_tuning_is_refused(tuning, message):
    with pytest.raises(TuningError, match=message):
        small([tuning])


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(TuningError, match="no parameter is named like 'decoder"):
        set_trainable(small(), ["decoder.*"])


@pytest.mark.parametrize("kind", NETWORKS)
def test_norms_are_found_whatever_they_are_called(kind):
    network = small(kind=kind)
    chosen = set_trainable(network, ["(norms)"])
    modules = {name.rpartition(".")[0] for name in chosen}
    assert modules
    assert all("Norm" in type(network.get_submodule(module)).__name__ for module in modules)
    others = [m for name, m in network.named_modules() if name not in modules]
    assert not any(p.requires_grad for module in others for p in module.parameters(recurse=False))


def test_a_network_without_norms_cannot_train_them():
    with pytest.raises(TuningError, match=r"no parameter is named like '\(norms\)'"):
        set_trainable(nn.Linear(2, 2), ["(norms)"])
