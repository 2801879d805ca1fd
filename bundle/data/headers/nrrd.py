"""The header of NRRD files (https://teem.sourceforge.net/nrrd/format.html), strictly."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from bundle.data.headers.claims import (
    NUMBER,
    VALUE,
    Claim,
    check_deflated,
    check_raw,
    damaged,
    detached_file,
    header_lines,
    refusal,
)
from bundle.data.headers.lengths import length_unit
from bundle.data.limits import LIMITS, Limits

# The format's own words for a type, as NumPy calls it; "block" has no type.
_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int"), "i8"),
    **dict.fromkeys(("int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
_SPELLINGS = {
    **{name.replace(" ", ""): name for name in ("space dimension", "space directions", "space origin", "space units")},
    **{name.replace(" ", ""): name for name in ("axis mins", "axis maxs", "old min", "old max", "sample units")},
    **{name.replace(" ", ""): name for name in ("line skip", "byte skip", "measurement frame", "data file")},
    "centers": "centerings",
}
_VECTOR = rf"\(\s*{NUMBER}(?:\s*,\s*{NUMBER}){{0,4}}\s*\)"
_WORD = r"[\w?.+-]{1,40}"


def _listed(part: str) -> str:
    return rf"{part}(?:\s+{part}){{0,4}}"


# What a field may say; its text is taken for nothing else.
_GRAMMAR = {
    "type": r"[\w ]{1,40}",
    "dimension": r"[2-5]",
    "sizes": _listed(r"\d{1,18}"),
    "spacings": _listed(rf"(?:{NUMBER}|nan)"),
    "thicknesses": _listed(rf"(?:{NUMBER}|nan)"),
    "axis mins": _listed(rf"(?:{NUMBER}|nan)"),
    "axis maxs": _listed(rf"(?:{NUMBER}|nan)"),
    "space": r"(?:RAS|LAS|LPS)T?"
    r"|(?:(?:right-anterior|left-anterior|left-posterior)-superior|scanner-xyz|3D-(?:right|left)-handed)(?:-time)?",
    "space dimension": r"[1-5]",
    "space directions": _listed(rf"(?:{_VECTOR}|none)"),
    "space origin": _VECTOR,
    "measurement frame": _listed(_VECTOR),
    "centerings": _listed(_WORD),
    "kinds": _listed(_WORD),
    "old min": VALUE,
    "old max": VALUE,
    "endian": r"little|big",
    "encoding": r"raw|gzip|gz",
    "line skip": r"0",
    "byte skip": r"0|-1",
    "data file": r".+",
}
_PER_AXIS = ("sizes", "spacings", "thicknesses", "axis mins", "axis maxs", "space directions", "centerings", "kinds")
_FREE_TEXT = ("content", "number", "labels", "units", "space units", "sample units", "min", "max")
_UNUSED = ("block size", "key/value", "#")  # fields to the library, of no use in an image
_DOMAIN = ("domain", "space", "time", "none", "???")  # kinds of axes along which voxels lie, not values of one voxel
_REQUIRED = ("dimension", "type", "sizes", "encoding")
_LONGEST_FIELD = 600


class NrrdHeader(NamedTuple):
    """What the header of a file says, and where its voxels begin.

    Attributes:
        fields: by the first spelling of their names, each in its grammar.
        data: the file of the voxels.
        offset: of the first one, or of the gzip stream that holds them.
        unit: of lengths, see ``length_unit``.
    """

    fields: dict[str, str]
    data: Path
    offset: int
    unit: str

    @property
    def sizes(self) -> list[int]:
        """Voxels, or values of one voxel, along each axis."""
        return [int(size) for size in self.fields["sizes"].split()]

    @property
    def domain(self) -> list[int]:
        """The axes along which voxels lie; along the others lie the values of one voxel."""
        return _domain(self.fields, len(self.sizes))

    @property
    def dtype(self) -> np.dtype:
        """Of a stored value, in its byte order."""
        order = ">" if self.fields.get("endian", "little").lower() == "big" else "<"
        return np.dtype(order + _TYPES[self.fields["type"].lower()])

    @property
    def is_raw(self) -> bool:
        """Whether the voxels are not compressed."""
        return self.fields["encoding"].lower() == "raw"


def read_header(path: Path, limits: Limits = LIMITS) -> NrrdHeader:
    """The header of a NRRD file whose voxels are all there, as far as can be told without reading them.

    Raises:
        VolumeError: see ``check_header``.
    """
    with path.open("rb") as file:
        fields = _read_fields(file, path, limits)
        claim = _claim_of(fields, path)
        claim.check(path, limits)
        header = NrrdHeader(fields, path, file.tell(), _unit_of(fields, path))
    if "data file" in fields:
        header = header._replace(data=detached_file(path, fields["data file"]), offset=0)
    available = header.data.stat().st_size - header.offset
    if header.is_raw:
        check_raw(path, claim, available)
        at_the_end = fields.get("byte skip") == "-1"
        return header._replace(offset=header.offset + (available - claim.data_bytes) * at_the_end)
    with header.data.open("rb") as file:
        file.seek(header.offset)
        if file.read(2) != b"\x1f\x8b":
            raise damaged(path, "expected its voxels to be a gzip stream")
    check_deflated(path, claim, available)
    return header


def check_nrrd(path: Path, limits: Limits) -> None:
    """Refuse a NRRD file whose header is damaged or claims too much: see ``check_header``."""
    read_header(path, limits)


def _claim_of(fields: dict[str, str], path: Path) -> Claim:
    for name in _REQUIRED:
        if name not in fields:
            raise damaged(path, f"its header has no field {name!r}")
    dimension = int(fields["dimension"])
    for name in _PER_AXIS:
        given = re.findall(r"\([^)]*\)|\S+", fields.get(name, ""))
        if name in fields and len(given) != dimension:
            raise refusal(path, f"{name!r} must have {dimension} entries, one for each axis, got {len(given)}")
    kind = fields["type"].lower()
    if kind not in _TYPES:
        raise refusal(path, f"the type must be an integer, float or double, got {kind!r}; save it as one of these")
    item_bytes = np.dtype(_TYPES[kind]).itemsize
    if item_bytes > 1 and "endian" not in fields:
        raise refusal(path, f"its header has no field 'endian', which values of {item_bytes} bytes need; add it")
    sizes, domain = [int(size) for size in fields["sizes"].split()], _domain(fields, dimension)
    channels = math.prod(size for axis, size in enumerate(sizes) if axis not in domain)
    return Claim(tuple(sizes[axis] for axis in domain), item_bytes, channels)


def _unit_of(fields: dict[str, str], path: Path) -> str:
    """Of the space, or of the axes along which voxels lie."""
    of_space, of_axes = (re.findall(r'"([^"]*)"', fields.get(name, "")) for name in ("space units", "units"))
    domain = _domain(fields, int(fields["dimension"]))
    return length_unit(path, [*of_space, *(unit for axis, unit in enumerate(of_axes) if axis in domain)])


def _domain(fields: dict[str, str], dimension: int) -> list[int]:
    kinds = fields.get("kinds", "??? " * dimension).lower().split()
    return [axis for axis, kind in enumerate(kinds) if kind in _DOMAIN]


def _read_fields(file: BinaryIO, path: Path, limits: Limits) -> dict[str, str]:
    """The fields up to the empty line that ends the header, each under its first spelling and in its own grammar."""
    lines = header_lines(file, path, limits)
    magic = next(lines, "")
    if not re.fullmatch(r"NRRD000[1-5]", magic):
        raise damaged(path, f"expected it to begin with NRRD0001 to NRRD0005, got {magic[:20]!r}")
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            break
        name, separator, value = line.partition(": ")
        name = name.lower()
        name = _SPELLINGS.get(name, name)
        is_field = separator and name in {*_GRAMMAR, *_FREE_TEXT, *_UNUSED}
        if line.startswith("#") or (":=" in line and not is_field):
            continue  # a comment, or a key and its value
        if name in fields:
            raise refusal(path, f"its header has two fields {name!r}; remove one")
        if name not in _FREE_TEXT:
            _check_field(name, value.strip(" \t") if separator else None, path)
        fields[name] = value.strip(" \t")
    return fields


def _check_field(name: str, value: str | None, path: Path) -> None:
    if value is None or name not in _GRAMMAR:
        raise refusal(path, f"NRRD has no such field as {name[:40]!r}, which stands in its header; remove that line")
    if len(value) <= _LONGEST_FIELD and re.fullmatch(_GRAMMAR[name], value, re.ASCII | re.IGNORECASE):
        return
    if name == "encoding":
        raise refusal(path, f"the encoding must be raw or gzip, got {value[:40]!r}; save it again, compressed or not")
    shown = value if len(value) <= 60 else f"{value[:57]}..."
    raise refusal(path, f"the field {name!r} of its header cannot be used, got {shown!r}; correct it")
