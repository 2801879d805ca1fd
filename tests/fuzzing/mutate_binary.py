"""Damage to headers of fixed places: NIfTI, npy, safetensors."""

from __future__ import annotations

import json
import struct
from random import Random

from fuzzing.mutate_bytes import LONGEST, integer, mutate, packed

# (offset, bits, count, whether it is often worth trying) of the fields of NIfTI-1 and NIfTI-2 that readers use:
# https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h and nifti2.h
_NIFTI1 = (
    *(
        (0, 32, 1),
        (39, 8, 1),
        (40, 16, 8),
        (40, 16, 8),
        (68, 16, 1),
        (70, 16, 1),
        (72, 16, 1),
        (74, 16, 1),
        (76, 32, 8),
    ),
    *((108, 32, 1), (112, 32, 1), (116, 32, 1), (120, 16, 1), (122, 8, 1), (123, 8, 1), (124, 32, 2), (252, 16, 2)),
    *((256, 32, 3), (268, 32, 3), (280, 32, 12), (344, 8, 4), (348, 8, 4)),
)
_NIFTI2 = (
    *((0, 32, 1), (4, 8, 8), (12, 16, 1), (14, 16, 1), (16, 64, 8), (16, 64, 8), (104, 64, 8), (168, 64, 1)),
    *((176, 64, 1), (184, 64, 1), (344, 32, 2), (352, 64, 3), (376, 64, 3), (400, 64, 12), (500, 32, 1), (540, 8, 4)),
)
# Types of voxels: https://nifti.nimh.nih.gov/nifti-1/documentation/nifti1fields/nifti1fields_pages/datatype.html
_TYPES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 255, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304)


