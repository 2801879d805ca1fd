"""A file of weights that anyone may have made is read without running it, or refused in a sentence."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bundle.families.checkpoint_files import METADATA_KEY
from bundle.families.checkpoints import CheckpointError, open_checkpoint

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3)}


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(path)
    assert str(error.value).startswith(path.name)
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 375042383\n",
            "Git LFS pointer.*git lfs pull",
        ),
        (b"\n<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title>", "a web page, not weights"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a web page, not weights"),
        (b"hello world", "text, not weights; it begins with 'hello world'"),
        ('{"error": "quota überschritten"}'.encode(), "text, not weights"),
        (b"", "is empty"),
        (bytes(range(256)), "not a complete|damaged"),
        (b"PK\x03\x04 and then nothing", "not a complete"),
    ],
)
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_what_is_no_checkpoint_says_what_it_is(tmp_path, content, message, ending):
    path = tmp_path / f"weights{ending}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(path)


@pytest.mark.parametrize(
    "beside", [np.float64(0.1), np.float32(0.1), np.int64(3), np.arange(3.0), {"best": [np.float64(1)]}]
)
def test_numpy_numbers_beside_the_weights_are_passed_over(tmp_path, beside):
    torch.save({"model": WEIGHTS, "loss": beside}, tmp_path / "x.pth")
    assert torch.equal(open_checkpoint(tmp_path / "x.pth").state_dict["a.weight"], WEIGHTS["a.weight"])


def test_other_objects_are_refused_with_the_lines_that_rewrite_the_file(tmp_path):
    path = tmp_path / "mine.pth"
    torch.save({"model": WEIGHTS, "args": argparse.Namespace(lr=1e-4)}, path)
    message = refusal(path)
    assert "holds argparse.Namespace" in message and "could run code" in message
    lines = [line.strip() for line in message.splitlines() if line.startswith("    ")]
    assert len(lines) == 2
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        exec("\n".join(lines))  # what the message tells its reader to do
    finally:
        os.chdir(before)
    assert torch.equal(open_checkpoint(tmp_path / "weights.pth").state_dict["a.weight"], WEIGHTS["a.weight"])


class Call:
    """Pickles as a call of anything with anything."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "made",
    [
        lambda folder: Call(os.mkdir, str(folder / "ran")),
        lambda folder: Call(eval, f"__import__('os').mkdir({str(folder / 'ran')!r})"),
        lambda folder: Call(np.core.multiarray.scalar, np.dtype("O"), Call(os.mkdir, str(folder / "ran"))),
        lambda folder: Call(torch.optim.Adam, Call(os.mkdir, str(folder / "ran"))),
    ],
)
def test_nothing_in_a_file_runs(tmp_path, made):
    torch.save({"model": WEIGHTS, "extra": made(tmp_path)}, tmp_path / "x.pth")
    assert "could run code" in refusal(tmp_path / "x.pth")
    assert not (tmp_path / "ran").exists()


def test_an_optimiser_with_arguments_is_passed_over(tmp_path):
    torch.save({"model": WEIGHTS, "optimizer": Call(torch.optim.Adam, [1, 2], 0.1)}, tmp_path / "x.pth")
    assert list(open_checkpoint(tmp_path / "x.pth").state_dict) == ["a.weight"]


def rewritten(path: Path, compression: int, extra: dict[str, bytes] | None = None) -> Path:
    """A checkpoint whose records are written again."""
    torch.save(WEIGHTS, path)
    with zipfile.ZipFile(path) as archive:
        records = {record.filename: archive.read(record) for record in archive.infolist()} | (extra or {})
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return path


def test_a_record_that_unfolds_is_refused_before_it_does(tmp_path):
    bomb = rewritten(tmp_path / "bomb.pth", zipfile.ZIP_DEFLATED, {"archive/data/1": bytes(50_000_000)})
    assert bomb.stat().st_size < 100_000
    assert "is compressed, which PyTorch's files never are" in refusal(bomb)


def test_records_that_share_their_bytes_are_refused(tmp_path):
    path = rewritten(tmp_path / "x.pth", zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")  # the first record of the table says that it is longer than the file
    content[entry + 20 : entry + 28] = struct.pack("<II", 10**9, 10**9)
    path.write_bytes(content)
    assert "claims to hold 1000" in refusal(path)


LONG_NAME = b"\x80\2c" + b"a" * 50_000 + b"\n" + b"b" * 50_000 + b"\n."


def test_a_name_that_no_class_has_is_refused_before_torch_searches_it(tmp_path):
    """Its message would take time with the square of the length: minutes for these 100 kB."""
    (tmp_path / "x.pth").write_bytes(LONG_NAME)
    assert "names a class or function of 100001 letters" in refusal(tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "y.pth", "w") as archive:
        archive.writestr("archive/data.pkl", LONG_NAME)
        archive.writestr("archive/version", "3\n")
    assert "names a class or function of 100001 letters" in refusal(tmp_path / "y.pth")


def test_a_text_is_as_long_as_the_file(tmp_path):
    """torch would make room for the 2 GB that it announces."""
    (tmp_path / "x.pth").write_bytes(b"}q\0X\xff\xff\xff\x7fy.c")
    assert "is not a complete PyTorch file" in refusal(tmp_path / "x.pth")


def test_a_file_from_before_the_zip_is_read(tmp_path):
    torch.save({"model": WEIGHTS}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(open_checkpoint(tmp_path / "x.pth").state_dict["a.weight"], WEIGHTS["a.weight"])


def test_a_torchscript_export_is_no_checkpoint(tmp_path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "x.pt")
    assert "TorchScript export" in refusal(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(1).expand(1 << 20, 1 << 20), "claims the shape"),
        (torch.zeros(3).as_strided((3, 3), (1, 0)), "claims the shape"),
        (torch.eye(3).to_sparse(), "not a dense tensor"),
        (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "not a dense tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_tensor_is_what_it_takes_on_disk(tmp_path, tensor, message):
    torch.save({"a": tensor}, tmp_path / "x.pth")
    assert message in refusal(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "content",
    [{1: torch.zeros(1)}, {"model": WEIGHTS, "decoder_state": [1]}, {"model": {"a": 3}}, {"a": None}, 7],
    ids=str,
)
def test_names_and_values_of_other_types_are_no_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    assert "holds no state dict" in refusal(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{not json", "its metadata is not JSON"),
        ("[" * 100_000, "its metadata is not JSON"),
        ("[1, 2]", "must be one JSON object, got a list"),
        ('"text"', "must be one JSON object, got a str"),
        ('{"family": ["default"]}', "metadata's family must be a str, got a list"),
        ('{"contract": "default"}', "metadata's contract must be a dict, got a str"),
        ('{"network_options": [1]}', "metadata's network_options must be a dict, got a list"),
    ],
    ids=str,
)
def test_metadata_of_other_types_is_refused(tmp_path, text, message):
    save_file(WEIGHTS, tmp_path / "x.safetensors", metadata={METADATA_KEY: text})
    assert message in refusal(tmp_path / "x.safetensors")


@pytest.mark.parametrize("protocol", range(5))
def test_a_plain_pickle_is_refused(tmp_path, protocol):
    (tmp_path / "x.pth").write_bytes(pickle.dumps({"a": [1.0, 2.0]}, protocol=protocol))
    refusal(tmp_path / "x.pth")


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    save_file(WEIGHTS, tmp_path / "x.safetensors", metadata={METADATA_KEY: json.dumps({})})

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "cannot be read: Permission denied" in refusal(tmp_path / "x.safetensors")
