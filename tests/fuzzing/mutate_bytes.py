"""Damage to any bytes, and the numbers that are worth trying anywhere."""

from __future__ import annotations

import re
import struct
from random import Random

LONGEST = 1 << 16  # no mutated file gets longer: time goes into many small ones
_NUMBER = re.compile(rb"-?\d+(\.\d+)?")


def integer(rng: Random, bits: int) -> int:
    """A number at an edge of what ``bits`` bits hold, as unsigned."""
    top = 1 << bits
    power = 1 << rng.randrange(bits)
    choices = (0, 1, 2, 3, top - 1, top - 2, top // 2, top // 2 - 1, power, power - 1, power + 1, rng.randrange(top))
    return rng.choice(choices) % top


def packed(rng: Random, bits: int, order: str = "<") -> bytes:
    """``integer`` as bytes; for 32 and 64 bits now and then a float that breaks arithmetic."""
    if bits >= 32 and rng.random() < 0.25:
        value = rng.choice((0.0, -0.0, -1.0, 1e30, -1e30, float("nan"), float("inf"), -float("inf"), 1e-40, 0.5))
        return struct.pack(order + ("f" if bits == 32 else "d"), value)
    return integer(rng, bits).to_bytes(bits // 8, "little" if order == "<" else "big")


def number_text(rng: Random) -> bytes:
    """A number as a text header may hold it, right ones among them."""
    value = rng.choice(_NUMBERS)
    return value if rng.random() < 0.8 else b"%d" % (integer(rng, rng.choice((8, 16, 32, 64))) - (rng.random() < 0.3))


_NUMBERS = (
    *(b"0", b"1", b"2", b"3", b"4", b"5", b"8", b"10", b"16", b"17", b"100", b"255", b"256", b"1000", b"4096", b"4097"),
    *(b"-1", b"-2", b"-0", b"+3", b"32767", b"32768", b"65535", b"65536", b"100000", b"2147483647", b"2147483648"),
    *(b"-2147483648", b"4294967295", b"4294967296", b"4294967297", b"9223372036854775807", b"9223372036854775808"),
    *(b"18446744073709551615", b"18446744073709551616", b"-9223372036854775808", b"1e9", b"1e19", b"1e308", b"1e400"),
    *(b"nan", b"NaN", b"inf", b"-inf", b"1.5", b"0.0", b"-0.5", b"1e-320", b".", b"-", b"0x10", b"1_0", b"1,5", b"1e"),
    *(b"007", b"", b" ", b"99999999999999999999999999999999", "٣".encode(), "³".encode()),
)


def mutate(rng: Random, data: bytes) -> bytes:
    """One damage to the bytes."""
    if not data:
        return rng.randbytes(rng.randrange(1, 64))
    return rng.choice(_WAYS)(rng, data)[:LONGEST]


def _place(rng: Random, data: bytes) -> int:
    """Headers are at the start: half of the time the place lies there."""
    return rng.randrange(min(len(data), 400) if rng.random() < 0.5 else len(data))


def _flip(rng: Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        out[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(out)


def _set(rng: Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + bytes([rng.choice((0, 0xFF, 0x7F, 0x80, 0x20, 0x0A, rng.randrange(256)))]) + data[at + 1 :]


def _overwrite(rng: Random, data: bytes) -> bytes:
    at = _place(rng, data)
    value = packed(rng, rng.choice((8, 16, 32, 64)), rng.choice("<>"))
    return data[:at] + value + data[at + len(value) :]


def _insert(rng: Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.randbytes(rng.choice((1, 1, 2, 4, 16, 300))) + data[at:]


def _delete(rng: Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice((1, 1, 2, 4, 16, 128)) :]


def _repeat(rng: Random, data: bytes) -> bytes:
    at = _place(rng, data)
    part = data[at : at + rng.choice((1, 4, 16, 64))]
    return data[:at] + part * rng.choice((2, 2, 3, 100, 1100)) + data[at:]


def _move(rng: Random, data: bytes) -> bytes:
    at, to, size = _place(rng, data), _place(rng, data), rng.choice((4, 8, 32))
    part = data[at : at + size]
    return data[:to] + part + data[to + len(part) :]


def _cut(rng: Random, data: bytes) -> bytes:
    return data[: _place(rng, data)]


def _append(rng: Random, data: bytes) -> bytes:
    return data + rng.choice((b"\0", b"\n", rng.randbytes(64), data, b"\0" * 5000))


def _clear(rng: Random, data: bytes) -> bytes:
    at, size = _place(rng, data), rng.choice((2, 4, 16, 64))
    return data[:at] + bytes([rng.choice((0, 0xFF, 0x20))]) * len(data[at : at + size]) + data[at + size :]


def _number(rng: Random, data: bytes) -> bytes:
    found = list(_NUMBER.finditer(data[:2000]))
    if not found:
        return _overwrite(rng, data)
    match = rng.choice(found)
    return data[: match.start()] + number_text(rng) + data[match.end() :]


_WAYS = (_flip, _flip, _set, _overwrite, _overwrite, _insert, _delete, _repeat, _move, _cut, _append, _clear, _number)
