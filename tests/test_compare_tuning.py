"""`scripts/compare_tuning.py`, shortened: generated slices of six patients, a network of 64 px, two steps."""

from __future__ import annotations

import csv
import re
import runpy
import sys

import cv2
import monai.bundle
import pytest
import torch
from evaluation_room import write_family, write_two_organs, write_weights

from bundle.evaluation.records import read_records
from bundle.families.checkpoints import open_checkpoint
from bundle.families.family import BUNDLE_ROOT, build_network, load_family, structure_of

SET_THREADS = torch.set_num_threads
PARTS = ("base", "decoder", "lora", "adapters", "full")


@pytest.fixture(scope="module", autouse=True)
def quick():
    """One block in each stage of the encoder, in float32: a CPU without bfloat16 takes many times as long for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bundle.networks.tiny_vit.DEPTHS", (1, 1, 1, 1))
        patch.setattr("bundle.training.engines.autocast_dtype", lambda amp, device: None)
        yield


@pytest.fixture(scope="module")
def script(repository):
    return runpy.run_path(str(repository / "scripts" / "compare_tuning.py"))


@pytest.fixture(scope="module")
def main(script):
    return script["main"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Slices laid out as the real data; a family and its weights."""
    folder = tmp_path_factory.mktemp("data")
    write_two_organs(folder)
    write_weights(write_family(folder), folder / "base.safetensors", seed=0)
    return folder


@pytest.fixture(scope="module")
def command(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("tuning")
    names = {"checkpoint": data / "base.safetensors", "family": data / "tiny.json", "output": out, "organ": "pancreas"}
    return [str(word) for name, value in names.items() for word in (f"--{name}", value)] + ["--steps", "2"]


@pytest.fixture(scope="module")
def done(main, command, data):
    """The folder of the whole comparison, made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONAI_SAM_DATA", str(data))
        patch.setattr(sys, "excepthook", sys.excepthook)
        patch.setattr(torch, "set_num_threads", lambda count: None)  # train.json takes all cores
        before = torch.get_num_threads()
        SET_THREADS(1)  # tiny networks: a second thread only waits for the first
        assert main(command) == 0
        SET_THREADS(before)
    return data.parent / command[command.index("--output") + 1]


def rows_of(folder):
    with (folder / "table.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_tuning_is_scored_on_both_organs_beside_the_base(done):
    rows = rows_of(done)
    assert {(row["tuning"], row["organ"]) for row in rows} == {
        (part, organ) for part in PARTS for organ in ("liver", "pancreas", "macro mean")
    }
    assert {row["protocol"] for row in rows} == {"box_jitter_20", "points_1"}
    assert all((row["p_value"] == "") == (row["tuning"] == "base") for row in rows)
    assert all(0 <= float(row["mean"]) <= 1 for row in rows)


def test_a_difference_is_that_of_the_two_means_in_every_row(done):
    rows = rows_of(done)
    means = {(row["tuning"], row["protocol"], row["organ"], row["score"]): float(row["mean"]) for row in rows}
    tuned = [row for row in rows if row["tuning"] != "base"]
    for row in tuned:
        base = means["base", row["protocol"], row["organ"], row["score"]]
        assert float(row["difference"]) == pytest.approx(float(row["mean"]) - base)
    assert any(row["organ"] == "macro mean" for row in tuned)


def test_the_page_has_a_line_for_every_model_and_says_what_was_done(done):
    page = (done / "table.md").read_text()
    assert all(page.count(f"| {part} ") == 2 for part in PARTS)
    assert "2 steps of 8 slices on the training patients' slices of pancreas" in page
    assert re.search(r"tuning +\| trained parameters \| seconds \| +pancreas DSC \| +p \| +pancreas NSD", page)


def test_four_kinds_are_compared_and_full_tuning_trains_everything(script, data):
    assert script["arguments"](["--checkpoint", "b", "--organ", "o", "-o", "x"]).tunings == list(script["TUNINGS"])
    decoder, lora, adapters, full = (script["trained_parameters"](t, data / "tiny.json") for t in script["TUNINGS"])
    assert full == sum(p.numel() for p in build_network(data / "tiny.json", random=True).parameters())
    assert full > decoder > lora > adapters > 0


def test_the_shipped_network_is_tuned_in_four_kinds_as_well(script):
    family = str(BUNDLE_ROOT / "configs" / "families" / "default.json")
    decoder, lora, adapters, full = (script["trained_parameters"](t, family) for t in script["TUNINGS"])
    assert full == sum(p.numel() for p in structure_of(load_family("default")).parameters())
    assert full > decoder > lora > adapters > 0


def test_only_the_training_patients_slices_of_the_organ_train(done):
    metadata = open_checkpoint(done / "lora" / "best.safetensors").metadata
    assert metadata["training_data"] == {"labelled": {"slices": 3, "patients": 3}}
    assert metadata["network_options"]["tuning"][0]["kind"] == "lora"


@pytest.mark.parametrize(
    ("tuning", "parts"),
    [
        ("decoder", {"prompt_encoder", "mask_decoder"}),
        ("adapters", set()),
        ("full", {"image_encoder", "prompt_encoder", "mask_decoder"}),
    ],
)
def test_only_what_the_tuning_names_has_moved(tuning, parts, done, data):
    base = open_checkpoint(data / "base.safetensors").state_dict
    tuned = open_checkpoint(done / tuning / "best.safetensors").state_dict
    moved = {name.split(".")[0] for name in base if not torch.equal(base[name], tuned[name])}
    assert moved == parts


def test_every_model_sees_the_prompts_of_the_base(done):
    asked = [[(r["key"], r["prompt"]) for r in read_records(done / part / "evaluation")] for part in PARTS]
    assert all(prompts == asked[0] for prompts in asked)


def test_the_picture_shows_three_slices_with_all_answers(done):
    height, width, _ = cv2.imread(str(done / "cases.png")).shape
    assert width > 800 and height > 900


def test_an_evaluation_is_drawn_with_a_row_for_each_organ_and_protocol(done, data, repository, tmp_path, monkeypatch):
    monkeypatch.setenv("MONAI_SAM_DATA", str(data))
    plot = runpy.run_path(str(repository / "scripts" / "plot_cases.py"))["main"]
    run, heights = str(done / "base" / "evaluation"), []
    for protocols in (["points_1"], ["points_1", "box_jitter_20"]):
        chosen = [word for name in protocols for word in ("--protocol", name)]
        plot([run, *chosen, "--output", str(tmp_path / "cases.png")])
        heights.append(len(cv2.imread(str(tmp_path / "cases.png"))))
    assert heights[1] == 2 * heights[0] > 400


def test_what_is_finished_is_not_done_again(done, main, command, data, monkeypatch):
    monkeypatch.setenv("MONAI_SAM_DATA", str(data))
    monkeypatch.setattr(monai.bundle, "run", None)
    before = (done / "table.md").read_text()
    assert main(command) == 0
    assert (done / "table.md").read_text() == before


def test_a_run_is_not_continued_with_other_settings(done, main, command, data, monkeypatch, capsys):
    monkeypatch.setenv("MONAI_SAM_DATA", str(data))
    assert main([*command, "--steps", "3"]) == 2
    assert "choose another --output" in capsys.readouterr().err


def test_an_organ_that_nobody_labelled_is_refused(done, main, command, tmp_path, data, monkeypatch, capsys):
    monkeypatch.setenv("MONAI_SAM_DATA", str(data))
    assert main([*command, "--organ", "spleen", "--output", str(tmp_path)]) == 2
    assert "liver, pancreas, got 'spleen'" in capsys.readouterr().err
