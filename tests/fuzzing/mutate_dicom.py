"""Damage to DICOM data elements: VR, length, value, place, sequences; PS3.5 chapter 7 says how they are laid out."""

from __future__ import annotations

import struct
from functools import lru_cache
from random import Random
from typing import NamedTuple

from fuzzing.mutate_bytes import LONGEST, integer, mutate, number_text

_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_SHORT = (
    b"AE",
    b"AS",
    b"AT",
    b"CS",
    b"DA",
    b"DS",
    b"DT",
    b"FD",
    b"FL",
    b"IS",
    b"LO",
    b"LT",
    b"PN",
    b"SH",
    b"SL",
    b"SS",
)
_SHORT += (b"ST", b"TM", b"UI", b"UL", b"US")
_ODD = (b"\0\0", b"ZZ", b"  ", b"ox", b"\xff\xff", b"??", b"OX", b"QQ")
_ITEM, _END_ITEM, _END_SEQUENCE = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"
_OPEN_LENGTH = b"\xff\xff\xff\xff"

_SYNTAXES = tuple(
    f"1.2.840.10008.1.2{rest}".encode()
    for rest in (
        *("", ".1", ".1.98", ".1.99", ".2", ".4.50", ".4.51", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91"),
        *(".4.100", ".4.102", ".4.201", ".4.203", ".5", ".6.1", ".7.1", ".9", ".4.50.1.1.1"),
    )
)
# (group, element) -> values that are worth trying, as text; numbers of a binary VR come from ``integer``.
_VALUES: dict[tuple[int, int], tuple[bytes, ...]] = {
    (0x0002, 0x0010): _SYNTAXES,
    (0x0008, 0x0005): (b"ISO_IR 100", b"ISO_IR 192", b"ISO 2022 IR 87", b"\\ISO 2022 IR 13", b"x" * 64, b""),
    (0x0008, 0x0016): (
        b"1.2.840.10008.5.1.4.1.1.2",
        b"1.2.840.10008.5.1.4.1.1.66.4",
        b"1.2.840.10008.5.1.4.1.1.88.11",
        b"1",
    ),
    (0x0008, 0x0008): (b"ORIGINAL\\PRIMARY\\AXIAL", b"LOCALIZER", b"\\" * 500, b""),
    (0x0008, 0x0060): (b"CT", b"MR", b"SEG", b"RTSTRUCT", b"SR", b"", b"\0\0"),
    (0x0018, 0x0050): (b"1", b"0", b"-1", b"nan"),
    (0x0018, 0x0088): (b"2", b"0", b"-2", b"1e400"),
    (0x0020, 0x000D): (b"1.2.3", b"", b"1.2.3.4", b"9" * 64),
    (0x0020, 0x000E): (b"1.2.3", b"", b"1.2.3.9", b"9" * 64),
    (0x0020, 0x0032): (b"0\\0\\0", b"0\\0", b"nan\\0\\0", b"1e400\\0\\0", b"0\\0\\5", b"", b"a\\b\\c", b"0\\0\\0\\0"),
    (0x0020, 0x0037): (
        b"1\\0\\0\\0\\1\\0",
        b"1\\0\\0\\1\\0\\0",
        b"0\\0\\0\\0\\0\\0",
        b"nan\\0\\0\\0\\1\\0",
        b"1\\0",
        b"",
    ),
    (0x0028, 0x0004): (
        b"MONOCHROME1",
        b"MONOCHROME2",
        b"RGB",
        b"PALETTE COLOR",
        b"YBR_FULL",
        b"YBR_FULL_422",
        b"ARGB",
        b"",
    ),
    (0x0028, 0x0008): (b"1", b"2", b"0", b"-1", b"100000", b"2147483647", b"99999999999", b"x", b""),
    (0x0028, 0x0030): (b"1\\1", b"0\\0", b"-1\\1", b"1", b"nan\\1", b"1e400\\1", b"", b"a\\1", b"1\\1\\1"),
    (0x0028, 0x1052): (b"0", b"-1024", b"1e308", b"nan", b"x", b""),
    (0x0028, 0x1053): (b"1", b"0", b"-1", b"1e308", b"1e-320", b"nan", b"x", b""),
    (0x0062, 0x0001): (b"BINARY", b"FRACTIONAL", b"LABELMAP", b""),
}
# Elements that change how pixels are read, and (group, element, VR) of what may be added.
_NUMBERS = {
    (0x0028, 0x0002): (1, 3, 0, 4, 2, 65535),
    (0x0028, 0x0006): (0, 1, 2),
    (0x0028, 0x0010): (3, 0, 1, 4, 65535, 4096),
    (0x0028, 0x0011): (4, 0, 1, 3, 65535, 4096),
    (0x0028, 0x0100): (8, 16, 1, 12, 32, 64, 0, 24, 65535),
    (0x0028, 0x0101): (8, 16, 12, 1, 0, 17, 65535),
    (0x0028, 0x0102): (7, 15, 11, 0, 16, 65535),
    (0x0028, 0x0103): (0, 1, 2),
    (0x0028, 0x1101): (0, 4, 256),
}
_ADDED = (
    *(
        (0x0002, 0x0000, b"UL"),
        (0x0002, 0x0010, b"UI"),
        (0x0002, 0x0100, b"UI"),
        (0x0004, 0x1220, b"SQ"),
        (0x0008, 0x0000, b"UL"),
    ),
    *(
        (0x0008, 0x0005, b"CS"),
        (0x0008, 0x0060, b"CS"),
        (0x0008, 0x1140, b"SQ"),
        (0x0008, 0x2112, b"SQ"),
        (0x0009, 0x0010, b"LO"),
    ),
    *(
        (0x0018, 0x0050, b"DS"),
        (0x0018, 0x0088, b"DS"),
        (0x0020, 0x0032, b"DS"),
        (0x0020, 0x0037, b"DS"),
        (0x0020, 0x9221, b"SQ"),
    ),
    *(
        (0x0028, 0x0002, b"US"),
        (0x0028, 0x0004, b"CS"),
        (0x0028, 0x0006, b"US"),
        (0x0028, 0x0008, b"IS"),
        (0x0028, 0x0009, b"AT"),
    ),
    *(
        (0x0028, 0x0030, b"DS"),
        (0x0028, 0x1052, b"DS"),
        (0x0028, 0x1053, b"DS"),
        (0x0028, 0x1101, b"US"),
        (0x0028, 0x1201, b"OW"),
    ),
    *(
        (0x0028, 0x3000, b"SQ"),
        (0x0040, 0x9096, b"SQ"),
        (0x0062, 0x0001, b"CS"),
        (0x0062, 0x0002, b"SQ"),
        (0x5200, 0x9229, b"SQ"),
    ),
    *(
        (0x5200, 0x9230, b"SQ"),
        (0x6000, 0x3000, b"OW"),
        (0x7FE0, 0x0001, b"OV"),
        (0x7FE0, 0x0008, b"OF"),
        (0x7FE0, 0x0010, b"OB"),
    ),
    *(
        (0x7FE0, 0x0010, b"OW"),
        (0xFFFC, 0xFFFC, b"OB"),
        (0xFFFA, 0xFFFA, b"SQ"),
        (0x0029, 0x1010, b"UN"),
        (0xFFFF, 0xFFFF, b"UN"),
    ),
)


class _Element(NamedTuple):
    """One header of the stream with its value; items and delimiters of sequences have no VR."""

    tag: tuple[int, int]
    vr: bytes
    length: bytes  # as stored: 2 or 4 bytes
    value: bytes  # b"" where the content of a sequence or item follows as elements of their own


def mutate_dicom(rng: Random, data: bytes) -> bytes:
    """Change one or two elements of an explicit little endian file, or any bytes of another one."""
    if data[128:132] != b"DICM" or rng.random() < 0.15:
        return mutate(rng, data)
    found, rest = _elements(data[132:])
    if len(found) < 3:
        return mutate(rng, data)
    elements = list(found)
    for _ in range(rng.choice((1, 1, 2))):
        _change(rng, elements)
    return (data[:132] + b"".join(map(_stored, elements)) + rest)[:LONGEST]


@lru_cache(maxsize=1000)  # seeds and kept inputs come again and again, and this is most of the work
def _elements(data: bytes) -> tuple[tuple[_Element, ...], bytes]:
    """The stream of element headers, sequences entered, and the bytes that could not be understood."""
    found, at = [], 0
    while at + 8 <= len(data):
        tag = struct.unpack_from("<HH", data, at)
        if tag[0] == 0xFFFE:
            found.append(_Element(tag, b"", data[at + 4 : at + 8], b""))
            at += 8
            continue
        vr = data[at + 4 : at + 6]
        wide = vr in _LONG
        if not wide and vr not in _SHORT:
            break
        start = at + (12 if wide else 8)
        length = data[start - 4 : start] if wide else data[start - 2 : start]
        size = int.from_bytes(length, "little")
        size = 0 if vr == b"SQ" or length == _OPEN_LENGTH else size
        if start + size > len(data):
            break
        found.append(_Element(tag, vr, length, data[start : start + size]))
        at = start + size
    return tuple(found), data[at:]


def _stored(element: _Element) -> bytes:
    tag = struct.pack("<HH", *element.tag)
    if element.tag[0] == 0xFFFE:
        return tag + element.length + element.value
    reserved = b"\0\0" if len(element.length) == 4 and element.vr else b""
    return tag + element.vr + reserved + element.length + element.value


def _change(rng: Random, elements: list[_Element]) -> None:
    at = rng.randrange(len(elements))
    if rng.random() < 0.5:  # half of the time one that decides how pixels are read
        telling = [
            n for n, e in enumerate(elements) if e.tag in _VALUES or e.tag in _NUMBERS or e.tag[0] in (2, 0x7FE0)
        ]
        at = rng.choice(telling or [at])
    element = elements[at]
    way = rng.randrange(16)
    if way <= 6:
        elements[at] = _with_value(element, _value(rng, element))
    elif way == 7:
        elements[at] = _with_vr(rng, element)
    elif way == 8:
        wrong = _OPEN_LENGTH if rng.random() < 0.3 else integer(rng, 8 * len(element.length))
        wrong = wrong if isinstance(wrong, bytes) else wrong.to_bytes(len(element.length), "little")
        elements[at] = element._replace(length=wrong[: len(element.length)])
    elif way == 9:
        del elements[at]
    elif way == 10:
        elements.insert(at, elements[rng.randrange(len(elements))])
    elif way == 11:
        other = rng.randrange(len(elements))
        elements[at], elements[other] = elements[other], elements[at]
    elif way <= 13:
        group, number, vr = rng.choice(_ADDED)
        new = _Element((group, number), vr, b"\0\0\0\0" if vr in _LONG else b"\0\0", b"")
        elements.insert(at, _with_value(new, _nested(rng) if vr == b"SQ" else _value(rng, new)))
    elif way == 14:
        elements.insert(at, _Element((0x0040, 0xA730), b"SQ", _OPEN_LENGTH, _deep(rng)))
    else:
        elements[at] = element._replace(value=mutate(rng, element.value))


def _with_value(element: _Element, value: bytes) -> _Element:
    value += b"\0" * (len(value) % 2)
    size = min(len(value), (1 << 8 * len(element.length)) - 2)
    return element._replace(value=value[:size], length=size.to_bytes(len(element.length), "little"))


def _with_vr(rng: Random, element: _Element) -> _Element:
    """Another VR; half of the time with the length field that it asks for."""
    vr = rng.choice(rng.choice((_LONG, _SHORT, _ODD)))
    if rng.random() < 0.5:
        return element._replace(vr=vr)
    size = 4 if vr in _LONG else 2
    return element._replace(
        vr=vr, length=(int.from_bytes(element.length, "little") % (1 << 8 * size)).to_bytes(size, "little")
    )


def _value(rng: Random, element: _Element) -> bytes:
    if element.tag in _VALUES and rng.random() < 0.8:
        return rng.choice(_VALUES[element.tag])
    if element.vr in (b"US", b"SS", b"UL", b"SL", b"FD", b"FL", b"AT"):
        width = {b"US": 2, b"SS": 2, b"FD": 8}.get(element.vr, 4)
        if element.tag in _NUMBERS and rng.random() < 0.8:
            return struct.pack("<H", rng.choice(_NUMBERS[element.tag]))
        return b"".join(
            integer(rng, 8 * width).to_bytes(width, "little") for _ in range(rng.choice((1, 1, 1, 0, 2, 3)))
        )
    if element.vr in (b"DS", b"IS"):
        return b"\\".join(number_text(rng) for _ in range(rng.choice((1, 1, 2, 3, 6, 0, 100))))
    if element.tag == (0x7FE0, 0x0010):
        return _pixels(rng, element.value)
    return rng.choice(
        (b"", b"x" * 64, b"\\" * 20, b"\0" * 8, b"\x1b$B\x1b(J", b"\xff\xfe", b"1" * 3000, mutate(rng, element.value))
    )


def _pixels(rng: Random, value: bytes) -> bytes:
    """Pixel data that is shorter, longer, or a row of fragments as a compressed syntax wants them."""
    way = rng.randrange(5)
    if way == 0:
        return value[: rng.randrange(len(value) + 1)]
    if way == 1:
        return value + rng.randbytes(rng.choice((2, 48, 500)))
    fragments = [b"", rng.choice((value, b"\xff\xd8\xff\xe0", b"\xff\x4f\xff\x51", rng.randbytes(40)))]
    sizes = [len(fragment) if rng.random() < 0.8 else integer(rng, 32) for fragment in fragments]
    parts = (_ITEM + struct.pack("<I", size) + part for size, part in zip(sizes, fragments, strict=True))
    return b"".join(parts) + (_END_SEQUENCE + b"\0\0\0\0" if rng.random() < 0.7 else b"")


def _nested(rng: Random) -> bytes:
    inner = struct.pack("<HH", 0x0008, 0x0100) + b"SH\2\0A "
    open_item = rng.random() < 0.5
    item = _ITEM + (_OPEN_LENGTH if open_item else struct.pack("<I", len(inner))) + inner
    return (item + (_END_ITEM + b"\0\0\0\0" if open_item else b"")) * rng.choice((0, 1, 2, 50))


def _deep(rng: Random) -> bytes:
    """Sequences in sequences, some never closed; readers that call themselves for each run out of stack."""
    depth = rng.choice((3, 60, 260, 1100, 2500))
    start = _ITEM + _OPEN_LENGTH + struct.pack("<HH", 0x0040, 0xA730) + b"SQ\0\0" + _OPEN_LENGTH
    end = _END_SEQUENCE + b"\0\0\0\0" + _END_ITEM + b"\0\0\0\0"
    closed = depth if rng.random() < 0.6 else rng.randrange(depth)
    return start * depth + _END_SEQUENCE + b"\0\0\0\0" + end * closed
