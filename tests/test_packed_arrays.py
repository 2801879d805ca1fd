"""Packed arrays: what nnInteractive's own client packs we unpack, the other way round, and nothing else."""

from __future__ import annotations

import struct

import nnInteractive.inference.remote.serialization as client
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bundle.data.limits import Limits
from bundle.errors import VolumeError
from monailabel_app.nninteractive.packed_arrays import pack_array, read_header, received_array, unpack_array

DTYPES = ["bool", "uint8", "int16", "uint16", "int32", "int64", "float16", "float32", "float64"]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda name: arrays(name, st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple))
)


@given(ARRAYS)
def test_what_the_client_packs_is_unpacked_bit_for_bit(array):
    found = unpack_array(client.pack_array(array))
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())


@given(ARRAYS)
def test_the_client_unpacks_what_we_pack(array):
    found = client.unpack_array(pack_array(array))
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize("array", [np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4), np.ones((3, 4, 5), bool)])
def test_an_array_that_was_received_is_unpacked_in_another_process(array):
    found = received_array(client.pack_array(array))
    np.testing.assert_array_equal(found, array.reshape(found.shape))
    assert found.ndim == 3
    assert found.dtype == array.dtype


def header(*, magic=b"NNIA", version=1, codec=1, name=b"uint8", shape=(2, 3, 4), pieces=1, ndim=None):
    ndim = len(shape) if ndim is None else ndim
    start = struct.pack("<4sBBBB", magic, version, codec, ndim, len(name)) + name
    return start + struct.pack(f"<{len(shape)}qI", *shape, pieces)


PIECE = pack_array(np.zeros((2, 3, 4), np.uint8))[len(header()) :]


def test_the_header_that_the_tests_damage_is_a_right_one():
    assert unpack_array(header() + PIECE).shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends within its header"),
        (header()[:20], "ends within its header"),
        (header(magic=b"NOPE") + PIECE, "begins with 'NNIA'"),
        (header(version=2) + PIECE, "version 2"),
        (header(codec=7) + PIECE, "codec 7"),
        (header(name=b"object") + PIECE, "got 'object'"),
        (header(name=b"\xff\xfe") + PIECE, "holds one of"),
        (header(shape=(0, 3, 4)) + PIECE, "at least one value"),
        (header(shape=(-2, -3, 4)) + PIECE, "at least one value"),
        (header(shape=(1, 1, 2, 3, 4)) + PIECE, "1 to 4 axes"),
        (header(ndim=255) + PIECE, "ends within its header"),
        (header(shape=(2**40, 3, 4)) + PIECE, "larger than is taken"),
        (header(pieces=2**32 - 1) + PIECE, "at most 1 pieces"),
        (header() + PIECE[:-1], "claims"),
        (header() + PIECE + b"x", "end with it"),
        (header(shape=(2, 3, 5)) + PIECE, "must hold 30 bytes"),
        (header() + struct.pack("<QQ", 24, 4) + b"abcd", "claims 4 bytes"),
        (header() + struct.pack("<QQ", 24, 40) + bytes(40), "inside|decompressed"),
    ],
)
def test_a_packed_array_that_is_none_is_refused_with_a_sentence(data, message):
    with pytest.raises(VolumeError, match=message):
        unpack_array(data)


def test_a_small_limit_is_kept_before_anything_is_unpacked():
    with pytest.raises(VolumeError, match="MONAI_SAM_MAX_VOXELS"):
        read_header(header() + PIECE, limits=Limits(voxels=23))


@given(st.integers(0, len(header() + PIECE) - 1), st.integers(0, 255))
def test_a_damaged_byte_of_the_header_is_refused_or_changes_the_claim_alone(place, value):
    data = bytearray(header() + PIECE)
    data[place] = value
    try:
        read_header(bytes(data))
    except VolumeError:
        return


@pytest.mark.parametrize("place", range(0, len(PIECE) - 16, 8))
def test_a_damaged_piece_never_ends_the_server(place):
    data = bytearray(header() + PIECE)
    data[len(header()) + 16 + place] ^= 0xFF
    try:
        assert received_array(bytes(data)).shape == (2, 3, 4)
    except VolumeError:
        return
