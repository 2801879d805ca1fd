"""Damage to the text headers of NRRD and MetaImage, and to JSON."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from fuzzing.case import CANARY
from fuzzing.mutate_bytes import LONGEST, mutate, number_text

# Values that a field may be given whatever it means.
_WORDS = (
    *(b"raw", b"txt", b"text", b"ascii", b"hex", b"gzip", b"gz", b"bzip2", b"bz2", b"zrl", b"RAW", b"LOCAL", b"LIST"),
    *(b"LIST 2", b"LIST 0", b"LIST -1", b"LIST 99", b"%d", b"%s%n%s", b"%03d.raw 1 2 1", b"img%d.raw 1 2000000000 1"),
    *(b"True", b"False", b"none", b"???", b"little", b"big", b"(1,0,0)", b"(1,0,0) (0,1,0) (0,0,1)", b"none none none"),
    *(b"(nan,0,0) (0,1,0) (0,0,1)", b"(", b"()", b"(1e308,0,0) (0,1e308,0) (0,0,1e308)", b"(1,1,1) (1,1,1) (1,1,1)"),
    *(b"../secret.raw", b"./../secret.raw", CANARY, b"..", b"/", b"/dev/zero", b"/dev/stdin", b"data.raw", b"x" * 79),
    *(
        b"x" * 81,
        b"1" * 1100,
        b"9" * 400,
        b"1 " * 600,
        b"x y " * 2000,
        b'"' + b"x" * 300,
        b"\0",
        b"\xff\xfe",
        b"\x1b[2J",
    ),
    *(
        "ü".encode(),
        "\u2028".encode(),
        b"\\n\\t\\\\",
        b"[0]",
        b"{}",
        b"#",
        b":=",
        b"= =",
        b"1 2 3 4 5 6 7 8 9 10 11 12",
    ),
)
_NRRD = {
    b"type": b"uchar short ushort int uint int8 uint8 float double longlong block int64_t unsigned\\ char half".split(),
    b"dimension": b"1 2 3 4 5 16 17 0 -1".split(),
    b"sizes": (
        b"4 3 2",
        b"4 3",
        b"4 3 2 1",
        b"3 4 3 2",
        b"1 4 3 2",
        b"24 1 1",
        b"4 3 0",
        b"4 -3 2",
        b"65536 65536 65536",
    ),
    b"encoding": b"raw txt hex gzip bzip2 ascii zrl".split(),
    b"endian": b"little big middle".split(),
    b"space": b"left-posterior-superior LPS RAS right-anterior-superior scanner-xyz 3D-right-handed x".split(),
    b"space dimension": b"0 1 2 3 4 8 9 -1".split(),
    b"space directions": (
        b"(1,0,0) (0,1,0) (0,0,2)",
        b"none (1,0,0) (0,1,0) (0,0,2)",
        b"(1,0) (0,1)",
        b"none none none",
    ),
    b"space origin": (b"(0,0,0)", b"(1e400,0,0)", b"(0,0)", b"(nan,nan,nan)"),
    b"space units": (b'"mm" "mm" "mm"', b'"mm', b'"' + b"u" * 2000 + b'"'),
    b"spacings": (b"1 1 2", b"nan 1 2", b"0 0 0", b"-1 1 1", b"1 1"),
    b"thicknesses": (b"1 1 1", b"nan nan nan"),
    b"axis mins": (b"0 0 0", b"nan 0 1e400"),
    b"axis maxs": (b"1 1 1", b"-inf 0 0"),
    b"kinds": (
        b"domain domain domain",
        b"vector domain domain domain",
        b"RGB-color domain domain domain",
        b"list list",
    ),
    b"centers": (b"cell cell cell", b"node cell none"),
    b"labels": (b'"x" "y" "z"', b'"x" "y', b'"\\""'),
    b"units": (b'"mm" "mm" "mm"',),
    b"measurement frame": (b"(1,0,0) (0,1,0) (0,0,1)", b"(1,0)"),
    b"data file": (
        b"data.raw",
        b"../secret.raw",
        CANARY,
        b"LIST",
        b"LIST 2",
        b"%d.raw 1 2 1",
        b"%d.raw 0 9999999999 1",
    ),
    b"datafile": (b"data.raw", b"../secret.raw", CANARY),
    b"byte skip": b"0 1 -1 -2 -100 3 99999999999 2147483648".split(),
    b"line skip": b"0 1 -1 99999999999 2147483647".split(),
    b"block size": b"0 1 8 -1 4294967297".split(),
    b"number": b"24 0 -1 99999999999".split(),
    b"min": b"0 nan".split(),
    b"old max": b"255 1e400".split(),
    b"content": (b"a", b"c" * 5000),
    b"sample units": (b'"HU"',),
}
_META = {
    b"ObjectType": b"Image Scene Tube Blob Line Contour Mesh Ellipse Array Transform Group FEM".split(),
    b"ObjectSubType": b"HEADER Dti".split(),
    b"NDims": b"3 2 4 1 0 -1 -2 10 11 100 2147483647 3.5".split(),
    b"DimSize": (b"4 3 2", b"4 3", b"4 3 2 1", b"4 3 0", b"4 -3 2", b"65536 65536 65536", b"4 3 2 " * 50, b"1 " * 5000),
    b"ElementType": b"MET_UCHAR MET_SHORT MET_USHORT MET_INT MET_FLOAT MET_DOUBLE MET_LONG_LONG MET_STRING MET_NONE "
    b"MET_UCHAR_ARRAY MET_FLOAT_MATRIX MET_OTHER MET_ASCII_CHAR MET_BIT MET_SHORT_ARRAY".split(),
    b"ElementNumberOfChannels": b"1 3 4 0 -1 65536 2147483647".split(),
    b"HeaderSize": b"0 -1 -2 10 99999999999".split(),
    b"HeaderSizePerSlice": b"0 -1 10 2147483647".split(),
    b"BinaryData": b"True False".split(),
    b"BinaryDataByteOrderMSB": b"True False".split(),
    b"ElementByteOrderMSB": b"True False".split(),
    b"CompressedData": b"True False".split(),
    b"CompressedDataSize": b"0 -1 1 20 99999999999 18446744073709551615".split(),
    b"CompressionLevel": b"0 9 -1 100".split(),
    b"TransformMatrix": (b"1 0 0 0 1 0 0 0 1", b"1 0 0 1", b"nan " * 9, b"0 " * 9, b"1 " * 20000),
    b"Orientation": (b"1 0 0 0 1 0 0 0 1",),
    b"Offset": (b"0 0 0", b"nan nan nan", b"1e400 0 0", b"0 0", b"1 " * 200),
    b"Position": (b"0 0 0",),
    b"Origin": (b"0 0 0",),
    b"CenterOfRotation": (b"0 0 0", b"0 " * 100),
    b"AnatomicalOrientation": (b"RAI", b"???", b"R" * 400, b""),
    b"ElementSpacing": (b"1 1 2", b"0 0 0", b"-1 1 1", b"nan 1 1", b"1 " * 100),
    b"ElementSize": (b"1 1 2", b"0 0 0"),
    b"ElementMin": b"0 nan".split(),
    b"ElementMax": b"255 inf".split(),
    b"ElementToIntensityFunctionSlope": b"1 0 nan".split(),
    b"Modality": b"MET_MOD_CT MET_MOD_MR MET_MOD_UNKNOWN".split(),
    b"SequenceID": (b"0 0 0 0", b"1 " * 50),
    b"Comment": (b"c" * 300, b"c" * 5000),
    b"Name": (b"n" * 300, b"n" * 5000),
    b"ID": b"0 -1 99999999999".split(),
    b"ParentID": b"-1 0".split(),
    b"Color": (b"1 1 1 1", b"1 " * 50),
    b"NPoints": b"3 -1 99999999".split(),
    b"PointDim": (b"x y z", b"x " * 400),
    b"DistanceUnits": b"mm um".split(),
    b"AcquisitionDate": b"20260101".split(),
    b"ElementDataFile": (
        *(b"LOCAL", b"data.raw", b"../secret.raw", CANARY, b"LIST", b"LIST 2", b"LIST 3", b"LIST 99", b"LIST -1"),
        *(b"data.raw 1", b"%d.raw 1 2 1", b"%s.raw 1 2 1", b"%d.raw 1 2000000000 1", b"%999999d.raw 1 2 1", b""),
        *(b"LIST\ndata.raw\ndata.raw", b"LIST 2\ndata.raw\n../secret.raw", b"x" * 2000, b"Local", b"local"),
    ),
}


def mutate_nrrd(rng: Random, data: bytes) -> bytes:
    """Change a field of a NRRD header, or the data behind it."""
    header, blank, body = data.partition(b"\n\n")
    lines = header.split(b"\n")
    return _mutate_header(rng, lines, b": ", _NRRD, blank, body, first=1)


def mutate_meta(rng: Random, data: bytes) -> bytes:
    """Change a field of a MetaImage header, or the data behind it."""
    start = data.find(b"ElementDataFile")
    end = data.find(b"\n", start) if start >= 0 else -1
    header, body = (data[:end], data[end + 1 :]) if end >= 0 else (data, b"")
    return _mutate_header(rng, header.split(b"\n"), b" = ", _META, b"\n", body, first=0)


def _mutate_header(
    rng: Random, lines: list[bytes], between: bytes, fields: dict, blank: bytes, body: bytes, *, first: int
) -> bytes:
    lines = list(lines)
    at = rng.randrange(min(first, len(lines) - 1), len(lines))
    way = rng.randrange(18)
    if way >= 14:
        return _mutate_gently(rng, lines, between, fields, blank, body, first=first)
    if way <= 2:  # one number of a value
        key, sign, value = lines[at].partition(between.strip())
        words = value.split(b" ")
        words[rng.randrange(len(words))] = number_text(rng)
        lines[at] = key + sign + b" ".join(words)
    elif way <= 4:  # a value that the field may have
        key = lines[at].partition(between.strip())[0].strip()
        lines[at] = key + between + rng.choice(fields.get(key, _WORDS))
    elif way == 5:
        lines[at] = lines[at].partition(between.strip())[0] + between + rng.choice(_WORDS)
    elif way <= 7:  # another field, anywhere
        key = rng.choice(list(fields))
        lines.insert(rng.randrange(first, len(lines) + 1), key + between + rng.choice(fields[key]))
    elif way == 8:
        del lines[at]
    elif way == 9:
        lines.insert(rng.randrange(len(lines) + 1), lines[at])
    elif way == 10:
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif way == 11:
        lines[at] = mutate(rng, lines[at])
    elif way == 12:
        body = mutate(rng, body)
    else:
        return _mutate_whole(rng, lines, blank, body)
    return (b"\n".join(lines) + blank + body)[:LONGEST]


def _mutate_gently(
    rng: Random, lines: list[bytes], between: bytes, fields: dict, blank: bytes, body: bytes, *, first: int
) -> bytes:
    """What a strict check may let pass: the file then gets to the library behind it, which may read it otherwise."""
    at = rng.randrange(min(first, len(lines) - 1), len(lines))
    way = rng.randrange(6)
    key, sign, value = lines[at].partition(between.strip())
    if way == 0:
        lines[at] = key + sign + rng.choice((b"", b" ", b"  ", b"\t")) + value.strip() + rng.choice((b"", b" ", b"\t"))
    elif way == 1:
        lines[at] = rng.choice((key.lower(), key.upper(), key.title(), key + b" ", b" " + key)) + sign + value
    elif way == 2:
        lines.insert(
            rng.randrange(first, len(lines) + 1), rng.choice((b"#", b"# comment", b"key:=value", b"#x:=y", b"# a: b"))
        )
    elif way == 3:
        name = rng.choice([name for name in fields if name not in (b"ElementDataFile", b"data file", b"datafile")])
        lines.insert(rng.randrange(first, len(lines)), name + between + fields[name][0])
    elif way == 4:
        lines[at] = key + sign + b" " + value.strip().replace(b" ", rng.choice((b"  ", b"\t", b" ", b",")))
    else:
        body = mutate(rng, body)
    return (b"\n".join(lines) + blank + body)[:LONGEST]


def _mutate_whole(rng: Random, lines: list[bytes], blank: bytes, body: bytes) -> bytes:
    way = rng.randrange(7)
    if way == 0:
        return b"\r\n".join(lines) + blank.replace(b"\n", b"\r\n") + body
    if way == 1:
        return b"\n".join(lines) + body  # no blank line
    if way == 2:
        return b"\xef\xbb\xbf" + b"\n".join(lines) + blank + body
    if way == 3:
        return b"\n".join([*lines[:1], *(b"# " + b"c" * 70 for _ in range(800)), *lines[1:]]) + blank + body
    if way == 4:
        return b"\n".join([*lines[:-1], *(b"key%d:=value" % n for n in range(3000)), *lines[-1:]])[:LONGEST] + blank
    if way == 5:
        return b"\n".join(lines) + blank + b"1" * rng.choice((100, 1029, 1100, 5000)) + b"\n"
    return b"\n".join(lines) + blank + b" ".join(number_text(rng) for _ in range(24))


# ---- JSON -----------------------------------------------------------------------------------------------------------

_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        3,
        0.5,
        1.5,
        -0.0,
        1e308,
        float("nan"),
        float("inf"),
        -float("inf"),
        10**30,
        2**63,
    ),
    *(
        "",
        "1",
        "liver",
        "[[1,1,1]]",
        "1e999",
        "nan",
        "\ud800",
        "\0",
        "x" * 3000,
        "../secret.json",
        "$import os",
        "@x",
        "%y",
    ),
    *([], [[]], [[[]]], {}, [1], [1, 2], [1, 2, 3], [1, 2, 3, 4], [[1, 1, 1]], [[1, 1, 1], [2, 2, 1]], [[1, 2], [1]]),
    *(
        [None],
        ["1", "2", "3"],
        [["1", "1", "1"]],
        [[True, False, True]],
        {"a": {}},
        [{}],
        [[1e400, 0, 0]],
        [[0, 0, -1]],
    ),
    *([[3.5, 2.5, 1.5]], [[3.4999, 2.5, 1.5]], [10**30, 0, 0], [[10**400, 0, 0]], [[1, 1, 1]] * 2000, [1] * 5000),
)


def json_mutator(keys: tuple[str, ...]) -> Any:
    """A mutator of JSON files that may hold ``keys``."""

    def mutate_json(rng: Random, data: bytes) -> bytes:
        if rng.random() < 0.15:
            return _mutate_json_text(rng, data)
        try:
            root = [json.loads(data)]
        except (ValueError, RecursionError):
            return mutate(rng, data)
        nodes = _nodes(root)
        parent, key = rng.choice(nodes)
        way = rng.randrange(6)
        if way <= 1:
            parent[key] = rng.choice(_VALUES)
        elif way == 2 and isinstance(parent[key], dict):
            parent[key][rng.choice(keys)] = rng.choice(_VALUES)
        elif way == 3 and parent is not root:
            del parent[key]
        elif way == 4:
            other, where = rng.choice(nodes)
            parent[key] = json.loads(json.dumps(other[where]))
        elif isinstance(parent[key], list):
            parent[key] = parent[key] * rng.choice((0, 2, 3, 500)) + [rng.choice(_VALUES)]
        else:
            parent[key] = [parent[key]] if rng.random() < 0.5 else {rng.choice(keys): parent[key]}
        return json.dumps(root[0]).encode()[:LONGEST] if root else b""

    return mutate_json


def _nodes(root: list) -> list[tuple[Any, Any]]:
    """(container, key) of every value."""
    found, waiting = [], [(root, 0)]
    while waiting and len(found) < 500:
        container, key = waiting.pop()
        found.append((container, key))
        value = container[key]
        if isinstance(value, dict):
            waiting += [(value, inner) for inner in value]
        elif isinstance(value, list):
            waiting += [(value, inner) for inner in range(min(len(value), 50))]
    return found


def _mutate_json_text(rng: Random, data: bytes) -> bytes:
    way = rng.randrange(9)
    if way == 0:
        return b"\xef\xbb\xbf" + data
    if way == 1:
        return data.decode("utf-8", "replace").encode("utf-16")
    if way == 2:
        depth = rng.choice((50, 900, 5000, 30000))
        return b"[" * depth + (b"]" * depth if rng.random() < 0.7 else b"")
    if way == 3:
        depth = rng.choice((50, 900, 4000))
        return b'{"objects":' * depth + b"1" + b"}" * depth
    if way == 4:
        return data.replace(b"1", b"1" * rng.choice((2, 30, 5000)), 1)
    if way == 5:
        return data.replace(b":", rng.choice((b":NaN,", b":-Infinity,", b"::", b'":"')), 1)
    if way == 6:
        return b""
    if way == 7:
        middle = data.rfind(b"}")
        return data[:middle] + b', "points": [[0, 0, 0]], "points": 5' + data[middle:]
    return mutate(rng, data)
