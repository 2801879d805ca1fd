"""A run that is killed goes on as if nothing had happened, and several processes train what one would."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from training_room import ROOT, small_run_files
from training_room import one_thread as one_thread
from warm_process import end, start_warm

pytestmark = pytest.mark.usefixtures("one_thread")
LONG = {"epochs": 4, "steps_per_epoch": 3, "lr_scheduler#warmup": 2}
PARAMETERS = {"_target_": "bundle.training.start.trainable_parameters", "network": "@network"}
DESCENT = {
    "optimizer": {"_target_": "torch.optim.SGD", "params": PARAMETERS, "lr": 0.5, "momentum": 0.9},
    "loss": {"_target_": "bundle.training.losses.PromptLoss", "cross_entropy": 0.0, "iou": 0.0},
}


def run_here(files: list[str]) -> dict:
    """Run in this process; returns the state that it leaves."""
    parser = ConfigParser()
    parser.read_config(files)
    parser.get_parsed_content("initialize")
    parser.get_parsed_content("run")
    return read_state(Path(parser.get_parsed_content("output_dir")))


def start_elsewhere(files: list[str], *launcher: str) -> subprocess.Popen:
    """Run ``python -m monai.bundle run`` in processes of their own."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "-m", "monai.bundle", "run", "--config_file", str(files)]
    return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def read_state(folder: Path) -> dict:
    return torch.load(folder / "last.pt", weights_only=True)


def new_folder(path: Path) -> Path:
    path.mkdir()
    return path


def wait_for(path: Path, process: multiprocessing.Process, logs: Path, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.is_alive(), (logs / "err").read_text()
        assert time.monotonic() < end, f"no {path.name} after {seconds} s"
        time.sleep(0.02)


def assert_same(first: dict, second: dict, *, atol: float = 1e-6) -> None:
    """Same step, same weights, same moments of the optimiser, same rate."""
    assert first["iteration"] == second["iteration"]
    for name in ("network", "average"):
        torch.testing.assert_close(first["objects"][name], second["objects"][name], atol=atol, rtol=1e-4)
    moments = [state["objects"]["optimizer"]["state"] for state in (first, second)]
    torch.testing.assert_close(moments[0], moments[1], atol=atol, rtol=1e-4)
    assert first["objects"]["lr_scheduler"]["_last_lr"] == second["objects"]["lr_scheduler"]["_last_lr"]
    assert first["objects"]["best"]["best"] == pytest.approx(second["objects"]["best"]["best"], abs=1e-3)


def test_a_killed_run_ends_like_one_that_was_not(tmp_path):
    killed = new_folder(tmp_path / "killed")
    # medsam: between processes its small network is the same to the bit; the windows and clicks of default are not.
    files = small_run_files(killed, "medsam", **LONG)
    process = start_warm(ROOT, "run", "--config_file", files, logs=tmp_path)
    try:
        wait_for(killed / "last.pt", process, tmp_path)
    finally:
        end(process)
    assert process.exitcode == -signal.SIGKILL
    assert 3 <= read_state(killed)["iteration"] < 12
    resumed = run_here(files)
    undisturbed = run_here(small_run_files(new_folder(tmp_path / "whole"), "medsam", **LONG))
    assert_same(resumed, undisturbed)


def test_two_processes_train_what_one_does(tmp_path):
    # Only the decoder trains: batch statistics of the encoder are per process on a CPU.
    # Plain descent: Adam makes a whole step out of a gradient that is only rounding.
    options = {"trainable": ["mask_decoder.*"], "batch_size": 4, "steps_per_epoch": 6, "average_decay": 0.5} | DESCENT
    # Slices with one and with two objects: a process weighs as many objects as it has.
    options |= {
        "train#dataset#objects": 2,
        "training_pool": "$[training_room.make_slice(i, ids=(1, 2)[i % 2 :]) for i in range(4)]",
    }
    alone = run_here(small_run_files(new_folder(tmp_path / "alone"), "medsam", **options))
    files = small_run_files(new_folder(tmp_path / "together"), "medsam", **options)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    process = start_elsewhere([*files, str(ROOT / "configs" / "multi_gpu_train.json")], *launcher)
    output = process.communicate(timeout=300)[0].decode()
    assert process.returncode == 0, output
    together = read_state(tmp_path / "together")
    assert together["objects"]["best"]["best"] > 0.05  # it says something
    assert_same(together, alone, atol=1e-5)


def test_a_finished_run_does_nothing_more(tmp_path):
    files = small_run_files(tmp_path, "medsam")
    first = run_here(files)
    assert_same(run_here(files), first)
