"""Reading a file of weights that anyone may have made: nothing in it runs, and nothing grows larger than the file.

Pickles are read with ``torch.load(weights_only=True)``. What training scripts pickle beside the weights and nobody
needs here (optimisers, NumPy numbers) is replaced by stand-ins that do nothing; everything else is refused.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bundle.errors import CheckpointError
from bundle.files import BoundedFile, opened_zip, parse_json

METADATA_KEY = "monai_sam"
_RECORDS = 200_000  # of a zip: PyTorch writes one for each tensor, and ViT-H with its optimiser has about 2000
_LONGEST_NAME = 1000  # letters of the name of a class or function in a pickle
_LEGACY_PICKLES = 5  # of a file before PyTorch's zip: magic number, version, system, content, keys of the storages
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_MARKUP = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")
# What our own metadata holds, by the types that JSON gives it.
_METADATA_TYPES = {
    "family": str,
    "contract": dict,
    "network_options": dict,
    "recipe": str,
    "labels": dict,
    "training_data": dict,
}


class _Inert:
    """Stands in for a pickled optimiser or a NumPy type: takes arguments and state, and does nothing with them."""

    def __init__(self, *arguments: object, **options: object) -> None:
        """Forget the arguments."""

    def __setstate__(self, state: object) -> None:
        """Forget the state."""


def _plain_dict(factory: Callable) -> dict:
    """Stands in for the defaultdict of the optimiser's moments, which torch would not fill."""
    return {}


# SAM-Med2D pickles its optimiser object beside the weights, other scripts a loss that is a NumPy number. These names,
# and only these, become inert stand-ins.
_INERT_CLASSES: list[Callable | tuple[Callable, str]] = [
    (_Inert, "torch.optim.adam.Adam"),
    (_Inert, "torch.optim.adamw.AdamW"),
    (_plain_dict, "collections.defaultdict"),
    dict,
    (_Inert, "numpy.dtype"),
    (_Inert, "numpy.ndarray"),
    (_Inert, "numpy.core.multiarray.scalar"),
    (_Inert, "numpy._core.multiarray.scalar"),
    (_Inert, "numpy.core.multiarray._reconstruct"),
    (_Inert, "numpy._core.multiarray._reconstruct"),
]


def read_checkpoint_file(path: Path) -> tuple[Any, dict[str, Any]]:
    """Read what a ``.safetensors`` file, or any other file for PyTorch, holds.

    Returns:
        The content (of safetensors, name to tensor), and our own metadata; empty where there is none.

    Raises:
        CheckpointError: if it is something else, damaged, larger inside than outside, holds more than data, or has
            metadata of wrong types.
    """
    _refuse_text(path)
    return _read_safetensors(path) if path.suffix == ".safetensors" else (_read_pickle(path), {})


def check_tensors(state: dict[str, Tensor], path: Path) -> None:
    """Refuse tensors that are not what they take on disk.

    Raises:
        CheckpointError: on a tensor that is not dense or claims more elements than are stored.
    """
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise CheckpointError(f"{path.name} was not opened: {name} is not a dense tensor of plain numbers")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise CheckpointError(
                f"{path.name} was not opened: {name} claims the shape {tuple(tensor.shape)} but stores "
                f"{tensor.untyped_storage().nbytes()} bytes; save it with tensor.contiguous()"
            )


