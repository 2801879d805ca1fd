"""Damage to PNG, JPEG and TIFF that leaves their frame whole, so that it gets past the first check."""

from __future__ import annotations

import struct
import zlib
from random import Random

from fuzzing.mutate_bytes import integer, mutate, packed

_PNG_TYPES = (
    b"IHDR",
    b"PLTE",
    b"IDAT",
    b"IEND",
    b"tRNS",
    b"gAMA",
    b"iCCP",
    b"sBIT",
    b"tEXt",
    b"zTXt",
    b"iTXt",
    b"pHYs",
)
_PNG_TYPES += (b"acTL", b"fcTL", b"fdAT", b"eXIf", b"sRGB", b"cHRM", b"xxxx")
_SPACINGS = (
    b"[1, 1, 2]",
    b"[0, 0, 0]",
    b"[1]",
    b"[]",
    b"{}",
    b"5",
    b"null",
    b"[NaN, 1, 1]",
    b"[1e400, 1, 1]",
    b"[-1, 1, 1]",
)
_SPACINGS += (b'["a", 1, 1]', b"[[1], 1, 1]", b"x", b"", b"[" * 5000, b"[1, 1, 1, 1]", b"[1" + b"0" * 500 + b", 1, 1]")


def mutate_png(rng: Random, data: bytes) -> bytes:
    """Change, add, drop or move a chunk; its checksum is right afterwards."""
    if rng.random() < 0.15 or not data.startswith(b"\x89PNG"):
        return mutate(rng, data)
    chunks = _chunks(data)
    if not chunks:
        return mutate(rng, data)
    at = rng.randrange(len(chunks))
    kind, body = chunks[at]
    way = rng.randrange(12)
    if way <= 2:
        at = next((n for n, chunk in enumerate(chunks) if chunk[0] == b"IHDR" and len(chunk[1]) == 13), at)
        chunks[at] = (chunks[at][0], _header(rng, chunks[at][1]))
    elif way <= 4:
        at = next((n for n, chunk in enumerate(chunks) if chunk[0] == b"IDAT"), at)
        chunks[at] = (chunks[at][0], _pixels(rng, chunks[at][1]))
    elif way == 5:
        chunks[at] = (kind, mutate(rng, body))
    elif way == 6:
        chunks[at] = (rng.choice(_PNG_TYPES), body)
    elif way == 7:
        del chunks[at]
    elif way == 8:
        chunks.insert(rng.randrange(len(chunks) + 1), chunks[at])
    elif way == 9:
        chunks.insert(1, _text(rng))
    elif way == 10:
        other = rng.randrange(len(chunks))
        chunks[at], chunks[other] = chunks[other], chunks[at]
    else:
        chunks.insert(1, (rng.choice(_PNG_TYPES), rng.randbytes(rng.choice((0, 4, 8, 26, 64)))))
    return data[:8] + b"".join(png_chunk(*chunk) for chunk in chunks)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        if at + 12 + length > len(data):
            break
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def _header(rng: Random, body: bytes) -> bytes:
    out = bytearray(body)
    at = rng.choice((0, 4, 8, 9, 10, 11, 12))
    if at < 8:
        out[at : at + 4] = struct.pack(
            ">I", rng.choice((0, 1, 3, 5, 100, 10000, 20000, 65535, 2**31 - 1, integer(rng, 32)))
        )
    else:
        out[at] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, rng.randrange(256)))
    return bytes(out)


def _pixels(rng: Random, body: bytes) -> bytes:
    try:
        content = zlib.decompressobj().decompress(body, 1 << 20)
    except zlib.error:
        return mutate(rng, body)
    return zlib.compress(bytes(1 << 20) if rng.random() < 0.05 else mutate(rng, content), 1)


def _text(rng: Random) -> tuple[bytes, bytes]:
    value = rng.choice(_SPACINGS)
    way = rng.randrange(3)
    key = rng.choice((b"monai-sam spacing", b"monai-sam spacing", b"Comment", b"", b"k" * 100))
    if way == 0:
        return b"tEXt", key + b"\0" + value
    if way == 1:
        return b"zTXt", key + b"\0\0" + zlib.compress(value if rng.random() < 0.9 else bytes(2 << 20))
    return b"iTXt", key + b"\0\0\0\0\0" + value