def mutate_nifti(rng: Random, data: bytes) -> bytes:
    """Change a field of the header, the extensions, or any bytes."""
    if len(data) < 348 or rng.random() < 0.2:
        return mutate(rng, data)
    order = ">" if data[0] in (0, 1) and data[3] else "<"
    is_second = data[:4] in (struct.pack("<i", 540), struct.pack(">i", 540))
    out = bytearray(data)
    way = rng.random()
    if way < 0.15:
        at, size = (12, 2) if is_second else (70, 2)
        out[at : at + size] = struct.pack(order + "H", rng.choice(_TYPES))
    elif way < 0.25:
        _extend(rng, out, order, 540 if is_second else 348)
    elif way < 0.3:
        out[:4] = out[:4][::-1]
    elif way < 0.4:  # all sizes at once
        at, kind = (16, "8q") if is_second else (40, "8h")
        top = rng.choice((4, 127, 1024, 32767))
        struct.pack_into(order + kind, out, at, rng.choice((3, 4, 7)), *(rng.randint(0, top) for _ in range(7)))
    else:
        offset, bits, count = rng.choice(_NIFTI2 if is_second else _NIFTI1)
        at = offset + rng.randrange(count) * bits // 8
        out[at : at + bits // 8] = packed(rng, bits, order)
    return bytes(out)


def _extend(rng: Random, out: bytearray, order: str, at: int) -> None:
    """An extension (size, code, content) that may lie about its size."""
    size = rng.choice((0, 8, 15, 16, 32, 2**31 - 16, -16, integer(rng, 16)))
    code = rng.choice((0, 2, 4, 6, 8, 18, 40))
    content = rng.randbytes(rng.choice((0, 8, 24)))
    out[at : at + 4] = b"\1\0\0\0"
    out[at + 4 : at + 4] = struct.pack(order + "iI", size, code) + content


_DESCRIPTIONS = (
    *("|u1", "<i2", ">i2", "<f4", "<f8", "<f2", "|b1", "<c8", "<c16", "|O", "<U5", "|S3", "|V4", "|V1000000", "<M8[s]"),
    *(
        "<m8",
        "<i8",
        "<u8",
        "<U1000000000",
        "|S0",
        "|V0",
        "<f16",
        "x",
        "",
        "i2,i2",
        "(1000,1000,1000)u1",
        "O",
        "|u9",
        "=i2",
    ),
)
_SHAPES = (
    *("(2, 3, 4)", "(3, 4)", "(2, 3, 4, 3)", "()", "(0,)", "(24,)", "(-1,)", "(2, -3, 4)", "(1, 2, 3, 4)", "(2**40,)"),
    *(
        "(1099511627776,)",
        "(65536, 65536, 65536)",
        "(4294967296, 4294967296)",
        "(9223372036854775807,)",
        "(True, 3, 4)",
    ),
    *("(2.0, 3, 4)", "[2, 3, 4]", "24", "(0, 99999999, 99999999)", "(1,) * 33", "('a',)", "(99999999999999999999,)"),
)


def mutate_npy(rng: Random, data: bytes) -> bytes:
    """Change the dictionary of a npy header, its length, its version, or any bytes."""
    if not data.startswith(b"\x93NUMPY") or rng.random() < 0.25:
        return mutate(rng, data)
    start = 10 if data[6] == 1 else 12
    end = data.find(b"\n", start) + 1
    text, body = data[start:end].decode("latin-1"), data[end:]
    way = rng.randrange(8)
    fields = {"descr": "'<i2'", "fortran_order": "False", "shape": "(2, 3, 4)"}
    if way <= 2:
        fields["descr"] = repr(rng.choice(_DESCRIPTIONS))
    if 2 <= way <= 4:
        fields["shape"] = rng.choice(_SHAPES)
    if way == 5:
        fields["fortran_order"] = rng.choice(("True", "1", "None", "'x'", "[]"))
    if way == 6:
        fields["descr"] = rng.choice(
            (
                "[('a','<i2'),('b','|O')]",
                "[('a','<i2',(999999,999999))]",
                "[]",
                "None",
                "{}",
                "('<i2',(2,2))",
                "[('a',)]",
            )
        )
    if way == 7:
        text = mutate(rng, text.encode("latin-1")).decode("latin-1")
        if rng.random() < 0.2:
            text = "(" * rng.choice((100, 3000, 9000)) + text
    else:
        text = "{" + ", ".join(f"'{key}': {value}" for key, value in fields.items()) + "}\n"
        text = text if rng.random() < 0.95 else text.replace("}", ", 'extra': 1}")
    encoded = text.encode("latin-1")
    length = len(encoded) if rng.random() < 0.9 else integer(rng, 16 if data[6] == 1 else 32)
    version = data[6:8] if rng.random() < 0.95 else rng.randbytes(2)
    size = struct.pack("<H", length % 65536) if data[6] == 1 else struct.pack("<I", length)
    return (data[:6] + version + size + encoded + body)[:LONGEST]


def mutate_safetensors(rng: Random, data: bytes) -> bytes:
    """Change the JSON header of a safetensors file, its length, or any bytes."""
    if len(data) < 16 or rng.random() < 0.3:
        return mutate(rng, data)
    length = struct.unpack("<Q", data[:8])[0]
    header, body = data[8 : 8 + length], data[8 + length :]
    try:
        content = json.loads(header)
        name = rng.choice(list(content))
        entry = content[name]
    except (ValueError, IndexError, RecursionError):
        return mutate(rng, data)
    way = rng.randrange(8)
    if way == 0 and isinstance(entry, dict):
        entry["dtype"] = rng.choice(("F32", "F16", "BF16", "I8", "BOOL", "F8_E4M3", "F64", "U64", "X", "", 5))
    elif way == 1 and isinstance(entry, dict):
        entry["shape"] = rng.choice(([], [0], [2, 2], [-1], [2**63], [2**32, 2**32], [1.5], "x", [2**40], [1] * 100))
    elif way == 2 and isinstance(entry, dict):
        entry["data_offsets"] = rng.choice(([0, 0], [0, 8], [8, 0], [-1, 4], [0, 2**62], [2**63, 2**64], [0], "x"))
    elif way == 3:
        content[rng.choice(("", "x", "__metadata__", "model.x", "module.y", "a" * 3000, "\0"))] = entry
    elif way == 4:
        texts = (
            "{}",
            "[]",
            "{not json",
            "[" * 9000,
            '{"family": 5}',
            '{"contract": []}',
            "nul",
            "\ud800",
            '"x"',
            "1e999",
        )
        content["__metadata__"] = rng.choice(
            ({"monai_sam": rng.choice(texts)}, {"monai_sam": 5}, {"x": "y"}, [], "x", None)
        )
    elif way == 5:
        del content[name]
    elif way == 6:
        header = mutate(rng, header)
    else:
        return struct.pack("<Q", rng.choice((0, 1, length - 1, length + 1, 2**62, 2**64 - 1))) + data[8:]
    if way != 6:
        header = json.dumps(content).encode()
    return struct.pack("<Q", len(header)) + header + body
