"""Every family is a file that loads, names what exists, and computes what the official code computed."""

from __future__ import annotations

import gzip
import json
import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.parity.cases import CASES, input_hash, prepare, summarise

from bundle.data.volume import read_label, read_volume
from bundle.engines.cache import PreparedCache
from bundle.families.family import (
    FamilyError,
    build_network,
    find_weights,
    list_families,
    load_family,
    recognise_family,
    structure_of,
)
from bundle.families.key_maps import to_bundle_layout
from bundle.families.summary import summarise as summarise_family
from bundle.interactive.slice_model import SlicePredictor, SlicePrompt, SliceView
from bundle.networks.tuning.peft import set_trainable
from bundle.networks.vit import VIT_VARIANTS
from bundle.prompts.simulation import tight_box
from bundle.transforms.frames import SliceFrame

PARITY = Path(__file__).parent / "fixtures" / "parity"
OF_SLICES = [name for name in list_families() if load_family(name).prompts != ("none",) and name != "default_3d"]
PROMPTABLE_VIT_B = ["medico_sam", "medsam", "medsam_v0", "sam_vit_b"]


@pytest.mark.parametrize("name", list_families(variants=True))
def test_a_family_has_a_contract_a_network_and_parts_that_train(name):
    family = load_family(name)
    assert family.name == name
    assert family.contract.size == structure_of(family).spec.input_shape[-1]
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


@pytest.mark.parametrize(
    ("name", "gmacs"),
    [("sam_vit_b", 486.0), ("mobile_sam", 38.8), ("ft_sam", 34.5), ("default", 6.5), ("default_3d", 43.2)],
)
def test_the_arithmetic_of_a_look_is_counted_with_its_attention(name, gmacs):
    assert summarise_family(load_family(name)).gmacs == pytest.approx(gmacs, abs=0.05)


@pytest.mark.parametrize("name", ["default", "default_3d"])
def test_a_shipped_network_is_small_enough_to_ship(name):
    family = load_family(name)
    assert sum(p.numel() for p in structure_of(family).parameters()) < 12_500_000
    assert family.checkpoint_path.stat().st_size == family.checkpoint["size"] <= 25_000_000


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


@pytest.fixture(scope="module")
def liver(real_data):
    """A real CT, its axial frame, and the index and liver mask of the slice with most of the liver."""
    image, label = (next((real_data / "flare22-style" / kind).glob("*.nii.gz")) for kind in ("images", "labels"))
    volume, labels = read_volume(image), read_label(label).array
    frame = SliceFrame.of_plane(volume.shape, volume.affine, "axial")
    stack = frame.stack(labels) == 1
    index = int(stack.sum(axis=(1, 2)).argmax())
    return volume, frame, index, stack[index]


@pytest.mark.real_data
@pytest.mark.parametrize("name", OF_SLICES)
def test_a_family_answers_a_box_on_a_real_slice(liver, monkeypatch, name):
    for variant in VIT_VARIANTS:  # narrow and shallow: the contract and the way through are what is tested
        monkeypatch.setitem(VIT_VARIANTS, variant, (64, 2, 4, (1,)))
    volume, frame, index, mask = liver
    family = load_family(name)
    predictor = SlicePredictor(build_network(family, random=True), family.contract, store=PreparedCache())
    intensity = family.contract.intensity(volume.array, volume.modality)
    view = SliceView(frame.extract(volume.array, index), intensity, frame.pixel_spacing(volume.spacing))
    answer = predictor.predict(view, SlicePrompt(box=tight_box(mask)))
    assert answer.mask.shape == mask.shape
    assert np.isfinite(answer.iou)


def test_a_family_names_the_network_of_volumes_that_helps_it_and_a_variant_does_without():
    followed = load_family("default-without_3d")
    assert (followed.volume, load_family("default").volume) == (None, "default_3d")
    assert followed.checkpoint_path == load_family("default").checkpoint_path


def test_a_network_of_volumes_is_not_asked_about_slices():
    with pytest.raises(FamilyError, match="answers no slices"):
        SlicePredictor(
            structure_of(load_family("default_3d")), load_family("default_3d").contract, store=PreparedCache()
        )


@pytest.mark.real_data
@pytest.mark.parametrize("name", [name for name in list_families() if load_family(name).prompts == ("none",)])
@torch.no_grad()
def test_an_automatic_family_labels_a_real_slice(liver, monkeypatch, name):
    monkeypatch.setitem(VIT_VARIANTS, "vit_b", (64, 2, 4, (1,)))
    volume, frame, index, mask = liver
    contract = replace(load_family(name).contract, size=128)
    picture, placement = frame.extract(volume.array, index), contract.placement(*mask.shape)
    image = contract.to_input(picture, contract.intensity(volume.array, volume.modality), placement)
    network = build_network(name, random=True, options={"image_size": 128})
    logits = network(image.reshape(1, *network.spec.input_shape))
    assert logits.shape[:2] == (1, 2)
    assert logits.shape[-2:] == (128, 128)
    assert logits.isfinite().all()


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
        ("default_3d", ["default_3d"]),
        ("tiny_vit", ["tiny_vit"]),
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
        (lambda: build_network("medsam_v0"), r"monai-sam download medsam_v0"),
        (lambda: find_weights("medsam_v0"), r"monai-sam download medsam_v0"),
    ],
)
def test_a_wrong_wish_is_answered_with_what_exists(call, message):
    with pytest.raises(FamilyError, match=message):
        call()


@pytest.mark.parametrize("wish", ["mine.pth", "runs/a/best.safetensors", Path("best")])
def test_a_path_or_a_name_with_an_ending_is_a_checkpoint_and_no_family(wish):
    assert find_weights(wish) == Path(wish)


def test_a_familys_name_and_the_family_itself_mean_its_published_weights():
    family = load_family("default")
    assert find_weights("default") == find_weights(family) == family.checkpoint_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network_def": {"_target_": "os.system"}}, "builder in bundle.families.builders"),
        ({"network_def": {"_target_": "bundle.families.builders.nothing"}}, "builder in bundle.families.builders"),
        ({"prompts": ["telepathy"]}, "telepathy"),
        ({"network_def": None}, "lacks the section 'network_def'"),
    ],
)
def test_a_family_file_of_ones_own_is_checked(tmp_path, repository, change, message):
    config = json.loads((repository / "configs" / "families" / "medsam.json").read_text()) | change
    (tmp_path / "mine.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    with pytest.raises(FamilyError, match=message):
        load_family(tmp_path / "mine.json")


@pytest.mark.parametrize(("content", "message"), [("{", "is not JSON"), ("[]", "one JSON object, got a list")])
def test_a_family_file_that_is_no_json_object_is_refused(tmp_path, content, message):
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(FamilyError, match=message):
        load_family(tmp_path / "mine.json")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["default"], r"default +12,2[0-9,]+ +12,2[0-9,]+ +256 +256 +6\.5 +box point mask .* (pixels|DSC 0\.\d+)"),
        (["--variants", "finetune_sam-vit_b-lora_both"], r"lora_both +93,766,159 +803,983 .* train from sam_vit_b"),
    ],
)
def test_the_table_of_families_is_printed(repository, arguments, expected, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["families.py", *arguments])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr("bundle.commands.main.speak_plainly", lambda: None)  # which sets up the process's logging
    runpy.run_path(str(repository / "scripts" / "families.py"), run_name="__main__")
    assert re.search(expected, capsys.readouterr().out)
