"""Every recipe trains: shortened, with a tiny network of the family's kind on generated slices."""

from __future__ import annotations

import json
import sqlite3
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from training_room import SIZE, make_network_like, small_run_files
from training_room import one_thread as one_thread

from bundle.networks.build import VIT_VARIANTS
from bundle.networks.checkpoints import open_checkpoint
from bundle.networks.families import build_network, load_family
from bundle.training.masked import Reconstruction
from bundle.training.network import trainable_parameters

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted(path.stem for path in (ROOT / "configs" / "recipes").glob("*.json"))
ENCODERS, METHODS, PARTS = ("vit_h", "vit_b", "vit_t"), ("full", "adapter", "lora"), ("both", "decoder")


def small_run(tmp_path: Path, recipe: str, **overrides) -> ConfigParser:
    """The recipe with two steps, one epoch, a tiny network and generated slices."""
    parser = ConfigParser()
    parser.read_config(small_run_files(tmp_path, recipe, **overrides))
    return parser


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains_and_leaves_a_checkpoint(tmp_path, recipe):
    run = small_run(tmp_path, recipe)
    own = load_family(run.get_parsed_content("family_name")).contract
    assert run.get_parsed_content("train#dataset").contract == replace(own, size=SIZE)
    check_training(run, tmp_path, recipe)


