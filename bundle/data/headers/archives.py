"""The headers of arrays: NumPy's npy and npz (numpy.lib.format), and zarr's JSON."""

from __future__ import annotations

import ast
import json
import math
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bundle.data.headers.claims import Claim, check_deflated, check_raw, damaged, refusal, too_large
from bundle.data.limits import Limits
from bundle.errors import VolumeError
from bundle.files import opened_zip

READ_ENTRIES = ("imgs", "gts", "spacing", "affine")  # the ones of a MedSAM archive that are read
_NPY_HEADER = 10_000  # bytes; NumPy's own bound on the text that it evaluates
_LENGTH_DIGITS = {(1, 0): 2, (2, 0): 4}  # version -> bytes of the length of an npy header
_PYTHON_2 = re.compile(r"(?<=\d)L\b")  # wrote the sizes of a shape as 3L
_NO_NPY = "expected the header of a plain array of np.save or np.savez"
_NUMBERS = "biuf"


def check_npy(path: Path, limits: Limits) -> None:
    """Refuse an npy file that claims too much or holds Python objects: see ``check_header``."""
    with path.open("rb") as file:
        claim, start = _npy_claim(file, path)
    claim.check(path, limits)
    check_raw(path, claim, path.stat().st_size - start)


def check_npz(path: Path, limits: Limits) -> None:
    """Refuse an npz archive of too many or too large entries: see ``check_header``."""
    with opened_zip(path) as archive:
        entries = archive.infolist()
        if len(entries) > limits.entries:
            raise too_large(path, f"{len(entries)} entries", "entries", limits)
        for entry in entries:
            if entry.filename.removesuffix(".npy") in READ_ENTRIES:
                _check_entry(archive, entry, path, limits)


def _check_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, limits: Limits) -> None:
    if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise refusal(path, f"its entry {entry.filename!r} must be deflated or stored; use np.savez_compressed")
    with archive.open(entry) as file:
        claim, start = _npy_claim(file, path)
    claim.check(path, limits)
    check_raw(path, claim, entry.file_size - start)
    check_deflated(path, claim, entry.compress_size + 1024)  # more for the smallest arrays, whose header takes most


