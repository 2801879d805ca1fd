"""Files made after public reports of faults in the libraries that read for us, and after our own reviews.

None is copied: each is written here from what a report says is wrong with a file of its kind. A round runs them
unchanged before it mutates them.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import zipfile
import zlib
from random import Random

from fuzzing.case import CANARY, MARKER, Case
from fuzzing.mutate_dicom import _elements, _stored
from fuzzing.mutate_pictures import png_chunk
from fuzzing.seeds import VOXELS, _meta_header, _nrrd_header, _raw


def _one(name: str, content: bytes, what: str) -> Case:
    return Case({name: content}, name, (what,))


def _nrrd(body: bytes, *lines: str) -> bytes:
    return ("NRRD0004\n" + "\n".join(lines) + "\n\n").encode() + body


def nrrd() -> list[Case]:
    """Our review of the server (findings 1 and 2), and NRRD's other ways to leave the file."""
    plain = ("type: uchar", "dimension: 3", "sizes: 8 8 4")
    detached = _nrrd_header(VOXELS, "raw")
    cases = [
        _one("a.nrrd", _nrrd(b"1" * 2000, *plain, "encoding: txt"), "text token of 2000 digits"),
        _one("a.nrrd", _nrrd(b"1 " * 300, *plain, "encoding: txt"), "text"),
        _one(
            "a.nrrd", _nrrd(b"", "type: uchar", "dimension: 3", f"sizes: {2**20} {2**20} 64", "encoding: raw"), "64 TB"
        ),
        _one("a.nrrd", _nrrd(b"", "type: short", "dimension: 3", "sizes: 1000 1000 1000", "encoding: raw"), "2 GB"),
        _one(
            "a.nrrd",
            _nrrd(bytes(24), "type: uchar", "dimension: 16", "sizes: " + "1 " * 16, "encoding: raw"),
            "16 axes",
        ),
        _one("a.nrrd", _nrrd(gzip.compress(bytes(8 << 20)), *plain, "encoding: gzip"), "gzip longer than its sizes"),
    ]
    for name in ("../secret.raw", "/dev/zero"):
        cases.append(_one("a.nrrd", detached + b"\ndata file: " + name.encode() + b"\n\n", f"data file {name}"))
    cases.append(_one("a.nrrd", detached + b"\ndata file: " + CANARY + b"\n\n", "data file, whole path"))
    cases.append(_one("a.nrrd", detached + b"\ndata file: LIST\n../secret.raw\n../secret.raw\n", "list"))
    cases.append(_one("a.nrrd", detached + b"\ndata file: ../secre%d.raw 1 2 1\n\n", "pattern"))
    for name in (b"space units", b"labels", b"units"):  # found here: words in quotes go into a buffer of 1 kB or so
        for value in (b"x" * 1100, b'"' + b"x" * 1100 + b'"'):
            cases.append(
                _one("a.nrrd", detached + b"\n" + name + b": " + value + b"\n\n" + _raw(VOXELS), f"long {name!r}")
            )
    return cases


def nhdr() -> list[Case]:
    """The same, by name of a detached header."""
    return [Case({"a.nhdr": c.files["a.nrrd"], "a.raw": _raw(VOXELS)}, "a.nhdr", c.trail) for c in nrrd()]


def mha() -> list[Case]:
    """MetaIO's ten defects (Kitware/MetaIO#150): words, lengths and dimensions nobody checks; detached data."""
    right = _meta_header(VOXELS, "LOCAL")
    body = _raw(VOXELS)

    def changed(old: bytes, new: bytes) -> Case:
        return _one("a.mha", right.replace(old, new) + body, new[:40].decode())

    spread = b"ObjectType = Image\nNDims = %s\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    return [
        *(changed(b"NDims = 3", b"NDims = " + count) for count in (b"-1", b"0", b"11", b"100", b"2147483647")),
        *(_one("a.mha", spread % count + bytes(64), f"short, NDims {count.decode()}") for count in (b"-1", b"100")),
        changed(b"DimSize = 4 3 2", b"DimSize = 65536 65536 4"),
        changed(b"DimSize = 4 3 2", b"DimSize = " + b"1 " * 5000),
        changed(b"NDims = 3", b"NDims = 3\nSequenceID = " + b"1 " * 5000),
        changed(b"Offset = -10 20 30", b"Offset = " + b"1" * 300),
        changed(b"TransformMatrix = 1 0", b"TransformMatrix = " + b"1 " * 20000),
        changed(b"NDims = 3", b"NDims = 3\nName = " + b"n" * 300),  # found here
        changed(b"MET_SHORT", b"MET_STRING"),
        changed(b"MET_SHORT", b"MET_SHORT\nElementNumberOfChannels = 2147483647"),
        changed(b"BinaryData = True", b"BinaryData = True\nCompressedData = True\nCompressedDataSize = 99999999999"),
        changed(b"BinaryData = True", b"BinaryData = True\nCompressedData = True"),
        changed(b"BinaryData = True", b"BinaryData = True\nHeaderSize = -1"),
        changed(b"LOCAL", b"../secret.raw"),
        changed(b"LOCAL", CANARY),
        changed(b"LOCAL", b"LIST 2\n../secret.raw\n../secret.raw"),
        changed(b"LOCAL", b"LIST 99\n../secret.raw"),
        changed(b"LOCAL", b"../secre%c.raw 116 117 1"),
        changed(b"LOCAL", b"%s%n%s.raw 1 2 1"),
        changed(b"LOCAL", b"x" * 5000),
        changed(b"LOCAL", b"/dev/zero"),
        changed(b"ObjectType = Image", b"ObjectType = Tube\nNPoints = 9\nPointDim = " + b"x " * 200),
    ]


