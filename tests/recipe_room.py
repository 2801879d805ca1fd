"""Small things that the tests of recipes share: a recipe with two steps, and what its training must have left."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from training_room import small_run_files

from bundle.families.checkpoints import open_checkpoint
from bundle.training.start import trainable_parameters

# MedicoSAM's eight rounds of prompts take minutes, two show the same.
SHORTER = {"medico_sam": {"objective#promptable#steps": 2}}


@pytest.fixture(autouse=True)
def narrow_decoders(monkeypatch):
    """An eighth of the channels of MedicoSAM's decoder, each width still half of the one before: they take the time."""
    monkeypatch.setattr("bundle.networks.semantic.FEATURES", (64, 32, 16, 8))


def small_run(tmp_path: Path, recipe: str, **overrides) -> ConfigParser:
    """The recipe with two steps, one epoch, a tiny network and generated slices."""
    parser = ConfigParser()
    parser.read_config(small_run_files(tmp_path, recipe, **overrides))
    return parser


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
