"""The trainings of the shipped weights and of the zero-shot models fit together: they themselves need a GPU."""

from __future__ import annotations

import copy
import json
import runpy
from fnmatch import fnmatchcase
from types import SimpleNamespace

import pytest
import torch
from monai.bundle import ConfigParser
from test_labelled_sets import VIEWS, make_set
from training_room import CONTRACT, make_network_like, make_pool, small
from training_room import one_thread as one_thread

from bundle.families.builders import prompted_unet
from bundle.families.checkpoints import open_checkpoint, save_checkpoint
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
@pytest.mark.parametrize("part", ["1_pretrain", "5_color_and_scenes"])
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


# ---- the parts from the fourth on, and the script of a lent machine -------------------------------------------------


@pytest.mark.parametrize("part", ["4_more_sets", "5_color_and_scenes", "without_ultrasound"])
def test_later_parts_lie_over_the_material_of_all_sets(script, repository, part):
    run = read(repository, script["layers_of"](part))
    assert run["run_name"] == part and "sets.npz" in run["slices_file"]
    assert sum(run["weights"].values()) == pytest.approx(1, abs=0.02)
    gathered = run["gather"][0]
    assert "@material" in gathered["sources"] and "@sets" in gathered["sources"] and "@sets" in gathered["never_ct"]
    before = "4_more_sets" if part.startswith("5") else "3_finetune"
    assert f"/runs/{before}/best.safetensors" in run["start"]


def test_all_sets_are_gathered_beside_the_material_and_never_taken_for_ct(script, repository, tmp_path):
    make_set(tmp_path / "pieces")
    run = read(repository, script["layers_of"]("4_more_sets"))
    run["collections"], run["material"], run["scenes"] = [str(tmp_path)], {"ct": ["a slice"]}, ["a scene"]
    run["views"] = VIEWS
    gathered = {name: run.get_parsed_content(f"gather#0#{name}") for name in ("sources", "instances", "never_ct")}
    assert list(gathered["sources"]) == ["ct", "pieces", "scenes"] and len(gathered["sources"]["pieces"]) == 2
    assert gathered["instances"][-1] == "pieces" and gathered["never_ct"] == ["scenes", "pieces"]


def test_a_modality_that_is_left_out_names_the_sets_that_the_part_under_it_draws(script, repository):
    left_out = {}
    for part in script["LEFT_OUT"]:
        run = read(repository, script["layers_of"](part))
        left_out[part] = {n for n in run["weights"] if any(fnmatchcase(n, p) for p in run["without_sources"])}
    assert {part: len(names) for part, names in left_out.items()} == {
        "without_ultrasound": 7,
        "without_endoscopy": 1,
        "without_microscopy": 9,
    }


@pytest.mark.usefixtures("one_thread")
def test_a_lent_machine_trains_a_part_and_leaves_pieces_that_make_a_checkpoint(repository, tmp_path, monkeypatch):
    bare = runpy.run_path(str(repository / "scripts" / "train_bare.py"))
    pieces, globals_ = tmp_path / "out", bare["main"].__globals__
    network = prompted_unet(image_size=64, widths=(8, 16, 16), depths=(1, 1, 1))
    start = save_checkpoint(network, tmp_path / "start.safetensors")
    recipe = {"weights": {"labelled": 1.0}, "quarter_share": 0.5, "objective#lasso_share": 0.5}
    real = bare["read_recipe"](["4_more_sets"])
    monkeypatch.setitem(globals_, "read_recipe", lambda parts: real | recipe)
    monkeypatch.setitem(globals_, "PromptedUNet", lambda image_size: copy.deepcopy(network))
    monkeypatch.setitem(globals_, "Contract", SimpleNamespace(from_config=lambda config: CONTRACT))
    monkeypatch.setitem(globals_, "PIECE", 20_000)
    gather_into(tmp_path / "slices.npz", {"labelled": make_pool((2, 1))})
    whole = (tmp_path / "slices.npz").read_bytes()
    for number, place in enumerate((0, 500)):
        (tmp_path / f"slices.{number}").write_bytes(whole[place : place + 500] if not number else whole[place:])
    slices = [str(tmp_path / f"slices.{number}") for number in (1, 0)]
    arguments = ["--part", "4_more_sets", "--pieces", *slices, "--checkpoint", str(start), "--output", str(pieces)]
    bare["main"]([*arguments, "--steps", "2", "--batch-size", "4", "--device", "cpu"])
    found = sorted(pieces.glob("last.*"))
    assert len(found) > 1 and (pieces / "log.csv").read_text().count("\n") == 2
    (tmp_path / "last.safetensors").write_bytes(b"".join(piece.read_bytes() for piece in found))
    trained = open_checkpoint(tmp_path / "last.safetensors")
    assert trained.metadata["steps"] == 2 and set(trained.metadata["training_data"]) == {"labelled"}
    assert any(not torch.equal(value.float(), network.state_dict()[name]) for name, value in trained.state_dict.items())
    arguments = [*arguments[:-1], str(tmp_path / "again"), "--steps", "2", "--batch-size", "4", "--device", "cpu"]
    for _ in range(2):
        bare["main"]([*arguments, "--leave-after", "1"])
    again = [piece.read_bytes() for piece in sorted((tmp_path / "again").glob("last.*"))]
    assert again == [piece.read_bytes() for piece in found]
    steps = [
        [row.split(",")[0] for row in (folder / "log.csv").read_text().split()]
        for folder in (pieces, tmp_path / "again")
    ]
    assert steps == [["1", "2"]] * 2
    with pytest.raises(SystemExit, match="another recipe"):
        bare["main"](["--part", "5_color_and_scenes", *arguments[2:]])


def test_the_rate_of_a_lent_machine_warms_up_stays_and_falls_with_the_time(repository):
    rate = runpy.run_path(str(repository / "scripts" / "train_bare.py"))["rate"]
    recipe = {"learning_rate": 2.0, "lr_scheduler#warmup": 10, "lr_scheduler#flat": 0.5}
    found = [rate(recipe, step, share) for step, share in ((0, 0.0), (4, 0.1), (50, 0.4), (80, 0.75), (99, 1.0))]
    assert found == pytest.approx([0.2, 1.0, 2.0, 1.0, 0.0])