def mhd() -> list[Case]:
    """The same, by name of a detached header."""
    return [Case({"a.mhd": c.files["a.mha"], "a.raw": _raw(VOXELS)}, "a.mhd", c.trail) for c in mha()]


def seg_nrrd() -> list[Case]:
    """The NRRD ones by Slicer's ending."""
    return [_one("a.seg.nrrd", case.files["a.nrrd"], case.trail[0]) for case in nrrd()]


def nii() -> list[Case]:
    """NIFTI-Imaging/nifti_clib PR 196 and 197: sizes that a file does not hold, counts out of range."""
    from fuzzing.seeds import nii as right

    first = right()[0].files["a.nii"]
    second = right()[-1].files["a.nii"]
    huge = bytearray(first)
    struct.pack_into("<8h", huge, 40, 3, 32767, 32767, 8, 1, 1, 1, 1)
    cases = [_one("a.nii", bytes(huge[:377]), "377 bytes that claim 17 GB")]
    for count in (0, -1, 8, 200):
        data = bytearray(first)
        struct.pack_into("<h", data, 40, count)
        cases.append(_one("a.nii", bytes(data), f"dim[0] = {count}"))
        data = bytearray(second)
        struct.pack_into("<q", data, 16, count)
        cases.append(_one("a.nii", bytes(data), f"NIfTI-2, dim[0] = {count}"))
    for offset in (float("nan"), float("inf"), 1e30, -1.0):
        data = bytearray(first)
        struct.pack_into("<f", data, 108, offset)
        cases.append(_one("a.nii", bytes(data), f"vox_offset = {offset}"))
    data = bytearray(second)
    struct.pack_into("<8q", data, 16, 3, 2**40, 2**40, 2**40, 1, 1, 1, 1)
    return [*cases, _one("a.nii", bytes(data), "NIfTI-2 of 2**120 voxels")]


def nii_gz() -> list[Case]:
    """The same, compressed, and a bomb behind a right header."""
    cases = [_one("a.nii.gz", gzip.compress(case.files["a.nii"], mtime=0), case.trail[0]) for case in nii()]
    data = bytearray(nii()[0].files["a.nii"][:352])
    struct.pack_into("<8h", data, 40, 3, 512, 512, 16, 1, 1, 1, 1)
    return [*cases, _one("a.nii.gz", gzip.compress(bytes(data), mtime=0), "header alone, 8 MB claimed")]


class _System:
    def __reduce__(self) -> tuple:
        import os

        return os.system, ("touch " + MARKER.decode(),)


class _Open:
    def __reduce__(self) -> tuple:
        return open, (MARKER.decode(), "w")


def npy() -> list[Case]:
    """Pickles in arrays, and headers that claim much or nest deep."""

    def array(header: str, body: bytes = b"") -> bytes:
        text = header.encode() + b"\n"
        return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + body

    claim = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }"
    return [
        _one("a.npy", array(claim % ("|O", "(1,)"), pickle.dumps([_System()])), "pickle"),
        _one("a.npy", array(claim % ("|u1", f"({2**42},)")), "4 TB"),
        _one("a.npy", array(claim % ("|u1", "(1000, 1000, 1000)")), "1 GB"),
        _one("a.npy", array(claim % ("|V2000000000", "(1,)")), "one record of 2 GB"),
        _one("a.npy", array("(" * 9000), "9000 brackets"),
        _one("a.npy", pickle.dumps(_System()), "bare pickle"),
    ]