@dataclass(frozen=True)
class NpyHeader:
    """What an npy file says of its array.

    Attributes:
        shape: of the array, as it stands in the file.
        dtype: of its values.
        fortran_order: whether the first index runs fastest.
        length: bytes before its values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool
    length: int


def read_npy_header(file: BinaryIO) -> NpyHeader:
    """Read the header of an npy file, versions 1 and 2 (numpy.lib.format), of at most 10 kB.

    NumPy's own reader gives a text that is no Python to a tokenizer, whose time grows with the square of a run of
    blanks: 10 kB of them took half a minute.

    Raises:
        VolumeError: it is none, or has no plain array.
    """
    try:
        digits = _LENGTH_DIGITS[np.lib.format.read_magic(file)]
        length = int.from_bytes(file.read(digits), "little")
        text = file.read(min(length, _NPY_HEADER)).decode("latin1")
        fields = ast.literal_eval(_PYTHON_2.sub("", text))
        shape, order, count = fields["shape"], fields["fortran_order"], len(fields)
        dtype = np.lib.format.descr_to_dtype(fields["descr"])
    except Exception as error:  # what evaluating any text as Python may raise
        raise VolumeError(_NO_NPY) from error
    is_shape = isinstance(shape, tuple) and all(type(size) is int and abs(size) < 2**63 for size in shape)
    if len(text) != length or count != 3 or not is_shape or not isinstance(order, bool):
        raise VolumeError(_NO_NPY)
    return NpyHeader(shape, dtype, order, len(np.lib.format.MAGIC_PREFIX) + 2 + digits + length)


def _npy_claim(file: BinaryIO, path: Path) -> tuple[Claim, int]:
    """The array that an npy header announces, and where its values begin."""
    try:
        header = read_npy_header(file)
    except VolumeError as error:
        raise damaged(path, str(error)) from error
    if header.dtype.hasobject or header.dtype.kind not in _NUMBERS:
        raise refusal(path, f"expected an array of numbers, got one of {header.dtype}; save numbers")
    return Claim(header.shape or (1,), header.dtype.itemsize), header.length


# --- zarr -------------------------------------------------------------------------------------------------------------

# Zeros in zstd: 128 kB in 4 bytes. An array of this many bytes may be blank, without any chunk.
_ZSTD_RATIO, _BLANK_BYTES = 2**15, 2**25
_CHUNK_BYTES = 2**28  # a slice of 8192 x 8192 colours; room is made for one chunk before it is decoded
# Those that turn bytes into numbers; numcodecs also has one that unpickles, which runs code.
_CODECS = ("bytes", "blosc", "zstd", "gzip", "zlib", "lz4", "crc32c", "transpose")


def check_zarr(folder: Path, limits: Limits) -> None:
    """Refuse a zarr group whose metadata claim too much or name a codec that runs code: see ``check_header``."""
    for file in _metadata_files(folder, limits):
        if file.stat().st_size > limits.header_bytes:
            raise too_large(file, f"{file.stat().st_size} bytes", "header_bytes", limits)
        try:
            metadata = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise damaged(file, "expected JSON") from error
        if not isinstance(metadata, dict) or metadata.get("consolidated_metadata") or file.name == ".zmetadata":
            raise refusal(file, "it must hold the metadata of one array or group; write it without consolidating")
        if "shape" in metadata:
            _check_zarr_array(metadata, file, limits)


def _metadata_files(folder: Path, limits: Limits) -> Iterator[Path]:
    """The metadata of a group and of the arrays in it, for versions 2 and 3 of the format."""
    names = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
    arrays = [part for part in folder.iterdir() if part.is_dir()]
    if len(arrays) > limits.entries:
        raise too_large(folder, f"{len(arrays)} arrays", "entries", limits)
    return (place / name for place in (folder, *arrays) for name in names if (place / name).is_file())


def _check_zarr_array(metadata: dict[str, Any], file: Path, limits: Limits) -> None:
    codecs = [codec for key in ("codecs", "filters", "compressor") for codec in _listed(metadata.get(key))]
    used = [codec.get("name", codec.get("id")) if isinstance(codec, dict) else codec for codec in codecs]
    unknown = [name for name in used if name not in _CODECS]
    if unknown or metadata.get("storage_transformers"):
        raise refusal(file, f"its codecs must be of {', '.join(_CODECS)}, got {unknown}; write it with zstd")
    grid = metadata.get("chunk_grid")
    chunks = metadata.get("chunks") if grid is None else dict(dict(grid).get("configuration", {})).get("chunk_shape")
    try:
        dtype = np.dtype(metadata.get("data_type", metadata.get("dtype")))
        shape, chunk = (tuple(int(size) for size in sizes) for sizes in (metadata["shape"], chunks))
    except (TypeError, ValueError) as error:
        raise refusal(file, "expected a shape, chunks and a type of numbers; write it again") from error
    if dtype.kind not in _NUMBERS or min(chunk, default=1) < 1:
        raise refusal(file, f"expected an array of numbers in chunks, got {dtype} in {chunk}; write it again")
    claim = Claim(shape, dtype.itemsize)
    claim.check(file, limits)
    if len(chunk) != len(shape):
        raise refusal(file, f"its chunks must have {len(shape)} sizes, got {len(chunk)}; write it again")
    if math.prod(chunk) * dtype.itemsize > _CHUNK_BYTES:
        given = f"its chunks have {math.prod(chunk) * dtype.itemsize} bytes, the limit is {_CHUNK_BYTES}"
        raise refusal(file, f"{given}; write it with a chunk for each slice")
    _check_chunks(claim, chunk, file, limits)


def _check_chunks(claim: Claim, chunk: tuple[int, ...], file: Path, limits: Limits) -> None:
    """Refuse more chunks than a volume has, and more voxels than those that are there can hold.

    A chunk without a file is blank, so what is stored says little of what a small array holds; a large one is damaged.
    """
    count = math.prod(-(-size // length) for size, length in zip(claim.sizes, chunk, strict=True))
    if count > limits.chunks:
        raise too_large(file, f"{count} chunks", "chunks", limits)
    needed = max(claim.data_bytes, math.prod(chunk) * claim.item_bytes)
    if needed <= _BLANK_BYTES:
        return
    stored = sum(part.stat().st_size for part in file.parent.rglob("*") if part.is_file() and part != file)
    if needed > _ZSTD_RATIO * stored:
        raise damaged(file, f"it announces {needed} bytes of voxels, its chunks are {stored} bytes")


def _listed(value: object) -> list[object]:
    return [] if value is None else value if isinstance(value, list) else [value]
