"""One door for checkpoints: every layout comes in, nothing runs, wrong pairings are refused by name."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
import torch
from ignite.engine import Engine
from safetensors.torch import save_file

from bundle.families import family as families
from bundle.families.builders import sam_tiny_vit, sam_vit, semantic_sam
from bundle.families.checkpoints import (
    CheckpointError,
    load_checkpoint,
    open_checkpoint,
    save_checkpoint,
)
from bundle.families.family import Family, FamilyError, build_network, family_of_checkpoint, load_family
from bundle.families.key_maps import to_bundle_layout, to_official_layout
from bundle.networks.vit import VIT_VARIANTS
from bundle.training.draws import DrawNumbers
from bundle.training.handlers import RunState, averaged
from bundle.training.start import with_automatic_decoder

FAMILY = load_family("default")


@pytest.fixture(autouse=True)
def a_tiny_vit_b(monkeypatch):
    """Width 64 and three blocks instead of 768 and twelve: names and kinds are the same."""
    monkeypatch.setitem(VIT_VARIANTS, "vit_b", (64, 3, 4, (2,)))


def family_of(name: str, **changes: object) -> Family:
    """A family that differs from the default."""
    return Family(**{**{"name": name, "title": "", "network_def": {}, "contract_def": FAMILY.contract_def}, **changes})


@pytest.fixture(scope="module")
def network():
    return sam_tiny_vit(image_size=64, grid=4, window_sizes=(8, 4, 4)).eval()


@pytest.fixture(scope="module")
def state(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


@pytest.fixture
def loads(network, state, tmp_path):
    """Save some content, load it into a network with other weights, compare."""

    def check(content: object, name: str = "weights.pth") -> None:
        torch.save(content, tmp_path / name)
        other = build_small(seed=7)
        load_checkpoint(other, tmp_path / name, FAMILY)
        assert all(torch.equal(value, state[key]) for key, value in other.state_dict().items())

    return check


def build_small(seed: int = 0):
    torch.manual_seed(seed)
    return sam_tiny_vit(image_size=64, grid=4, window_sizes=(8, 4, 4)).eval()


def prefixed(state: dict, prefix: str) -> dict:
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"model": s, "optimizer": {"state": {}, "param_groups": []}, "epoch": 3},  # MedSAM
        lambda s: {"state_dict": prefixed(s, "module.")},  # DDP
        lambda s: prefixed(s, "module.sam."),  # MedicoSAM on several GPUs
        lambda s: {"model_state": prefixed(s, "sam."), "decoder_state": {}},  # micro-sam
        lambda s: {**s, "pixel_mean": torch.zeros(3, 1, 1)},
        to_official_layout,  # MobileSAM, with its unused classifier
    ],
    ids=["bare", "medsam", "ddp", "medico_sam", "micro_sam", "pixel_mean", "mobile_sam"],
)
def test_every_layout_comes_in(loads, state, wrap):
    loads(wrap(state))


@pytest.mark.parametrize("optimiser", [torch.optim.Adam, torch.optim.AdamW])
def test_a_pickled_optimiser_as_in_sam_med2d_is_passed_over(loads, state, optimiser):
    layer = torch.nn.Linear(2, 2)
    stepped = optimiser(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    stepped.step()  # so that it holds its moments
    loads({"model": state, "optimizer": stepped})


class RunsCode:
    """Pickles as a call of a shell."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run_it(tmp_path, state):
    torch.save({"model": state, "optimizer": RunsCode(f"touch {tmp_path}/ran")}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="could run code"):
        open_checkpoint(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["half.pth", "half.safetensors"])