@pytest.fixture(scope="module")
def few_real(real_data, tmp_path_factory) -> Path:
    """The real data with a short data list."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("flare22-style", "sam-med2d-demo", "totalsegmentator-ct", "pyradiomics-mr"):
        (folder / name).symlink_to(real_data / name)
    (folder / "abdomen-ct-2d").mkdir()
    for name in ("images", "labels"):
        (folder / "abdomen-ct-2d" / name).symlink_to(real_data / "abdomen-ct-2d" / name)
    content = json.loads((real_data / "abdomen-ct-2d" / "datalist.json").read_text())
    content |= {"training": content["training"][::140], "validation": content["validation"][::60]}
    (folder / "abdomen-ct-2d" / "datalist.json").write_text(json.dumps(content))
    return folder


@pytest.mark.real_data
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains_on_real_images(tmp_path, recipe, few_real, monkeypatch):
    monkeypatch.setenv("MONAI_SAM_DATA", str(few_real))
    datasets = {"flare22_finetune": "flare22_style", "semantic_3d": "flare22_style", "sam_med2d": "sam_med2d"}
    run = small_run(tmp_path, recipe, dataset=datasets.get(recipe, "abdomen_ct_2d"))
    check_training(run, tmp_path, recipe)


def check_training(run: ConfigParser, tmp_path: Path, recipe: str) -> None:
    """Run it: the trainable parameters move, and what a run leaves is there."""
    network = run.get_parsed_content("network")
    before = [p.detach().clone() for p in trainable_parameters(network)]
    run.get_parsed_content("initialize")
    run.get_parsed_content("run")
    after = trainable_parameters(network)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(torch.isfinite(p).all() for p in after)
    trained = open_checkpoint(tmp_path / "best.safetensors")
    assert trained.metadata["recipe"] == recipe and trained.metadata["epoch"] == 1
    assert trained.metadata["labels"] and trained.metadata["training_data"]
    assert (tmp_path / "last.pt").is_file() and (tmp_path / "curve.csv").is_file()
    assert list(tmp_path.glob("events.out.tfevents.*"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_where_its_constants_come_from(recipe):
    content = json.loads((ROOT / "configs" / "recipes" / f"{recipe}.json").read_text())
    assert content["run_name"] == recipe and len(content["_desc_"]) > 80


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_only_what_differs(recipe):
    common = json.loads((ROOT / "configs" / "train.json").read_text())
    content = json.loads((ROOT / "configs" / "recipes" / f"{recipe}.json").read_text())
    assert [key for key, value in content.items() if key in common and common[key] == value] == []


@pytest.mark.parametrize("architecture, tuning, parts", list(product(ENCODERS, METHODS, PARTS)))
def test_each_of_finetune_sams_eighteen_trains_what_it_says(tmp_path, monkeypatch, architecture, tuning, parts):
    for variant in VIT_VARIANTS:  # narrow and shallow, but the family's own builder, tuning and order of blocks
        monkeypatch.setitem(VIT_VARIANTS, variant, (64, 2, 4, (1,)))
    options = {"classes": 3, "image_size": 64} | ({"grid": 4} if architecture == "vit_t" else {})
    network_def = json.loads((ROOT / "configs" / "train.json").read_text())["network_def"]
    choice = {"architecture": architecture, "tuning": tuning, "parts": parts}
    small = {"network_def": network_def, "network_options": options, "steps_per_epoch": 1}
    run = small_run(tmp_path, "finetune_sam", **choice, **small)
    family = load_family(f"finetune_sam-{architecture}-{tuning}_{parts}")
    assert run.get_parsed_content("family") == family
    network = run.get_parsed_content("network")
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    check_training(run, tmp_path, "finetune_sam")
    moved = {name.split(".")[0] for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    assert "mask_decoder" in moved and ("image_encoder" in moved) == (parts == "both")
    assert open_checkpoint(tmp_path / "best.safetensors").metadata["family"] == family.name


def test_a_start_that_is_not_here_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    run = small_run(tmp_path, "medsam", start="sam_vit_h")
    run.get_parsed_content("initialize")
    with pytest.raises(RuntimeError) as failed:
        run.get_parsed_content("run")
    sys.excepthook(failed.type, failed.value, failed.tb)
    assert capsys.readouterr().err.startswith("error: the weights of sam_vit_h are not at ")


def test_few_shot_training_sees_five_slices(tmp_path):
    assert len(small_run(tmp_path, "few_shot").get_parsed_content("training_pool")) == 5


@pytest.mark.parametrize("family, options", [("tiny_vit", {}), ("medico_sam_2d", {"whole_network#classes": 2})])
def test_masked_auto_encoding_needs_no_labels(tmp_path, family, options):
    unlabelled = "$[training_room.make_slice(i, ids=(), annotated=()) for i in range(3)]"
    pools = {"training_pool": unlabelled, "validation_pool": unlabelled}
    run = small_run(tmp_path, "mae", family_name=family, **pools, **options)
    run.get_parsed_content("run")
    assert open_checkpoint(tmp_path / "best.safetensors").metadata["training_data"]["labelled"]["slices"] == 3


def test_masked_auto_encoding_refuses_an_encoder_of_volumes():
    with pytest.raises(ValueError, match="expected an encoder of slices, got medico_sam_3d's"):
        Reconstruction(make_network_like(load_family("medico_sam_3d"), classes=2))


def test_masked_auto_encoding_refuses_a_network_without_an_encoder():
    with pytest.raises(ValueError, match=r"got a U-Net, .* such as tiny_vit"):
        Reconstruction(build_network("default", random=True))


def test_a_run_from_mae_takes_its_encoder(tmp_path):
    run = small_run(tmp_path, "mae")
    run.get_parsed_content("run")
    source = open_checkpoint(tmp_path / "best.safetensors").state_dict
    started = small_run(
        tmp_path, "default", family_name="tiny_vit", start=str(tmp_path / "best.safetensors")
    ).get_parsed_content("network")
    name = "image_encoder.patch_embed.conv1.conv.weight"
    torch.testing.assert_close(started.state_dict()[name], source[name].float(), atol=1e-3, rtol=1e-2)


@pytest.mark.slow
def test_mlflow_records_a_run_when_asked_for(tmp_path):
    small_run(tmp_path, "medsam", mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db").get_parsed_content("run")
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        recorded = {row[0] for row in database.execute("select distinct key from metrics")}
    assert {"loss", "val_dice"} <= recorded


def test_train_json_has_the_properties_of_a_monai_bundle(tmp_path):
    workflow = ConfigWorkflow(
        config_file=str(ROOT / "configs" / "train.json"),
        meta_file=str(ROOT / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(ROOT),
        output_dir=str(tmp_path),
        training_pool="$training_room.make_pool((2,))",
        validation_pool="$training_room.make_pool((1,))",
        organs="$training_room.ORGANS",
        imports=["$import os", "$import torch", "$import training_room"],
    )
    workflow.initialize()
    assert workflow.check_properties() == []
