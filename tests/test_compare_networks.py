"""`scripts/compare_networks.py`, shortened: generated slices, networks of 64 px, two steps and two rounds of times."""

from __future__ import annotations

import csv
import runpy
import sys

import pytest
import torch
from evaluation_room import write_family, write_two_organs

SET_THREADS = torch.set_num_threads


@pytest.fixture(scope="module")
def main(repository):
    script = runpy.run_path(str(repository / "scripts" / "compare_networks.py"))
    script["VARIANTS"].clear()
    script["VARIANTS"].update({"plain": {}, "fine": {"fine": True}})
    script["main"].__globals__.update(PER_EPOCH=2, ROUNDS=2)
    return script["main"]


@pytest.fixture(scope="module")
def rows(main, tmp_path_factory):
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("networks")
    write_two_organs(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONAI_SAM_DATA", str(data))
        patch.setattr(sys, "excepthook", sys.excepthook)
        patch.setattr(torch, "set_num_threads", lambda count: None)  # train.json takes all cores
        patch.setattr("bundle.training.engines.autocast_dtype", lambda amp, device: None)  # slow without bfloat16
        before = torch.get_num_threads()
        SET_THREADS(1)
        family = str(write_family(data))
        assert main(["--output", str(out), "--family", family, "--steps", "2", "--variants", "2"]) == 0
        SET_THREADS(before)
    assert "fine" in (out / "table.md").read_text()
    with (out / "table.csv").open() as file:
        return {row["variant"]: row for row in csv.DictReader(file)}


def test_all_are_timed_and_the_chosen_ones_trained_and_scored(rows):
    assert all(float(row["encode_seconds"]) > 0 and float(row["decode_seconds"]) > 0 for row in rows.values())
    scores = [f"{organ} {score}" for organ in ("liver", "pancreas") for score in ("DSC", "NSD")]
    assert [rows["plain"][name] for name in scores] == [""] * 4
    assert all(0 <= float(rows["fine"][name]) <= 1 for name in scores)


def test_a_variant_differs_in_its_network(rows):
    assert int(rows["fine"]["parameters"]) > int(rows["plain"]["parameters"])


def test_a_folder_of_another_run_is_refused(main, tmp_path, capsys):
    (tmp_path / "settings.json").write_text('{"steps": 4}')
    assert main(["--output", str(tmp_path), "--steps", "2"]) == 2
    assert "holds results with steps 4, now 2" in capsys.readouterr().err


def test_a_length_that_is_no_whole_number_of_epochs_is_refused(main, tmp_path, capsys):
    assert main(["--output", str(tmp_path), "--steps", "3"]) == 2
    assert "multiple of 2, got 3" in capsys.readouterr().err