def test_a_truncated_file_is_refused(tmp_path, network, state, name):
    if name.endswith(".pth"):
        torch.save(state, tmp_path / name)
    else:
        save_checkpoint(network, tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"not a complete|damaged"):
        open_checkpoint(tmp_path / name)


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], {}, torch.zeros(3)], ids=str)
def test_a_file_without_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "no.pth")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        open_checkpoint(tmp_path / "no.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        open_checkpoint(tmp_path / "none.pth")


def test_what_is_saved_comes_back_with_its_metadata(tmp_path, network, state):
    metadata = {"family": "default", "contract": FAMILY.contract_def, "labels": {"1": "liver"}, "recipe": "default"}
    path = save_checkpoint(network, tmp_path / "x.safetensors", metadata=metadata)
    other = build_small(seed=7)
    assert load_checkpoint(other, path, FAMILY).metadata == metadata
    for key, value in other.state_dict().items():
        torch.testing.assert_close(value, state[key], atol=1e-3, rtol=1e-3)  # float16
    assert list(tmp_path.iterdir()) == [path], "no temporary file is left"


def test_full_precision_comes_back_to_the_bit(tmp_path, network, state):
    path = save_checkpoint(network, tmp_path / "x.safetensors", half=False)
    assert all(torch.equal(value, state[key]) for key, value in open_checkpoint(path).state_dict.items())


def test_the_last_state_of_a_training_gives_its_averaged_weights(loads, network, state, tmp_path):
    average = averaged(network)
    optimiser = torch.optim.AdamW(network.parameters())
    kept = {"network": build_small(seed=3), "average": average, "optimizer": optimiser}
    RunState(tmp_path / "last.pt", kept, draws=DrawNumbers(8), batch_size=2).save(Engine(lambda engine, batch: None))
    loads(torch.load(tmp_path / "last.pt", weights_only=True), "copy.pt")


def test_the_default_network_fits_into_25_megabytes(tmp_path):
    path = save_checkpoint(build_network("default", random=True), tmp_path / "x.safetensors")
    assert path.stat().st_size < 25 * 1000 * 1000


def test_a_failed_write_leaves_the_old_file_whole(tmp_path, network):
    path = save_checkpoint(network, tmp_path / "x.safetensors")
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_checkpoint(network, path, metadata={"labels": {1, 2}})  # a set is no JSON
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"family": "medsam"}, "belongs to family medsam, not default"),
        ({"family": "default", "contract": {**FAMILY.contract_def, "size": 512}}, r"\(size differ\)"),
        ({"family": "default", "contract": {"size": "large"}}, "an input contract that cannot be read"),
        (
            {"family": "default", "contract": {**FAMILY.contract_def, "size": float("inf")}},
            "contract that cannot be read",
        ),
        ({"family": "default", "contract": {**FAMILY.contract_def, "channels": 3}}, "contract that cannot be read"),
    ],
)
def test_a_checkpoint_of_another_contract_is_refused(tmp_path, network, metadata, message):
    path = save_checkpoint(network, tmp_path / "x.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(network, path, FAMILY)


def test_a_contract_of_version_2_5_that_says_what_is_propagated_is_the_same_contract(tmp_path, network):
    metadata = {"family": "mine", "contract": {**FAMILY.contract_def, "carried": ["box"]}}
    path = save_checkpoint(network, tmp_path / "x.safetensors", metadata=metadata)
    assert load_checkpoint(network, path, FAMILY).metadata == metadata


def test_a_contract_may_say_what_another_leaves_to_the_defaults(tmp_path, network):
    contract = {**FAMILY.contract_def, "box_mapping": "inclusive"}
    path = save_checkpoint(network, tmp_path / "x.safetensors", metadata={"family": "mine", "contract": contract})
    load_checkpoint(network, path, FAMILY)


def test_missing_unexpected_and_misshaped_keys_are_named(tmp_path, network, state):
    changed = dict(state)
    changed.pop("mask_decoder.iou_token.weight")
    changed["extra.weight"] = torch.zeros(1)
    changed["prompt_encoder.no_mask_embed.weight"] = torch.zeros(1, 8)
    torch.save(changed, tmp_path / "x.pth")
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(network, tmp_path / "x.pth", FAMILY)
    assert "1 missing: mask_decoder.iou_token.weight" in str(error.value)
    assert "1 unexpected: extra.weight" in str(error.value)
    assert "prompt_encoder.no_mask_embed.weight (1, 8) instead of (1, 256)" in str(error.value)


def test_a_checkpoint_of_another_network_says_which_family_it_looks_like(tmp_path, network):
    save_checkpoint(build_network("lite_medsam", random=True), tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="it looks like lite_medsam"):
        load_checkpoint(network, tmp_path / "x.safetensors", FAMILY)


def test_hugging_face_names_come_in():
    plain = sam_vit(image_size=64).state_dict()
    assert to_bundle_layout(hugging_face_names(plain)).keys() == plain.keys()


def hugging_face_names(state: dict) -> dict:
    """What transformers' own conversion script makes of SAM's names."""
    renamed = {}
    table = [
        ("iou_prediction_head.layers.0", "iou_prediction_head.proj_in"),
        ("iou_prediction_head.layers.1", "iou_prediction_head.layers.0"),
        ("iou_prediction_head.layers.2", "iou_prediction_head.proj_out"),
        *((f"mlps.{i}.layers.0", f"mlps.{i}.proj_in") for i in range(4)),
        *((f"mlps.{i}.layers.1", f"mlps.{i}.layers.0") for i in range(4)),
        *((f"mlps.{i}.layers.2", f"mlps.{i}.proj_out") for i in range(4)),
        ("output_upscaling.0", "upscale_conv1"),
        ("output_upscaling.1", "upscale_layer_norm"),
        ("output_upscaling.3", "upscale_conv2"),
        ("mask_downscaling.0", "mask_embed.conv1"),
        ("mask_downscaling.1", "mask_embed.layer_norm1"),
        ("mask_downscaling.3", "mask_embed.conv2"),
        ("mask_downscaling.4", "mask_embed.layer_norm2"),
        ("mask_downscaling.6", "mask_embed.conv3"),
        ("point_embeddings", "point_embed"),
        ("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", "shared_image_embedding.positional_embedding"),
        ("image_encoder", "vision_encoder"),
        ("neck.0", "neck.conv1"),
        ("neck.1", "neck.layer_norm1"),
        ("neck.2", "neck.conv2"),
        ("neck.3", "neck.layer_norm2"),
        ("patch_embed.proj", "patch_embed.projection"),
        (".norm", ".layer_norm"),
        ("blocks", "layers"),
    ]
    for key, value in state.items():
        for ours, theirs in table:
            key = key.replace(ours, theirs)
        renamed[key] = value
    return renamed


def test_a_semantic_network_takes_encoder_and_decoder_of_a_micro_sam_file(tmp_path):
    semantic = semantic_sam(image_size=64, classes=2)
    sam = sam_vit(image_size=64)
    decoder = {f"module.{key}": value for key, value in semantic.automatic_decoder.state_dict().items()}
    torch.save({"model_state": prefixed(sam.state_dict(), "module.sam."), "decoder_state": decoder}, tmp_path / "x.pt")
    load_checkpoint(semantic, tmp_path / "x.pt", family_of("medico_sam_2d"))
    assert torch.equal(semantic.image_encoder.pos_embed, sam.image_encoder.pos_embed)
    load_checkpoint(sam, tmp_path / "x.pt", family_of("medico_sam"))


def test_a_semantic_network_takes_encoder_and_decoder_of_our_own_joint_training(tmp_path):
    joint = with_automatic_decoder(sam_vit(image_size=64), classes=3)
    metadata = {"family": "medico_sam", "contract": load_family("medico_sam").contract_def}
    path = save_checkpoint(joint, tmp_path / "x.safetensors", metadata=metadata, half=False)
    semantic = semantic_sam(image_size=64, classes=3)
    with pytest.raises(CheckpointError, match="belongs to family medico_sam"):
        load_checkpoint(semantic, path, load_family("medico_sam_2d"))  # other intensities than it was trained with
    load_checkpoint(semantic, path, load_family("medico_sam_2d-joint"))
    expected = joint.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in semantic.state_dict().items())


