"""What ships is what was trained, number by number, under the hash that the family names."""

from __future__ import annotations

import json
import runpy
import shutil

import torch

from bundle.families.checkpoints import open_checkpoint
from bundle.families.family import load_family
from bundle.files import sha256_of


def test_weights_ship_unchanged_with_their_recipe_and_hash(repository, tmp_path):
    script = runpy.run_path(str(repository / "scripts" / "ship_weights.py"))
    trained = load_family("default").checkpoint_path
    family = shutil.copy(repository / "configs" / "families" / "default.json", tmp_path / "default.json")
    out = tmp_path / "shipped.safetensors"
    script["main"]([str(trained), "--recipe", "another_part", "--output", str(out), "--family-file", str(family)])
    before, after = open_checkpoint(trained), open_checkpoint(out)
    assert all(torch.equal(after.state_dict[name], value) for name, value in before.state_dict.items())
    assert after.metadata["recipe"] == "another_part" and after.metadata["weights_sha256"] == sha256_of(trained)
    assert after.metadata["training_data"] == before.metadata["training_data"]
    named = json.loads(family.read_text(encoding="utf-8"))["checkpoint"]
    assert named["size"] == out.stat().st_size and named["sha256"] == sha256_of(out)
