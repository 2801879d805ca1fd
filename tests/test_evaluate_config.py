"""`configs/evaluate.json` and its overlays, run by MONAI from a folder of one's own."""

from __future__ import annotations

import csv
import json
import logging
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from evaluation_room import CONFIGS, run_bundle, write_family, write_weights
from training_room import make_slice
from warm_process import run_warm

from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import Volume, write_label, write_volume
from bundle.errors import EvaluationError
from bundle.evaluation.records import read_records


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A person's folder: two patients' pictures with label maps and a data list, a family, and weights of it."""
    folder = tmp_path_factory.mktemp("mine")
    listed = []
    for n in range(2):
        part = make_slice(n, patient=f"p{n}")
        picture = Volume(
            part.picture.T[:, :, None], [[-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "windowed"
        )
        write_volume(picture, folder / "images" / f"{n}.png")
        write_label(part.labels.T[:, :, None], picture, folder / "labels" / f"{n}.png")
        listed.append({"image": f"images/{n}.png", "label": f"labels/{n}.png", "patient": f"p{n}"})
    labels = {"0": "background", "1": "liver", "2": "pancreas"}
    (folder / "datalist.json").write_text(json.dumps({"labels": labels, "training": [], "validation": listed}))
    family = write_family(folder)
    for seed, name in enumerate(("before", "after")):
        write_weights(family, folder / f"{name}.safetensors", seed=seed)
    return folder


@pytest.fixture
def in_folder(mine, monkeypatch):
    """Work in that folder, and keep Python's way to show errors."""
    monkeypatch.chdir(mine)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    return mine


@pytest.fixture(autouse=True)
def told(caplog):
    """Let the log be seen that a run ends with."""
    caplog.set_level(logging.INFO, "bundle")


def evaluate(*overlays, folder, **options):
    options = {"protocols": ["box_jitter_20"], "checkpoint": "after.safetensors", **options}
    where = {"dataset_dir": ".", "family_name": "tiny.json", "output_dir": str(folder), "device": "cpu"}
    run_bundle("evaluate", "datasets/prepared", *overlays, **where, **options)


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_protocols_end_in_a_report_and_a_table(in_folder, tmp_path, caplog):
    evaluate(folder=tmp_path, protocols=["box", "points_1"], tolerance=3.0)
    assert {(row["protocol"], row["organ"]) for row in rows_of(tmp_path / "summary.csv")} == {
        (protocol, organ) for protocol in ("box", "points_1") for organ in ("liver", "pancreas", "macro mean")
    }
    assert "NSD at 3 pixels of a slice scaled to 256" in (tmp_path / "report.html").read_text()
    assert "| tiny  | box      | liver" in caplog.text


def test_organs_can_be_left_out_and_slices_limited(in_folder, tmp_path):
    evaluate(folder=tmp_path, without=["pancreas"], limit=1)
    assert [record["organ"] for record in read_records(tmp_path)] == ["liver"]


def test_before_and_after_end_in_one_table(in_folder, tmp_path, caplog):
    evaluate("before_after", folder=tmp_path, before_checkpoint="before.safetensors", before_name="MedSAM")
    table = rows_of(tmp_path / "comparison.csv")
    assert {(row["organ"], row["score"]) for row in table} == {
        (organ, score) for organ in ("liver", "pancreas", "macro mean") for score in ("dsc", "nsd")
    }
    assert all(row["before"] != row["after"] for row in table if row["score"] == "dsc")
    assert "MedSAM → after" in caplog.text
    prompts = [[record["prompt"] for record in read_records(folder)] for folder in (tmp_path, tmp_path / "before")]
    assert prompts[0] == prompts[1]