def test_a_checkpoint_names_its_family_itself(tmp_path):
    path = save_checkpoint(build_network("lite_medsam", random=True), tmp_path / "x.safetensors")
    assert family_of_checkpoint(path).name == "lite_medsam"


def test_a_variant_is_known_by_its_metadata(tmp_path, network):
    metadata = {"family": "finetune_sam-vit_t-lora_both"}
    path = save_checkpoint(network, tmp_path / "x.safetensors", metadata=metadata)
    assert family_of_checkpoint(path).name == "finetune_sam-vit_t-lora_both"


@pytest.mark.parametrize(("image_size", "message"), [(1024, "several families.*medsam, medsam_v0"), (64, "no family")])
def test_a_checkpoint_in_doubt_asks_which_family_it_is(tmp_path, image_size, message):
    torch.save(sam_vit(image_size=image_size).state_dict(), tmp_path / "x.pth")
    families._shapes_of.cache_clear()  # they were counted with another ViT-B
    with pytest.raises(FamilyError, match=message):
        family_of_checkpoint(tmp_path / "x.pth")
    families._shapes_of.cache_clear()


def test_the_hash_is_that_of_sha256sum(tmp_path, network):
    path = save_checkpoint(network, tmp_path / "x.safetensors")
    printed = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    assert open_checkpoint(path).sha256 == printed


def test_a_foreign_safetensors_file_has_no_metadata(tmp_path, state):
    save_file(state, tmp_path / "x.safetensors", metadata={"format": "pt", "note": json.dumps({})})
    assert open_checkpoint(tmp_path / "x.safetensors").metadata == {}
