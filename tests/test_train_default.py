"""The trainings of the shipped weights and of the zero-shot models fit together: they themselves need a GPU."""

from __future__ import annotations

import json
import runpy

import pytest
from monai.bundle import ConfigParser
from training_room import make_network_like, make_pool, small
from training_room import one_thread as one_thread

from bundle.families.checkpoints import open_checkpoint
from bundle.training.batched.file import gather_into

HIDDEN_EVERYWHERE = {"ct": [5, 7], "mr": [5, 7], "phantom": [1, 4]}


@pytest.fixture(scope="module")
def script(repository):
    return runpy.run_path(str(repository / "scripts" / "train_default.py"))


def read(repository, files) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(repository / file) for file in files])
    return parser


def test_every_part_starts_from_the_one_before(script, repository):
    parts = {name: read(repository, script["layers_of"](name)) for name in ("1_pretrain", "2_train", "3_finetune")}
    assert [part["run_name"] for part in parts.values()] == list(parts)
    assert not parts["1_pretrain"]["start"]
    for before, part in (("1_pretrain", "2_train"), ("2_train", "3_finetune")):
        assert f"/runs/{before}/best.safetensors" in parts[part]["start"]


def test_what_leaves_an_organ_out_never_sees_its_label(script, repository):
    stem = read(repository, script["layers_of"]("1_pretrain"))
    assert stem["hidden"] == HIDDEN_EVERYWHERE and not {"labelled", "demo_hidden"} & set(stem["weights"])
    for name, value in (("without_liver", 1), ("without_pancreas", 2)):
        part = read(repository, script["layers_of"](name))
        assert "/runs/1_pretrain/best.safetensors" in part["start"]
        assert part["hidden"] == {"labelled": [value], **HIDDEN_EVERYWHERE}
        assert "demo_hidden" not in part["weights"]


def test_the_call_is_that_of_monais_runner(script):
    call = ["-m", "monai.bundle", "run", "gather", "--config_file", "['a.json', 'b.json']"]
    assert script["command"](["a.json", "b.json"], "gather")[1:] == call


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("part", ["1_pretrain", "3_finetune"])
def test_a_part_trains_on_gathered_slices(script, repository, tmp_path, part):
    layers = [str(repository / file) for file in script["layers_of"](part)]
    run = ConfigParser()
    run.read_config([*layers, str(_small(tmp_path, read(repository, script["layers_of"](part))["weights"]))])
    run.get_parsed_content("initialize")
    run.get_parsed_content("run")
    trained = open_checkpoint(tmp_path / "best.safetensors")
    assert trained.metadata["recipe"] == part and trained.metadata["epoch"] == 1
    assert set(trained.metadata["training_data"]) == set(run["weights"])


def _small(folder, weights):
    """A layer with generated slices, a tiny network and two steps; returns its path."""
    gather_into(folder / "slices.npz", {name: make_pool((2, 1)) for name in weights}, instances=("shapes",))
    layer = {
        "+imports": ["$import training_room"],
        "slices_file": str(folder / "slices.npz"),
        "hidden": {},
        "contract": f"$training_room.{small.__name__}(@family.contract)",
        "network_def": {"_target_": f"training_room.{make_network_like.__name__}", "family": "@family"},
        "validation_pool": "$training_room.make_pool((1,))",
        "organs": "$training_room.ORGANS",
        "output_dir": str(folder),
        "start": None,
        "epochs": 1,
        "steps_per_epoch": 2,
        "batch_size": 4,
        "val_interval": 1,
        "threads": 1,
        "device": "$torch.device('cpu')",
    }
    (folder / "small.json").write_text(json.dumps(layer))
    return folder / "small.json"
