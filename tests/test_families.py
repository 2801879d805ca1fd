"""Every family is a file that loads, names what exists, and computes what the official code computed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch
from fixtures.parity.cases import CASES, input_hash, prepare, summarise

from bundle.networks.families import (
    FamilyError,
    build_network,
    list_families,
    load_family,
    recognise_family,
    structure_of,
)
from bundle.networks.layouts import to_bundle_layout
from bundle.networks.peft import set_trainable

PARITY = Path(__file__).parent / "fixtures" / "parity"
PROMPTABLE_VIT_B = ["medico_sam", "medsam", "medsam_v0", "sam_vit_b"]


@pytest.mark.parametrize("name", list_families(variants=True))
def test_a_family_has_a_contract_a_network_and_parts_that_train(name):
    family = load_family(name)
    assert family.name == name
    assert family.contract.size == structure_of(family).image_size
    assert set_trainable(structure_of(family), family.trainable)


def test_finetune_sam_has_its_eighteen_variants():
    assert len([name for name in list_families(variants=True) if name.startswith("finetune_sam-")]) == 18


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("sam_vit_b", 93_735_472),  # printed by MedSAM's training script
        ("sam_vit_l", 312_342_832),
        ("sam_vit_h", 641_090_608),
        ("sam_med2d", 90_737_200 + 12 * 15_042_048),  # SAM at 256 px and its adapter in 12 blocks
    ],
)
def test_the_published_number_of_parameters(name, total):
    assert sum(p.numel() for p in structure_of(load_family(name)).parameters()) == total


def test_medsam_trains_what_its_script_says():
    network = structure_of(load_family("medsam"))
    set_trainable(network, load_family("medsam").trainable)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 93_729_252


def test_the_default_network_is_small_enough_to_ship():
    assert sum(p.numel() for p in structure_of(load_family("default")).parameters()) < 10_000_000


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_outputs_are_those_of_the_official_code(name):
    fixture = json.loads((PARITY / f"{name}.json").read_text())
    network, images = prepare(CASES[name])
    assert input_hash(images) == fixture["input_sha256"]
    for key, value in CASES[name].run(network, images).items():
        ours, official = summarise(value), fixture["outputs"][key]
        for number in official:
            assert ours[number] == pytest.approx(official[number], abs=1e-4, rel=0), f"{number} of {key}"


@pytest.mark.parametrize("name", CASES)
def test_official_names_and_shapes_fit_without_a_rest(name):
    names = json.loads(gzip.decompress((PARITY / f"{name}.names.json.gz").read_bytes()))
    state = to_bundle_layout({key: torch.empty(shape, device="meta") for key, shape in names.items()})
    with torch.device("meta"):
        expected = CASES[name].build().state_dict()
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in expected.items()}


@pytest.mark.parametrize(
    ("name", "families"),
    [
        ("sam_vit_b", PROMPTABLE_VIT_B),
        ("medsam", PROMPTABLE_VIT_B),
        ("mobile_sam", ["mobile_sam"]),
        ("lite_medsam", ["lite_medsam"]),
        ("sam_med2d", ["sam_med2d"]),
        ("ft_sam", ["ft_sam"]),
        ("medico_sam_3d", ["medico_sam_3d"]),
        ("default", ["default"]),
    ],
)
def test_a_family_is_recognised_by_its_weights(name, families):
    assert recognise_family(structure_of(load_family(name)).state_dict()) == families


def test_a_network_is_built_by_seed_and_leaves_the_random_state_alone():
    before = torch.random.get_rng_state()
    first, second = (build_network("default", random=True, seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(before, torch.random.get_rng_state())


def test_an_option_replaces_an_argument_of_the_builder():
    network = structure_of(load_family("finetune_sam-vit_t-lora_both"), {"classes": 14})
    assert network.mask_decoder.num_multimask_outputs == 14


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: load_family("sam3"), "known are .*medsam"),
        (lambda: load_family("../../secrets"), "only a-z"),
        (lambda: load_family("finetune_sam-vit_g-lora_both"), "one of vit_b, vit_h, vit_t"),
        (lambda: load_family("medsam-vit_b"), "no variants"),
        (lambda: build_network("medsam", random=True, options={"depth": 3}), "no option 'depth'"),
        (lambda: build_network("finetune_sam"), "no published weights"),
        (lambda: build_network("medsam_v0"), r"download\.py medsam_v0"),
    ],
)
def test_a_wrong_wish_is_answered_with_what_exists(call, message):
    with pytest.raises(FamilyError, match=message):
        call()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network_def": {"_target_": "os.system"}}, "bundle.networks"),
        ({"prompts": ["telepathy"]}, "telepathy"),
        ({"network_def": None}, "lacks the section 'network_def'"),
    ],
)
def test_a_family_file_of_ones_own_is_checked(tmp_path, repository, change, message):
    config = json.loads((repository / "configs" / "families" / "medsam.json").read_text()) | change
    (tmp_path / "mine.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    with pytest.raises(FamilyError, match=message):
        load_family(tmp_path / "mine.json")
