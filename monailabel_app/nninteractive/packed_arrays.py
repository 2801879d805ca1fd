"""Arrays as nnInteractive's clients send and take them: a header, then pieces that blosc2 has compressed.

    "NNIA" | version u8 = 1 | codec u8 (1 zstd, 2 lz4) | ndim u8 | length u8 of the dtype's name | that name (ASCII)
    | shape, ndim x int64 | number of pieces uint32 | for each piece: its size uint64, its compressed size uint64, bytes

All numbers are little-endian, the array is in C order, a piece has at most 1 GiB (nninteractive-client 2.6). What a
client sends is held against the limits before anything is decompressed, and decompressed in a process of its own.
"""

from __future__ import annotations

import math
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import blosc2
import numpy as np

from bundle.data import guarded
from bundle.data.limits import LIMITS, Limits, variable_of
from bundle.data.volume import Volume
from bundle.errors import VolumeError

_MAGIC, _VERSION = b"NNIA", 1
_CODECS = {1: blosc2.Codec.ZSTD, 2: blosc2.Codec.LZ4}
_PIECE = 1 << 30
_PIECE_HEADER = struct.Struct("<QQ")
_BLOSC_HEADER = 32  # bytes; blosc2's own header of a piece, without which it must not be asked anything
_DTYPES = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
_DTYPES += ("float16", "float32", "float64")


