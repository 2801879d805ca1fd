"""Recipes train on real images as well, shortened: one for each layer of them and each kind of sample."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from recipe_room import SHORTER, check_training, small_run
from recipe_room import narrow_decoders as narrow_decoders
from training_room import one_thread as one_thread

pytestmark = pytest.mark.usefixtures("one_thread")


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


# A recipe for each layer of real images and each kind of sample that is made of them.
ON_REAL = {
    "default": "abdomen_ct_2d",
    "mae": "abdomen_ct_2d",
    "flare22_finetune": "flare22_style",
    "semantic_3d": "flare22_style",
    "sam_med2d": "sam_med2d",
}


@pytest.mark.real_data
@pytest.mark.parametrize(("recipe", "dataset"), ON_REAL.items())
def test_a_recipe_trains_on_real_images(tmp_path, recipe, dataset, few_real, monkeypatch):
    monkeypatch.setenv("MONAI_SAM_DATA", str(few_real))
    run = small_run(tmp_path, recipe, dataset=dataset, **SHORTER.get(recipe, {}))
    check_training(run, tmp_path, recipe)
