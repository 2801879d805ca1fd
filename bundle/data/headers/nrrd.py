"""The header of NRRD files (https://teem.sourceforge.net/nrrd/format.html), strictly."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import BinaryIO

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
from bundle.data.limits import Limits

# The library's own words for a type, and its bytes; "block" has no type.
_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int"), 8),
    **dict.fromkeys(("int64", "int64_t", "ulonglong", "unsigned long long", "unsigned long long int"), 8),
    **dict.fromkeys(("uint64", "uint64_t", "double"), 8),
    "float": 4,
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


# What a field may say. These go through buffers of about 1000 bytes in ITK; the library reads other fields whole.
_GRAMMAR = {
    "type": r"[\w ]{1,40}",
    "dimension": r"[2-5]",
    "sizes": _listed(r"\d{1,18}"),
    "spacings": _listed(rf"(?:{NUMBER}|nan)"),
    "thicknesses": _listed(rf"(?:{NUMBER}|nan)"),
    "axis mins": _listed(rf"(?:{NUMBER}|nan)"),
    "axis maxs": _listed(rf"(?:{NUMBER}|nan)"),
    "space": r"[\w -]{1,40}",
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
_SCALAR_AXES = ("domain", "space", "time", "list", "none", "???")
_REQUIRED = ("dimension", "type", "sizes", "encoding")
_LONGEST_FIELD = 600


def check_nrrd(path: Path, limits: Limits) -> None:
    """Refuse an NRRD file that ITK should not be given: see ``check_header``."""
    with path.open("rb") as file:
        fields = _read_fields(file, path, limits)
        claim = _claim_of(fields, path)
        claim.check(path, limits)
        if "data file" not in fields:
            _check_data(file, fields, claim, path)
            return
    with detached_file(path, fields["data file"]).open("rb") as file:
        _check_data(file, fields, claim, path)


def _check_data(file: BinaryIO, fields: dict[str, str], claim: Claim, path: Path) -> None:
    """``file`` stands at the first byte of the voxels."""
    available = os.fstat(file.fileno()).st_size - file.tell()
    if fields["encoding"].lower() == "raw":
        return check_raw(path, claim, available)
    if file.read(2) != b"\x1f\x8b":  # zlib would hand out whatever else lies there as if it had been compressed
        raise damaged(path, "expected its voxels to be a gzip stream")
    check_deflated(path, claim, available)


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
    if kind not in _BYTES:
        raise refusal(path, f"the type must be an integer, float or double, got {kind!r}; save it as one of these")
    axes = fields.get("kinds", "domain " * dimension).lower().split()
    sizes = [(int(size), axis in _SCALAR_AXES) for size, axis in zip(fields["sizes"].split(), axes, strict=True)]
    channels = math.prod(size for size, is_scalar in sizes if not is_scalar)
    return Claim(tuple(size for size, is_scalar in sizes if is_scalar), _BYTES[kind], channels)


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
