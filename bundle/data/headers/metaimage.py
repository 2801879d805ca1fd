"""The header of MetaImage files (https://itk.org/Wiki/ITK/MetaIO/Documentation), strictly."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bundle.data.headers.claims import (
    NUMBER,
    VALUE,
    Claim,
    check_raw,
    damaged,
    detached_file,
    header_lines,
    inflated_length,
    refusal,
)
from bundle.data.headers.lengths import length_unit
from bundle.data.limits import LIMITS, Limits

# MET_LONG has 4 bytes on Windows and 8 elsewhere: nobody can tell what it holds.
_BYTES = {
    **dict.fromkeys(("CHAR", "UCHAR"), 1),
    **dict.fromkeys(("SHORT", "USHORT"), 2),
    **dict.fromkeys(("INT", "UINT", "FLOAT"), 4),
    **dict.fromkeys(("LONG_LONG", "ULONG_LONG", "DOUBLE"), 8),
}
_SWITCH = r"(?i:true|false)|[TtFf10]"
# What a key may say; the key's name has its own case.
_GRAMMAR = {
    "ObjectType": r"Image",
    "NDims": r"[2-4]",
    "DimSize": r"\d{1,18}(?:\s+\d{1,18}){1,3}",
    "ElementType": r"MET_[A-Z_]{1,40}",
    "ElementNumberOfChannels": r"[1-4]",
    "ElementDataFile": r".{1,255}",
    "BinaryData": r"(?i:true)|[Tt1]",
    "BinaryDataByteOrderMSB": _SWITCH,
    "ElementByteOrderMSB": _SWITCH,
    "CompressedData": _SWITCH,
    "CompressedDataSize": r"\d{1,18}",
    "HeaderSize": r"0|-1",
    **dict.fromkeys(("ElementMin", "ElementMax"), VALUE),
    **dict.fromkeys(("ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset"), VALUE),
    **dict.fromkeys(("Color", "SequenceID"), rf"{NUMBER}(?:\s+{NUMBER}){{0,3}}"),
    **dict.fromkeys(("Position", "Offset", "Origin", "CenterOfRotation"), rf"{NUMBER}(?:\s+{NUMBER}){{1,3}}"),
    **dict.fromkeys(("ElementSpacing", "ElementSize"), rf"{NUMBER}(?:\s+{NUMBER}){{1,3}}"),
    **dict.fromkeys(("Orientation", "Rotation", "TransformMatrix"), rf"{NUMBER}(?:\s+{NUMBER}){{3,15}}"),
    # Texts that ITK copies into 255 bytes, whatever they hold.
    **dict.fromkeys(("Comment", "Name", "ObjectSubType", "AnatomicalOrientation", "DistanceUnits"), r".{0,250}"),
    **dict.fromkeys(("Modality", "ID", "ParentID", "AcquisitionDate", "ImagePosition"), r".{0,250}"),
}
_PER_AXIS = ("DimSize", "Position", "Offset", "Origin", "CenterOfRotation", "ElementSpacing", "ElementSize")
_PER_AXIS_SQUARED = ("Orientation", "Rotation", "TransformMatrix")
_ONE_OF = (("Position", "Offset", "Origin"), _PER_AXIS_SQUARED)  # spellings of one thing
_REQUIRED = ("NDims", "DimSize", "ElementType", "ElementDataFile")
_FLATTEST = 1e-3  # volume of a voxel whose edges were scaled to 1
_LONGEST_NAME, _LONGEST_VALUE = 200, 32_000  # a key of somebody's own: ITK has 255 and 32,768 bytes for it


def check_metaimage(path: Path, limits: Limits) -> None:
    """Refuse a MetaImage file that ITK should not be given: see ``check_header``."""
    with path.open("rb") as file:
        fields = _read_fields(file, path, limits)
        claim = _claim_of(fields, path)
        claim.check(path, limits)
        if fields["ElementDataFile"] == "LOCAL":
            _check_data(file, fields, claim, path)
            return
    with detached_file(path, fields["ElementDataFile"]).open("rb") as file:
        _check_data(file, fields, claim, path)


def unit_of_metaimage(path: Path, limits: Limits = LIMITS) -> str:
    """The unit of lengths of a file that ``check_metaimage`` has let pass, see ``length_unit``."""
    with path.open("rb") as file:
        return length_unit(path, [_read_fields(file, path, limits).get("DistanceUnits", "mm")])


def _check_data(file: BinaryIO, fields: dict[str, str], claim: Claim, path: Path) -> None:
    """``file`` stands at the first byte of the voxels."""
    available = os.fstat(file.fileno()).st_size - file.tell()
    if not _is_on(fields.get("CompressedData", "False")):
        return check_raw(path, claim, available)
    compressed = int(fields.get("CompressedDataSize", "0")) or available
    if int(fields.get("HeaderSize", "0")):
        raise refusal(path, "HeaderSize = -1 goes with voxels that are not compressed; leave it out")
    if compressed > available:
        raise damaged(path, f"its header announces {compressed} compressed bytes, the file holds {available}")
    # Counted here, because ITK gives out memory as it found it where the stream ends too early or is damaged.
    check_raw(path, claim, inflated_length(file, claim.data_bytes, compressed))


def _is_on(switch: str) -> bool:
    return switch[0] in "Tt1"


def _claim_of(fields: dict[str, str], path: Path) -> Claim:
    for name in _REQUIRED:
        if name not in fields:
            raise damaged(path, f"its header has no key {name!r}")
    dimension = int(fields["NDims"])
    for names, expected in ((_PER_AXIS, dimension), (_PER_AXIS_SQUARED, dimension**2)):
        for name in names:
            given = len(fields[name].split()) if name in fields else expected
            if given != expected:
                raise refusal(path, f"{name} must have {expected} entries for NDims = {dimension}, got {given}")
        if name in _PER_AXIS_SQUARED and name in fields:
            _check_matrix(name, fields[name], dimension, path)
    for names in _ONE_OF:
        given = [name for name in names if name in fields]
        if len({fields[name] for name in given}) > 1:
            raise refusal(path, f"its header has {' and '.join(given)}, which differ and mean the same; remove one")
    if any(float(number) == 0 for number in fields.get("ElementSpacing", fields.get("ElementSize", "1")).split()):
        raise refusal(path, "ElementSpacing must not be 0 mm; correct it")
    length_unit(path, [fields.get("DistanceUnits", "mm")])
    for name, nothing in (("ElementToIntensityFunctionSlope", 1.0), ("ElementToIntensityFunctionOffset", 0.0)):
        if float(fields.get(name, nothing)) != nothing:  # ITK would give the stored values
            raise refusal(path, f"{name} must be {nothing:g}, got {fields[name]}; save the values that it leads to")
    kind = fields["ElementType"].removeprefix("MET_").removesuffix("_ARRAY")
    if kind not in _BYTES:
        raise refusal(
            path,
            f"ElementType must be MET_CHAR, MET_SHORT, MET_INT, MET_LONG_LONG, one of these unsigned, "
            f"MET_FLOAT or MET_DOUBLE, got {fields['ElementType']}; save it as one of these",
        )
    sizes = tuple(int(size) for size in fields["DimSize"].split())
    return Claim(sizes, _BYTES[kind], int(fields.get("ElementNumberOfChannels", "1")))


def _check_matrix(name: str, numbers: str, dimension: int, path: Path) -> None:
    matrix = np.array([float(number) for number in numbers.split()]).reshape(dimension, dimension)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    if (lengths == 0).any() or abs(np.linalg.det(matrix / lengths)) < _FLATTEST:
        raise refusal(path, f"{name} must give each axis a direction of its own, got {matrix.tolist()}; correct it")


def _read_fields(file: BinaryIO, path: Path, limits: Limits) -> dict[str, str]:
    """The keys up to ElementDataFile, each in its own grammar; the voxels may begin behind it."""
    fields: dict[str, str] = {}
    for line in header_lines(file, path, limits):
        if not line.strip(" \t"):
            continue
        separator = re.search("[=:]", line)
        if not separator:
            raise damaged(path, f"expected 'name = value' in each line of its header, got {line[:40]!r}")
        name, value = line[: separator.start()].strip(" \t"), line[separator.start() :].lstrip("=: \t").rstrip(" \t")
        if name in fields:
            raise refusal(path, f"its header has two keys {name!r}; remove one")
        _check_field(name, value, path)
        if name in _GRAMMAR:
            fields[name] = value
        if name == "ElementDataFile":
            break
    return fields


def _check_field(name: str, value: str, path: Path) -> None:
    shown = value if len(value) <= 60 else f"{value[:57]}..."
    if name not in _GRAMMAR:
        if not 1 <= len(name) <= _LONGEST_NAME or len(value) > _LONGEST_VALUE:
            raise refusal(path, f"a key of its header is too long or empty, got {name[:40]!r} = {shown!r}; remove it")
    elif not re.fullmatch(_GRAMMAR[name], value, re.ASCII):
        if name == "BinaryData":
            raise refusal(path, f"its voxels must be binary, got BinaryData = {shown}; save it again")
        raise refusal(path, f"the key {name} of its header cannot be used, got {shown!r}; correct it")