def npz() -> list[Case]:
    """Archives of these, a bomb, and member names that lead away."""

    def archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as file:
            for name, content in members.items():
                file.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, method)
        return buffer.getvalue()

    cases = [_one("a.npz", archive({"imgs.npy": case.files["a.npy"]}), case.trail[0]) for case in npy()]
    head = (
        b"\x93NUMPY\1\0"
        + struct.pack("<H", 70)
        + b"{'descr': '|u1', 'fortran_order': False, 'shape': (200, 1000, 1000)}".ljust(69)
    )
    bomb = archive({"imgs.npy": head + b"\n" + bytes(3 << 20)}, zipfile.ZIP_DEFLATED)
    return [*cases, _one("a.npz", bomb, "bomb"), _one("a.npz", archive({"../imgs.npy": b"x", "imgs": b"y"}), "names")]


def zarr_group() -> list[Case]:
    """Arrays without files, which zarr fills with one value: of many chunks, and of many voxels."""
    from fuzzing.seeds import zarr_group as right

    case = right()[0]
    text = case.files["imgs/zarr.json"].decode()

    def sized(shape: list[int], chunks: list[int]) -> bytes:
        content = json.loads(text)
        content["shape"], content["chunk_grid"]["configuration"]["chunk_shape"] = shape, chunks
        return json.dumps(content).encode()

    return [
        case.with_file("imgs/zarr.json", sized([2, 32768, 4], [1, 3, 4]), "22,000 chunks"),
        case.with_file("imgs/zarr.json", sized([500, 1000, 1000], [1, 1, 1]), "500,000,000 chunks"),
        case.with_file("imgs/zarr.json", sized([500, 1000, 1000], [500, 1000, 1000]), "one chunk of 1 GB"),
        case.with_file("imgs/zarr.json", sized([500, 1000, 1000], [1, 1000, 1000]), "500 chunks").with_file(
            "imgs/more", bytes(2**16), "enough for as many zeros"
        ),
    ]


def png() -> list[Case]:
    """Large claims, large texts."""

    def picture(width: int, height: int, *chunks: bytes) -> bytes:
        header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(chunks) + png_chunk(b"IEND", b"")

    data = png_chunk(b"IDAT", zlib.compress(bytes(8)))
    text = png_chunk(b"zTXt", b"monai-sam spacing\0\0" + zlib.compress(b"[" * (4 << 20)))
    return [
        _one("a.png", picture(13000, 13000, data), "169 megapixels"),
        _one("a.png", picture(2**31 - 1, 1, data), "one row of 2 G pixels"),
        _one("a.png", picture(3, 2, text, data), "spacing of 4 MB of brackets"),
        _one("a.png", picture(3, 2, b"\x80\0\0\x12IDATx\x9c"), "pixels of 2 GB announced"),  # found here
    ]


def jpg() -> list[Case]:
    """A right picture whose frame header claims 65,500 x 2,700 pixels."""
    from fuzzing.seeds import jpg as right

    data = bytearray(right()[0].files["a.jpg"])
    at = data.find(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 2700, 65500)
    return [_one("a.jpg", bytes(data), "177 megapixels")]