def test_a_file_that_cannot_be_read_ends_neither_the_run_before_nor_the_one_after(mine, monkeypatch, tmp_path):
    shutil.copytree(mine, tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    Path("images/0.png").write_bytes(b"nothing")
    with pytest.raises(RuntimeError) as raised:  # MONAI's; the command shows the cause
        evaluate("before_after", folder=tmp_path / "run", before_checkpoint="before.safetensors")
    assert isinstance(raised.value.__cause__, EvaluationError)
    assert "1 cases could not be read" in str(raised.value.__cause__) and "p0/0.png: " in str(raised.value.__cause__)
    for folder in (tmp_path / "run", tmp_path / "run" / "before"):
        assert {record["case"] for record in read_records(folder)} == {"p1"}
        assert "Without p0/0.png, which could not be read" in (folder / "report.html").read_text()


def test_prompts_of_another_run_are_replayed(in_folder, tmp_path):
    evaluate(folder=tmp_path / "first", seed=1)
    evaluate(folder=tmp_path / "second", replay=str(tmp_path / "first"), checkpoint="before.safetensors")
    first, second = (read_records(tmp_path / name) for name in ("first", "second"))
    assert [record["prompt"] for record in first] == [record["prompt"] for record in second]


def evaluate_volumes(folder, *overlays, output, **options):
    """A phantom with a liver in FLARE22's layout; the record of its liver."""
    image, labels, _ = make_phantom(shape=(24, 20, 8), spacing=(14.0, 14.0, 25.0))
    write_volume(image, folder / "images" / "FLARE22_Tr_0001_0000.nii.gz")
    write_label((labels.array == 3).astype("uint8"), labels, folder / "labels" / "FLARE22_Tr_0001.nii.gz")
    where = {"dataset_dir": str(folder), "output_dir": str(folder / output), "device": "cpu"}
    run_bundle("evaluate", "datasets/flare22_style", "evaluate_volumes", *overlays, **where, **options)
    return next(record for record in read_records(folder / output) if record["organ"] == "liver")


def test_volumes_are_scored_in_3d_and_their_prompts_replayed(in_folder, tmp_path):
    options = {"family_name": "tiny.json", "protocols": ["slice_box"]}
    record = evaluate_volumes(tmp_path, output="a", checkpoint="after.safetensors", **options)
    assert (record["organ"], record["case"], record["protocol"]) == ("liver", "FLARE22_Tr_0001", "slice_box")
    options |= {"replay": str(tmp_path / "a"), "tolerance": {"liver": 30.0, "other": 2.0}}
    again = evaluate_volumes(tmp_path, output="b", checkpoint="before.safetensors", **options)
    assert again["prompt"] == record["prompt"] and again["dsc"] != record["dsc"]
    assert "NSD at 30 (liver), 2 (other) mm" in (tmp_path / "b" / "report.html").read_text()


def test_a_network_of_stacks_is_scored_in_3d(in_folder, tmp_path):
    network = {"_target_": "training_room.make_network_like", "family": "@family", "classes": 14}
    tiny = {"+imports": ["$import training_room"], "model#contract": "$training_room.CONTRACT", "network_def": network}
    (tmp_path / "small.json").write_text(json.dumps(tiny))
    overlays = ("evaluate_automatic", str(tmp_path / "small"))
    record = evaluate_volumes(tmp_path, *overlays, output="run", family_name="medico_sam_3d", depth=4)
    assert record["protocol"] == "automatic" and 0 <= record["nsd"] <= 1
    assert "best, median and worst: liver, automatic" in (tmp_path / "run" / "report.html").read_text()


def test_a_network_without_prompts_is_scored_by_its_label_map(in_folder, tmp_path):
    evaluate("evaluate_automatic", folder=tmp_path, protocols=["automatic"], checkpoint=None, random_weights=True)
    assert {record["protocol"] for record in read_records(tmp_path)} == {"automatic"}


@pytest.mark.slow
def test_two_processes_get_what_one_gets(in_folder, tmp_path):
    evaluate(folder=tmp_path / "one")
    configs = [str(CONFIGS / f"{name}.json") for name in ("evaluate", "datasets/prepared", "multi_gpu_evaluate")]
    options = {"dataset_dir": ".", "family_name": "tiny.json", "checkpoint": "after.safetensors"}
    options |= {"output_dir": tmp_path / "two", "protocols": "['box_jitter_20']"}
    words = [str(part) for name, value in options.items() for part in (f"--{name}", value)]

    def worker(rank: int):
        environment = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "CUDA_VISIBLE_DEVICES": "",
        }  # torchrun's
        return run_warm(in_folder, "run", "--config_file", configs, *words, environment=environment)

    with ThreadPoolExecutor(2) as both:
        for done in both.map(worker, (0, 1)):
            assert done.returncode == 0, done.stderr

    def scores(folder):
        return [(record["key"], record["organ"], record["dsc"], record["nsd"]) for record in read_records(folder)]

    assert scores(tmp_path / "two") == scores(tmp_path / "one")
    assert rows_of(tmp_path / "one" / "summary.csv") == rows_of(tmp_path / "two" / "summary.csv")
