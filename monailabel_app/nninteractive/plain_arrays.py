"""Arrays as the older clients send them: ``.npy`` files and raw values, mostly in gzip. Sizes are bounded first."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Sequence

import numpy as np

from bundle.data.headers.archives import read_npy_header
from bundle.data.limits import LIMITS, Limits, variable_of
from bundle.errors import VolumeError
from monailabel_app.errors import RequestError


def gunzip(data: bytes, most: int) -> bytes:
    """Decompress gzip up to so many bytes.

    Raises:
        RequestError: it is none, it is cut off, or it holds more.
    """
    unpack = zlib.decompressobj(wbits=31)
    try:
        content = unpack.decompress(data, most + 1)
    except zlib.error as error:
        raise RequestError(f"the file must be gzip: {error}") from error
    if len(content) > most:
        raise RequestError(f"the file holds more than the {most} bytes that it may", status=413)
    if not unpack.eof:
        raise RequestError("the file ends in the middle of its gzip; send it whole")
    return content


def read_npy(data: bytes, *, shape: Sequence[int] | None = None, limits: Limits = LIMITS) -> np.ndarray:
    """A 3D array of a ``.npy`` file.

    Args:
        data: of the file.
        shape: that it must have; any where nothing is given.
        limits: how large it may be.

    Raises:
        RequestError: it is none, has another shape, holds no numbers, or is too large.
    """
    try:
        header = read_npy_header(io.BytesIO(data))
    except VolumeError as error:
        raise RequestError("the file must be .npy with a plain array, as numpy.save writes it") from error
    found, dtype = header.shape, header.dtype
    if dtype.kind not in "buif" or dtype.hasobject or dtype.itemsize > 8:
        raise RequestError(f"the array must hold numbers, got {str(dtype)[:80]}")
    if len(found) != 3 or min(found) < 1 or (shape is not None and tuple(found) != tuple(shape)):
        raise RequestError(f"the array must have the shape {tuple(shape) if shape else '(K, J, I)'}, got {found!s:.80}")
    return _array(data[header.length :], found, dtype, "F" if header.fortran_order else "C", limits)


def read_raw(data: bytes, shape: Sequence[int], *, limits: Limits = LIMITS) -> np.ndarray:
    """Raw little-endian float32 values, x fastest, of an image of ``shape`` (x, y, z): an array (z, y, x).

    Raises:
        RequestError: another number of bytes, or too many.
    """
    return _array(data, tuple(shape)[::-1], np.dtype("<f4"), "C", limits)


def _array(data: bytes, shape: Sequence[int], dtype: np.dtype, order: str, limits: Limits) -> np.ndarray:
    count = math.prod(shape)
    if count > limits.voxels:
        raise RequestError(
            f"the array has {count} voxels, {limits.voxels} are taken ({variable_of('voxels')})", status=413
        )
    if len(data) != count * dtype.itemsize:
        raise RequestError(f"an array of {tuple(shape)} {dtype} has {count * dtype.itemsize} bytes, got {len(data)}")
    return np.frombuffer(data, dtype).reshape(shape, order=order).astype(dtype.newbyteorder("="))


def packed_bits(mask: np.ndarray) -> bytes:
    """A mask as SlicerNNInteractive reads it: the bits of all voxels in C order, in gzip."""
    return gzip.compress(np.packbits(np.ascontiguousarray(mask, dtype=bool)).tobytes(), compresslevel=1)