def mutate_jpeg(rng: Random, data: bytes) -> bytes:
    """Change, drop or double a segment, or the sizes in the frame header."""
    if rng.random() < 0.25:
        return mutate(rng, data)
    segments, rest = _segments(data)
    if not segments:
        return mutate(rng, data)
    at = rng.randrange(len(segments))
    marker, body = segments[at]
    way = rng.randrange(8)
    if way <= 1:
        at = next((n for n, s in enumerate(segments) if 0xC0 <= s[0] <= 0xCF and s[0] not in (0xC4, 0xC8)), at)
        out = bytearray(segments[at][1])
        if len(out) >= 6:
            place = rng.choice((0, 1, 3, 5))
            size = 2 if place in (1, 3) else 1
            out[place : place + size] = packed(rng, 8 * size, ">")
        segments[at] = (segments[at][0], bytes(out))
    elif way <= 3:
        segments[at] = (marker, mutate(rng, body)[:60000])
    elif way == 4:
        segments[at] = (rng.choice((*range(0xC0, 0xD0), *range(0xDA, 0xF0), 0xFE)), body)
    elif way == 5:
        segments.insert(rng.randrange(len(segments) + 1), segments[at])
    elif way == 6:
        del segments[at]
    else:
        exif = b"Exif\0\0" + mutate(rng, b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")
        segments.insert(0, (0xE1, exif[:60000]))
    out = b"".join(b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments)
    return data[:2] + out + (mutate(rng, rest) if rng.random() < 0.1 else rest)


def _segments(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """(marker, content) up to the scan, and the scan with all behind it."""
    segments, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        length = struct.unpack_from(">H", data, at + 2)[0]
        segments.append((data[at + 1], data[at + 4 : at + 2 + length]))
        at += 2 + length
    return segments, data[at:]


# Tags of TIFF 6.0 that decide how much is read and how, and what else a reader may follow.
_TIFF_TAGS = (254, 256, 257, 258, 259, 262, 266, 270, 273, 274, 277, 278, 279, 282, 284, 292, 296, 317, 320, 322, 323)
_TIFF_TAGS += (324, 325, 330, 338, 339, 340, 347, 530, 532, 33432, 34377, 34665, 34853, 42112, 50838, 50839)
_COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34712, 34925, 50000, 50001, 65000)


def mutate_tiff(rng: Random, data: bytes) -> bytes:
    """Change an entry of the directory (tag, type, count, value), or the chain of directories."""
    if len(data) < 16 or rng.random() < 0.2:
        return mutate(rng, data)
    order = ">" if data[:2] == b"MM" else "<"
    start = struct.unpack_from(order + "I", data, 4)[0]
    if start + 2 > len(data):
        return mutate(rng, data)
    count = min(struct.unpack_from(order + "H", data, start)[0], (len(data) - start - 2) // 12)
    out = bytearray(data)
    way = rng.randrange(14)
    if not count or way == 0:
        out[4:8] = struct.pack(order + "I", rng.choice((0, 8, start, len(data), 2**32 - 1, rng.randrange(len(data)))))
    elif way == 1:
        end = start + 2 + 12 * count
        out[end : end + 4] = struct.pack(order + "I", rng.choice((start, 8, len(data) - 4, 2**32 - 1)))
    elif way == 2:
        out[start : start + 2] = struct.pack(order + "H", rng.choice((0, count + 1, count - 1, 65535)))
    else:
        entry = start + 2 + 12 * rng.randrange(count)
        if way == 3:
            struct.pack_into(order + "H", out, entry, rng.choice(_TIFF_TAGS))
        elif way == 4:
            struct.pack_into(order + "H", out, entry + 2, rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 16, 65535)))
        elif way == 5:
            struct.pack_into(order + "I", out, entry + 4, rng.choice((0, 1, 2, 3, 1000, integer(rng, 32))))
        elif struct.unpack_from(order + "H", out, entry)[0] == 259:
            struct.pack_into(order + "H", out, entry + 8, rng.choice(_COMPRESSIONS))
        else:
            bits = 16 if struct.unpack_from(order + "H", out, entry + 2)[0] == 3 else 32
            value = rng.choice((0, 1, 2, 3, 4, 8, 16, 32, 10000, 65535, integer(rng, bits)))
            out[entry + 8 : entry + 8 + bits // 8] = (value % (1 << bits)).to_bytes(
                bits // 8, "big" if order == ">" else "little"
            )
    return bytes(out)