def _refuse_text(path: Path) -> None:
    """The usual things that lie under the name of a checkpoint: a pointer, a web page, a saved error message."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error.strerror}") from error
    if not start:
        raise CheckpointError(f"{path.name} is empty; download it again")
    if start.startswith(_LFS_POINTER):
        raise CheckpointError(
            f"{path.name} is a Git LFS pointer, a note that stands for the weights; fetch them with `git lfs pull`"
        )
    if start.lstrip().lower().startswith(_MARKUP):
        raise CheckpointError(
            f"{path.name} is a web page, not weights: the download probably ended on a page that asks for something; "
            "open the address in a browser"
        )
    if all(byte >= 32 or byte in b"\t\r\n" for byte in start):
        shown = start[:60].decode("utf-8", "ignore")
        raise CheckpointError(f"{path.name} is text, not weights; it begins with {shown!r}")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = _metadata((file.metadata() or {}).get(METADATA_KEY, "{}"), path)
            return {key: file.get_tensor(key) for key in file.keys()}, metadata  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{path.name} is not a complete safetensors file ({error}); download it again") from error


def _metadata(text: str, path: Path) -> dict[str, Any]:
    try:
        metadata = parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"{path.name} was not opened: its metadata is not JSON ({error})") from error
    if not isinstance(metadata, dict):
        raise CheckpointError(
            f"{path.name} was not opened: its metadata must be one JSON object, got a {type(metadata).__name__}"
        )
    for key, kind in _METADATA_TYPES.items():
        if key in metadata and not isinstance(metadata[key], kind):
            got = type(metadata[key]).__name__
            raise CheckpointError(
                f"{path.name} was not opened: its metadata's {key} must be a {kind.__name__}, got a {got}"
            )
    return metadata


def _read_pickle(path: Path) -> Any:
    _check_zip(path)
    _check_names(path)
    try:
        with BoundedFile(path) as file, torch.serialization.safe_globals(_INERT_CLASSES):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, error) from error
    except MemoryError as error:
        raise CheckpointError(f"{path.name} was not opened: it asks for more memory than there is") from error
    # A damaged pickle can fail in any way that Python knows; whichever it is, the file is no checkpoint.
    except Exception as error:
        raise _incomplete(path, error) from error


def _incomplete(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path.name} is not a complete PyTorch file ({type(error).__name__}: {error!s:.200}); download it again"
    )


def _check_names(path: Path) -> None:
    """Refuse names that no class has: torch searches them for the words of its messages, in the square of their length.

    Raises:
        CheckpointError: a name is too long, or the file is no pickle.
    """
    try:
        for pickled in _pickles(path):
            for opcode, name, _ in pickletools.genops(pickled):
                if opcode.name in ("GLOBAL", "INST") and len(name) > _LONGEST_NAME:
                    raise CheckpointError(
                        f"{path.name} was not opened: it names a class or function of {len(name)} letters"
                    )
    except CheckpointError:
        raise
    except Exception as error:  # as above
        raise _incomplete(path, error) from error


def _pickles(path: Path) -> Iterator[BinaryIO]:
    """The pickles of a file, those before PyTorch's zip one behind the other in one stream."""
    if _is_zip(path):
        with opened_zip(path) as archive:
            for record in archive.infolist():
                if record.filename.endswith("data.pkl"):
                    yield io.BytesIO(archive.read(record))
        return
    with BoundedFile(path) as file:
        for _ in range(_LEGACY_PICKLES):
            if not file.peek(1):
                return
            yield file


def _refusal(path: Path, error: pickle.UnpicklingError) -> CheckpointError:
    named = re.search(r"GLOBAL (\S+)", str(error))
    if named is None:
        return CheckpointError(
            f"{path.name} was not opened: it is damaged or holds more than weights, and reading that could run code; "
            "ask for a file with weights only"
        )
    return CheckpointError(
        f"{path.name} was not opened: it holds {named[1]}, and reading that could run code. If you made it yourself, "
        "rewrite it:\n    import torch\n"
        f"    torch.save(torch.load({path.name!r}, weights_only=False)['model'], 'weights.pth')\n"
        "('model' stands for the name your script gave the weights); else ask for a file with weights only"
    )


def _check_zip(path: Path) -> None:
    """PyTorch's zip holds its records as they are; one that is smaller outside than inside would unfold in memory."""
    if not _is_zip(path):
        return
    try:
        with opened_zip(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _incomplete(path, error) from error
    if any(record.filename.endswith("/constants.pkl") for record in records):
        raise CheckpointError(
            f"{path.name} was not opened: it is a TorchScript export, which is a program; give the checkpoint that it "
            "was made from"
        )
    if len(records) > _RECORDS:
        raise CheckpointError(f"{path.name} was not opened: it has {len(records)} records, more than any checkpoint")
    packed = [record.filename for record in records if record.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise CheckpointError(
            f"{path.name} was not opened: {packed[0]} in it is compressed, which PyTorch's files never are; write it "
            "again with torch.save"
        )
    unfolded, size = sum(record.file_size for record in records), path.stat().st_size
    if unfolded > size:
        raise CheckpointError(f"{path.name} was not opened: it has {size} bytes and claims to hold {unfolded}")


def _is_zip(path: Path) -> bool:
    """What PyTorch decides by."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"
