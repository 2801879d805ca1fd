"""Every key of every shipped stack of configs is read by what it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from bundle.config_references import RUN, unread_keys
from monailabel_app.learning.options import TUNINGS as SERVED

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RECIPES = sorted(path.stem for path in (CONFIGS / "recipes").glob("*.json"))
TUNINGS = sorted(path.stem for path in (CONFIGS / "tuning").glob("*.json"))
DATASETS = sorted(path.stem for path in (CONFIGS / "datasets").glob("*.json"))
BATCHED = ("train", "recipes/default", "recipes/shipped/batched")
SHIPPED = (
    *(("1_pretrain",), ("2_train",), ("3_finetune",), ("without_liver",), ("without_pancreas",)),
    *(("sets", "4_more_sets"), ("sets", "5_color_and_scenes")),
    *(("sets", "4_more_sets", f"without_{name}") for name in ("ultrasound", "endoscopy", "microscopy")),
)
# What recipes/default.json adds to a data set; a layer over it that draws from the data set alone leaves it unread.
MATERIAL = {
    *("ct", "data_dir", "demo", "demo_items", "mr", "other_regions", "phantom_pool", "phantoms", "regions"),
    "unlabelled_mr",
}
# One layer serves training and evaluation, slices and volumes, prompts and no prompts; each reads its own part.
OF_OTHER_EVALUATIONS = {
    *("training_items", "max_side", "min_pixels", "pixels_of", "pool", "preprocessing", "slices", "keep_empty"),
    *("embedding_dir", "store", "engine"),
}
EVALUATIONS = [
    (),
    ("evaluate_volumes",),
    ("evaluate_automatic",),
    ("evaluate_volumes", "evaluate_automatic"),
    ("before_after",),
    ("multi_gpu_evaluate",),
]


def stack(*names: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.json") for name in names])
    return parser


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_reads_every_key(recipe):
    assert unread_keys(stack("train", f"recipes/{recipe}")) == []
    assert unread_keys(stack("train", f"recipes/{recipe}", "datasets/folders", "multi_gpu_train")) == []


@pytest.mark.parametrize("layers", SHIPPED, ids=lambda layers: layers[-1])
def test_a_part_of_the_shipped_recipe_reads_every_key(layers):
    assert unread_keys(stack(*BATCHED, *(f"recipes/shipped/{name}" for name in layers)), run=(*RUN, "gather")) == []


@pytest.mark.parametrize(
    "layers", [("recipes/shipped/network_table",), *[("tuning/finetune", f"tuning/{t}") for t in TUNINGS]]
)
def test_what_draws_from_the_data_set_alone_leaves_only_the_other_material_unread(layers):
    assert set(unread_keys(stack("train", "recipes/default", *layers))) <= MATERIAL


@pytest.mark.parametrize("tuning", SERVED)
def test_what_a_server_trains_on_accepted_labels_reads_every_key(tuning):
    layers = ("tuning/finetune", "datasets/prepared", f"tuning/{tuning}", "tuning/accepted")
    assert set(unread_keys(stack("train", "recipes/default", *layers))) <= MATERIAL


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_training_reads_every_key_of_a_data_set(dataset):
    one_patient = {"splits", "split_seed"} if dataset == "flare22_style" else set()
    assert set(unread_keys(stack("train", f"datasets/{dataset}"))) == one_patient


@pytest.mark.parametrize("overlays", EVALUATIONS)
def test_an_evaluation_leaves_only_what_another_one_reads(overlays):
    assert set(unread_keys(stack("evaluate", "datasets/folders", *overlays))) <= OF_OTHER_EVALUATIONS


def test_what_no_evaluation_reads_alone_is_read_by_another():
    unread = [set(unread_keys(stack("evaluate", "datasets/folders", *overlays))) for overlays in EVALUATIONS]
    assert set.intersection(*unread) == {"training_items"}


def test_inference_reads_every_key():
    assert unread_keys(stack("inference")) == []


def test_keys_are_found_unread_at_any_depth():
    config = ConfigParser(
        {
            "_desc_": "@nobody",
            "a": 1,
            "b": "$@a + 1",
            "part": {"used": "@b", "unused": 2, "whole": {"_target_": "dict", "x": 1}},
            "dead": "@part#unused",
            "text": "read @dead by hand",
            "run": ["$@part#used", "@part#whole", "@text"],
        }
    )
    assert unread_keys(config) == ["dead", "part#unused"]