def tif() -> list[Case]:
    """A chain of directories that bites its tail, and one that claims much."""

    def directory(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
        body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + struct.pack("<I", following) + bytes(64)

    def grey(width: int, height: int) -> tuple:
        size = ((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1))
        return (*size, (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, width * height % 2**32))

    return [
        _one("a.tif", directory(*grey(4, 3), following=8), "directory that follows itself"),
        _one("a.tif", directory(*grey(13000, 13000)), "169 megapixels"),
        _one("a.tif", directory((256, 4, 2**31, 8), (257, 4, 1, 3)), "2 G widths"),
    ]


def dcm() -> list[Case]:
    """GDCM and pydicom: CVE-2026-3650 (VR of the file meta group), fragments that are too short, nesting, sizes."""
    from fuzzing.seeds_dicom import dcm as right

    data = right()[0].files["a.dcm"]
    elements, rest = _elements(data[132:])

    def rebuilt(change: dict[tuple[int, int], dict], before: bytes = b"") -> bytes:
        changed = [e._replace(**change[e.tag]) if e.tag in change else e for e in elements]
        return data[:132] + before + b"".join(map(_stored, changed)) + rest

    cases = [
        _one("a.dcm", rebuilt({(2, 0x10): {"vr": vr, "length": b"\xff\xff\xff\x7f"}}), f"meta group with VR {vr!r}")
        for vr in (b"ZZ", b"\0\0", b"UN", b"OB")
    ]
    fragment = b"\xfe\xff\x00\xe0"
    for sizes in ((0, 0xFFFFFFFF), (0xFFFFFFF0, 8), (0, 0xFFFFFFFE), (3, 1)):
        value = b"".join(fragment + struct.pack("<I", size) + b"\xff\xd8\xff\xe0" for size in sizes)
        change = {
            (2, 0x10): {"value": b"1.2.840.10008.1.2.4.50", "length": b"\x16\0"},
            (0x7FE0, 0x10): {"vr": b"OB", "length": b"\xff\xff\xff\xff", "value": value},
        }
        cases.append(_one("a.dcm", rebuilt(change), f"fragments of {sizes}"))
    for depth in (249, 1000, 5000):
        item = fragment + b"\xff\xff\xff\xff" + struct.pack("<HH", 0x0040, 0xA730) + b"SQ\0\0\xff\xff\xff\xff"
        end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
        value = item * depth + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) + end * depth
        nested = struct.pack("<HH", 0x0040, 0xA730) + b"SQ\0\0\xff\xff\xff\xff" + value
        at = next(n for n, e in enumerate(elements) if e.tag == (0x7FE0, 0x10))
        parts = [*map(_stored, elements[:at]), nested, *map(_stored, elements[at:])]
        cases.append(_one("a.dcm", data[:132] + b"".join(parts), f"{depth} nested sequences"))
    big = {(0x28, 0x10): {"value": b"\xff\xff"}, (0x28, 0x11): {"value": b"\xff\xff"}}
    cases.append(_one("a.dcm", rebuilt(big), "65535 rows and columns"))
    twelve = {
        (0x28, 0x100): {"value": b"\x0c\0"},
        (0x28, 0x101): {"value": b"\x0c\0"},
        (0x28, 0x102): {"value": b"\x0b\0"},
    }
    cases.append(_one("a.dcm", rebuilt(twelve), "12 bits allocated"))
    cases.append(_one("a.dcm", data[:-20], "pixels that are cut off"))
    # Found here: a length that pydicom believes, and frames that are counted one by one.
    long = struct.pack("<HH", 0x0040, 0xA730) + b"UT\0\0\xf0\xff\xff\xff"
    cases.append(_one("a.dcm", data[:132] + b"".join(map(_stored, elements)) + long, "4 GB of text announced"))
    frames = struct.pack("<HH", 0x0028, 0x0008) + b"IS\x0a\x002147483647"
    at = next(n for n, e in enumerate(elements) if e.tag > (0x28, 0x08))
    parts = [*map(_stored, elements[:at]), frames, *map(_stored, elements[at:])]
    cases.append(_one("a.dcm", data[:132] + b"".join(parts), "2147483647 frames"))
    return cases


def dcm_folder() -> list[Case]:
    """A right slice beside one of ``dcm``."""
    from fuzzing.seeds_dicom import dcm_series

    files = dcm_series()[0].files
    return [Case({**files, "2.dcm": case.files["a.dcm"]}, "", case.trail) for case in dcm()]


def checkpoints() -> list[Case]:
    """Pickles that would run code, text in place of a checkpoint, a bomb, deep nesting, tensors without bytes."""
    import torch

    buffer = io.BytesIO()
    torch.save({"model": {"a": torch.ones(2), "b": _System()}}, buffer)
    view = io.BytesIO()
    torch.save({"a": torch.ones(1).expand(2**20, 2**20)}, view)
    integers = io.BytesIO()
    torch.save({1: torch.ones(1), 2: torch.ones(1)}, integers)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
        archive.writestr("archive/data/0", bytes(3 << 20))
        archive.writestr("archive/version", "3\n")
    return [
        _one("a.pth", buffer.getvalue(), "os.system"),
        *(
            _one("a.pth", pickle.dumps(evil, protocol), f"{type(evil).__name__}, protocol {protocol}")
            for evil in (_System(), _Open())
            for protocol in (0, 2, 4)
        ),
        _one("a.pth", b"hello world", "text"),
        _one("a.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "LFS pointer"),
        _one("a.pth", b"<html><body>404</body></html>", "page"),
        _one("a.pth", b"\x80\x02" + b"(" * 30000 + b".", "30000 marks"),
        _one("a.pth", view.getvalue(), "one number seen as 4 TB"),
        _one("a.pth", integers.getvalue(), "names that are numbers"),
        _one("a.pth", bomb.getvalue(), "bomb"),
        # Found here: a text that torch's unpickler believes, a name that its message takes long to look through.
        _one("a.pth", b"}q\0X\xff\xff\xff\x7fy.c", "2 GB of text announced"),
        _one("a.pth", b"\x80\2c" + b"]" * 14504 + b"." + b"]" * 5496, "long name"),
    ]


def noise(name: str, folder: str = "case") -> list[Case]:
    """No file of the format at all: nothing, one byte, random bytes, letters."""
    rng = Random(name)
    contents = (b"", b"\0", b"hello world\n", rng.randbytes(600), b"\0" * 2000, b"\xff" * 2000)
    return [Case({name: content}, name, (f"noise {number}",), folder) for number, content in enumerate(contents)]
