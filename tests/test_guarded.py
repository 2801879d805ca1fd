"""A file from outside is read in a process of its own, which may fail in every way."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from bundle.data import guarded, volume
from bundle.data.limits import Limits
from bundle.data.volume import Volume, VolumeError, write_label, write_volume
from bundle.errors import BusyError

ROADS = (guarded._ask_forked, guarded._ask_new_process)
linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems start a process for each file")


def read(reader: str, **limits: int) -> Volume:
    return guarded._read(f"reading_fakes:{reader}", Path("/a/folder/ct.nii.gz"), {}, Limits(**limits))


def some_file(folder: Path, shape=(4, 5, 6)) -> Path:
    array = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    return write_volume(Volume(array, np.diag([-1.0, -1.0, 2.5, 1.0])), folder / "ct.nii.gz")


def assert_same(one: Volume, other: Volume) -> None:
    np.testing.assert_array_equal(one.array, other.array)
    np.testing.assert_array_equal(one.affine, other.affine)
    assert (one.array.dtype, one.array.strides) == (other.array.dtype, other.array.strides)
    assert (one.modality, one.source) == (other.modality, other.source)


@linux
@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 6, 3)])
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".npz"])
def test_a_volume_arrives_as_if_it_had_been_read_here(tmp_path, shape, ending):
    array = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    path = write_volume(Volume(array, np.diag([-1.0, -1.0, 2.5, 1.0])), tmp_path / f"ct{ending}")
    here, there = volume.read_volume(path), guarded.read_volume(path)
    assert_same(there, here)
    there.array[:] = 1  # it is the caller's own


@pytest.mark.parametrize("ask", ROADS[0 if sys.platform == "linux" else 1 :])
def test_both_roads_give_the_same(tmp_path, monkeypatch, ask):
    monkeypatch.setattr(guarded, "_HAS_FORK_SERVER", ask is guarded._ask_forked)
    path = some_file(tmp_path)
    assert_same(guarded.read_volume(path, modality="other"), volume.read_volume(path, modality="other"))
    label = write_label(np.ones((4, 5, 6), bool), volume.read_volume(path), tmp_path / "label.nrrd")
    assert_same(guarded.read_label(label), volume.read_label(label))
    with pytest.raises(VolumeError, match=r"there is no file or folder .*none\.nii"):
        guarded.read_volume(tmp_path / "none.nii")


def test_relative_names_mean_the_folder_of_the_caller(tmp_path, monkeypatch):
    monkeypatch.chdir(some_file(tmp_path).parent)
    assert guarded.read_volume("ct.nii.gz").source == Path("ct.nii.gz")


@linux
@pytest.mark.parametrize("ask", ROADS)
def test_a_reader_that_crashes_gives_a_sentence(monkeypatch, ask):
    monkeypatch.setattr(guarded, "_HAS_FORK_SERVER", ask is guarded._ask_forked)
    with pytest.raises(VolumeError, match=r"^cannot read ct\.nii\.gz: reading it crashed; "):
        read("crash")


@linux
@pytest.mark.parametrize("reader", ["hang", "spin"])
def test_a_reader_that_does_not_end_is_ended(reader):
    begin = time.monotonic()
    with pytest.raises(VolumeError, match=r"takes longer than 1 seconds \(MONAI_SAM_MAX_READ_SECONDS\)"):
        read(reader, read_seconds=1)
    assert time.monotonic() - begin < 30


@linux
def test_a_reader_gets_so_much_memory():
    with pytest.raises(VolumeError, match=r"takes more memory than 2147483648 bytes \(MONAI_SAM_MAX_READ_BYTES\)"):
        read("allocate", read_bytes=2**31)


@linux
def test_a_fault_in_a_reader_is_a_sentence_about_the_file():
    with pytest.raises(VolumeError, match=r"cannot read ct\.nii\.gz.*TypeError: a fault"):
        read("fail")


@linux
def test_it_runs_without_pytorch():
    assert read("modules").shape == (1, 1, 1)


@linux
def test_threads_read_at_once_while_others_crash(tmp_path):
    path = some_file(tmp_path, (40, 30, 20))
    expected, found = volume.read_volume(path).array, []

    def work(number: int) -> None:
        if number % 2:
            with pytest.raises(VolumeError, match="crashed"):
                read("crash")
        else:
            found.append(guarded.read_volume(path).array)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(array, expected) for array in found)


@linux
def test_it_starts_again_when_it_was_ended(tmp_path):
    path = some_file(tmp_path)
    guarded.read_volume(path)
    guarded._process._process.kill()
    assert guarded.read_volume(path).shape == (4, 5, 6)


@linux
def test_nothing_is_left_behind(tmp_path):
    path = some_file(tmp_path)
    guarded.read_volume(path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        guarded.read_volume(path)
        with pytest.raises(VolumeError):
            read("crash")
    assert len(os.listdir("/proc/self/fd")) <= before


def test_the_process_that_reads_knows_no_secret_of_the_server(monkeypatch):
    secrets = ("MONAI_SAM_TOKENS", "MONAI_LABEL_DICOMWEB_PASSWORD", "AWS_SECRET_ACCESS_KEY", "an_api_key")
    for name in secrets:
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("MONAI_SAM_MAX_VOXELS", "1000")
    given = guarded._environment()
    assert not set(secrets) & set(given) and given["MONAI_SAM_MAX_VOXELS"] == "1000"


def test_a_file_that_finds_all_readers_busy_is_refused_and_the_next_one_is_read(tmp_path, monkeypatch):
    path = some_file(tmp_path)
    monkeypatch.setattr(guarded, "_readers", threading.BoundedSemaphore(1))
    with guarded._a_reader(path, Limits()), pytest.raises(BusyError, match="MONAI_SAM_MAX_READERS"):
        guarded._read("bundle.data.volume:read_volume", path, {}, Limits(wait_seconds=0))
    for _ in range(2):
        assert guarded.read_volume(path).shape == (4, 5, 6)