@dataclass(frozen=True)
class PackedHeader:
    """What the header of a packed array claims.

    Attributes:
        dtype: of the values.
        shape: of the array.
        pieces: (first byte, compressed size, size) of each piece.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    pieces: tuple[tuple[int, int, int], ...]


def pack_array(array: np.ndarray) -> bytes:
    """An array as a client reads it."""
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    name = array.dtype.name.encode("ascii")
    parts = [struct.pack("<4sBBBB", _MAGIC, _VERSION, 1, array.ndim, len(name)), name]
    parts.append(struct.pack(f"<{array.ndim}q", *array.shape))
    raw = memoryview(array.reshape(-1).view(np.uint8))
    pieces = [raw[start : start + _PIECE] for start in range(0, len(raw), _PIECE)]
    parts.append(struct.pack("<I", len(pieces)))
    for piece in pieces:
        # Masks compress best as they are; the item size keeps clear of a fault of blosc2 with zeros of odd lengths.
        packed = blosc2.compress2(
            piece, typesize=array.itemsize, codec=blosc2.Codec.ZSTD, clevel=1, filters=[blosc2.Filter.NOFILTER]
        )
        parts += [_PIECE_HEADER.pack(len(piece), len(packed)), packed]
    return b"".join(parts)


def read_header(data: bytes, *, limits: Limits = LIMITS) -> PackedHeader:
    """Read the header of a packed array and hold it against its length and the limits; nothing is decompressed.

    Raises:
        VolumeError: it is not one, or claims more than is taken or than its bytes can hold.
    """
    try:
        magic, version, codec, ndim, length = struct.unpack_from("<4sBBBB", data)
        name = data[8 : 8 + length].decode("ascii", "replace")
        shape = struct.unpack_from(f"<{ndim}q", data, 8 + length)
        (count,) = struct.unpack_from("<I", data, 8 + length + 8 * ndim)
    except struct.error as error:
        raise VolumeError("a packed array ends within its header; send it whole") from error
    if (magic, version) != (_MAGIC, _VERSION) or codec not in _CODECS:
        got = f"{magic!r}, version {version}, codec {codec}"
        raise VolumeError(f"a packed array begins with 'NNIA', version 1, codec 1 or 2; got {got}")
    if name not in _DTYPES:
        raise VolumeError(f"a packed array holds one of {', '.join(_DTYPES)}; got {name!r}")
    if not 1 <= ndim <= 4 or min(shape) < 1:
        raise VolumeError(f"a packed array has 1 to 4 axes of at least one value, got the shape {shape}")
    size = math.prod(shape) * np.dtype(name).itemsize
    if math.prod(shape) > limits.voxels or size > limits.data_bytes:
        raise VolumeError(
            f"a packed array of {shape} {name} is larger than is taken: {limits.voxels} voxels "
            f"({variable_of('voxels')}), {limits.data_bytes} bytes ({variable_of('data_bytes')})"
        )
    if count > -(-size // _PIECE) + 1:
        raise VolumeError(f"a packed array of {size} bytes has at most {-(-size // _PIECE)} pieces, got {count}")
    return PackedHeader(np.dtype(name), shape, _pieces(data, 12 + length + 8 * ndim, count, size))


def _pieces(data: bytes, start: int, count: int, size: int) -> tuple[tuple[int, int, int], ...]:
    pieces, total = [], 0
    for _ in range(count):
        if start + _PIECE_HEADER.size > len(data):
            raise VolumeError("a packed array ends before its pieces do; send it whole")
        unpacked, packed = _PIECE_HEADER.unpack_from(data, start)
        start += _PIECE_HEADER.size
        if not _BLOSC_HEADER <= packed <= len(data) - start:
            raise VolumeError(f"a piece of a packed array claims {packed} bytes, {len(data) - start} are there")
        pieces.append((start, packed, unpacked))
        start += packed
        total += unpacked
    if total != size or start != len(data):
        raise VolumeError(f"the pieces of a packed array must hold {size} bytes and end with it, they hold {total}")
    return tuple(pieces)


def unpack_array(data: bytes, *, limits: Limits = LIMITS) -> np.ndarray:
    """The array of its packed form; for data that nobody else made, or in a process of its own (``received_array``).

    Raises:
        VolumeError: it cannot be unpacked.
    """
    header = read_header(data, limits=limits)
    flat = np.empty(math.prod(header.shape) * header.dtype.itemsize, np.uint8)
    filled = 0
    for start, packed, size in header.pieces:
        piece = data[start : start + packed]
        try:
            claimed, held, _ = blosc2.get_cbuffer_sizes(piece)
            if (claimed, held) != (size, packed):
                raise VolumeError(f"a piece of a packed array says {size} bytes outside and {claimed} inside")
            blosc2.decompress2(piece, dst=flat[filled : filled + size])
        except (RuntimeError, ValueError, TypeError) as error:
            raise VolumeError(f"a piece of a packed array cannot be decompressed: {error}") from error
        filled += size
    return flat.view(header.dtype.newbyteorder("<")).reshape(header.shape)


def received_array(data: bytes, *, limits: Limits = LIMITS) -> np.ndarray:
    """Unpack what a client sent, in a process of its own: (X, Y, Z), a first axis of one value is dropped.

    Raises:
        VolumeError: it has another shape or cannot be unpacked.
    """
    header = read_header(data, limits=limits)
    if len(_volume_shape(header.shape)) != 3:
        raise VolumeError(f"the array must have the shape (X, Y, Z) or (1, X, Y, Z), got {header.shape}")
    with tempfile.NamedTemporaryFile(prefix="monai-sam-array-") as file:
        file.write(data)
        file.flush()
        array = guarded.read_with("monailabel_app.nninteractive.packed_arrays:read_packed", Path(file.name)).array
    return array.astype(bool) if header.dtype == bool else array


def read_packed(path: Path) -> Volume:
    """A packed array in a file, as the process that reads files gives it back; bool becomes uint8."""
    array = unpack_array(path.read_bytes())
    array = array.reshape(_volume_shape(array.shape))
    plain = {"b": np.uint8, "f": np.float64 if array.dtype.itemsize == 8 else np.float32}
    return Volume(array.astype(plain.get(array.dtype.kind, array.dtype), copy=False), np.eye(4), "other", path)


def _volume_shape(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[1:]) if len(shape) == 4 and shape[0] == 1 else tuple(shape)
