"""Damage inside of gzip and zip files, whose checksums are made right again, and damage to the containers."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random

from fuzzing.mutate_bytes import mutate, packed

Mutator = Callable[[Random, bytes], bytes]


def inside_gzip(inner: Mutator) -> Mutator:
    """Mutate what a gzip file holds."""

    def mutate_gzip(rng: Random, data: bytes) -> bytes:
        way = rng.random()
        if way < 0.1:
            return mutate(rng, data)
        try:
            content = zlib.decompressobj(31).decompress(data, 1 << 20)
        except zlib.error:
            return mutate(rng, data)
        packed_again = gzip.compress(inner(rng, content), 1, mtime=0)
        if way < 0.13:
            return packed_again + rng.choice((packed_again, b"junk", b"\0" * 512))
        if way < 0.16:
            return packed_again[:-8] + rng.randbytes(8)
        if way < 0.18:
            return packed_again[: rng.randrange(len(packed_again))]
        if way < 0.2:  # a bomb: zeros in front of nothing
            return gzip.compress(content[:352] + bytes(rng.choice((1, 4)) << 20), 9, mtime=0)
        return packed_again

    return mutate_gzip


def inside_zip(inner: Callable[[Random, str, bytes], bytes], names: tuple[str, ...]) -> Mutator:
    """Mutate what a zip file holds.

    Args:
        inner: is given the name and content of a member.
        names: that a member may be renamed to.
    """

    def mutate_zip(rng: Random, data: bytes) -> bytes:
        if rng.random() < 0.15:
            return mutate(rng, data)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = [
                    (entry.filename, archive.read(entry)) for entry in archive.infolist() if entry.file_size < 1 << 20
                ]
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, zlib.error, EOFError):
            return mutate(rng, data)
        if not members:
            return mutate(rng, data)
        at = rng.randrange(len(members))
        name, content = members[at]
        way = rng.randrange(16)
        if way == 0:
            del members[at]
        elif way == 1:
            members.append((name, content))
        elif way == 2:
            members[at] = (rng.choice(names), content)
        elif way == 3:
            members.append((rng.choice(names), rng.choice(members)[1]))
        else:
            members[at] = (name, inner(rng, name, content))
        rebuilt = _zip(members, zipfile.ZIP_DEFLATED if rng.random() < 0.2 else zipfile.ZIP_STORED)
        return _lie(rng, rebuilt) if rng.random() < 0.12 else rebuilt

    return mutate_zip


def _zip(members: list[tuple[str, bytes]], method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            entry = zipfile.ZipInfo(name.encode("utf-8", "replace").decode(), (1980, 1, 1, 0, 0, 0))
            entry.compress_type = method
            archive.writestr(entry, content)
    return buffer.getvalue()


def _lie(rng: Random, data: bytes) -> bytes:
    """Change a field of a directory entry (method, flags, sizes, offset) or of the end record."""
    mark, places = rng.choice(
        (
            (b"PK\1\2", ((8, 16), (10, 16), (16, 32), (20, 32), (24, 32), (28, 16), (42, 32))),
            (b"PK\3\4", ((6, 16), (8, 16), (18, 32), (22, 32), (26, 16))),
            (b"PK\5\6", ((8, 16), (10, 16), (12, 32), (16, 32), (20, 16))),
        )
    )
    start = data.find(mark)
    if start < 0:
        return mutate(rng, data)
    offset, bits = rng.choice(places)
    value = packed(rng, bits) if bits == 32 else struct.pack("<H", rng.choice((0, 1, 8, 9, 12, 14, 93, 0xFFFF, 0x0801)))
    return data[: start + offset] + value + data[start + offset + len(value) :]


# ---- pickles --------------------------------------------------------------------------------------------------------

# Opcodes of the pickle machine that name, build, or keep: https://docs.python.org/3.11/library/pickletools.html
_OPCODES = (
    *(
        b"c__builtin__\neval\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ccollections\nOrderedDict\n",
        b"cos\nsystem\n",
    ),
    *(
        b"(",
        b")",
        b"R",
        b"b",
        b"}",
        b"]",
        b"u",
        b"s",
        b"t",
        b"0",
        b"2",
        b"1",
        b"N",
        b"Q",
        b".",
        b"\x81",
        b"\x93",
        b"\x94",
    ),
    *(
        b"K\xff",
        b"M\xff\xff",
        b"J\xff\xff\xff\x7f",
        b"J\x00\x00\x00\x80",
        b"\x8a\x08" + b"\xff" * 8,
        b"X\xff\xff\xff\x7f",
    ),
    *(b"h\xff", b"j\xff\xff\xff\x7f", b"q\x00", b"r\xff\xff\xff\xff", b"\x95" + b"\xff" * 8, b"G\x7f\xf0" + b"\0" * 6),
    *(b"ctorch.optim.adam\nAdam\n", b"ccollections\ndefaultdict\n", b"ctorch._utils\n_rebuild_parameter\n", b"l", b"d"),
    *(b"ctorch\nFloatStorage\n", b"ctorch.serialization\n_get_layout\n", b"cnumpy.core.multiarray\n_reconstruct\n"),
)


def mutate_pickle(rng: Random, data: bytes) -> bytes:
    """Insert or replace opcodes, or change any bytes."""
    if not data or rng.random() < 0.4:
        return mutate(rng, data)
    at = rng.randrange(len(data))
    opcodes = b"".join(rng.choice(_OPCODES) for _ in range(rng.choice((1, 1, 2, 5))))
    if rng.random() < 0.05:
        opcodes = rng.choice((b"(", b"]", b"}", b"K\x01\x85")) * rng.choice((1000, 20000))
    return data[:at] + opcodes + data[at + (len(opcodes) if rng.random() < 0.5 else 0) :]
