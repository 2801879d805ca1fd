"""The header of NIfTI-1 and NIfTI-2 files (https://nifti.nimh.nih.gov/nifti-1, /nifti-2)."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import nibabel as nib
import numpy as np

from bundle.data.headers.claims import Claim, check_deflated, check_raw, damaged, refusal, too_large
from bundle.data.limits import Limits

# The first number of a header is its size; the voxels of a single file begin at the earliest behind four more bytes.
_LAYOUTS = {348: nib.nifti1.header_dtype, 540: nib.nifti2.header_dtype}
_SINGLE_FILE = (b"n+1", b"n+2")
_UNITS = (0, 1, 2, 3)  # of lengths: unknown, m, mm, micrometres
_CIFTI = range(3000, 3100)  # intent codes of surfaces and their XML


def check_nifti(path: Path, limits: Limits) -> None:
    """Refuse a NIfTI file whose header is damaged or claims too much: see ``check_header``."""
    is_compressed = path.name.lower().endswith(".gz")
    with gzip.open(path) if is_compressed else path.open("rb") as file:
        header = _header_of(file.read(max(_LAYOUTS)), path)
        start = _start_of_voxels(header, path, limits)
        file.seek(header.dtype.itemsize)
        _check_extensions(file.read(start - header.dtype.itemsize), header.dtype["sizeof_hdr"], path)
    claim = _claim_of(header, path)
    claim.check(path, limits)
    size = path.stat().st_size
    if is_compressed:
        check_deflated(path, claim, size, before=start)
    else:
        check_raw(path, claim, size - start)


def _header_of(block: bytes, path: Path) -> np.void:
    for size, layout in _LAYOUTS.items():
        for order in "<>":
            if len(block) >= size and np.frombuffer(block, np.dtype(f"{order}i4"), 1)[0] == size:
                header = np.frombuffer(block, layout.newbyteorder(order), 1)[0]
                if header["magic"].item()[:3] not in _SINGLE_FILE:
                    raise refusal(path, "it is half of a pair (.hdr, .img) or no NIfTI; save it as one .nii.gz")
                return header
    if block[:2] == b"\x1f\x8b":
        raise refusal(path, "it is compressed; name it .nii.gz")
    raise damaged(path, "expected a NIfTI header of 348 or 540 bytes")


def _claim_of(header: np.void, path: Path) -> Claim:
    rank = int(header["dim"][0])
    if not 1 <= rank <= 7:
        raise damaged(path, f"its header must have 1 to 7 dimensions, got {rank}")
    code = int(header["datatype"])
    codes = nib.nifti1.data_type_codes
    bits = 8 * codes.dtype[code].itemsize if code in codes.value_set() else 0
    if not bits:
        raise refusal(path, f"its header has no usable type of voxels, got code {code}; save it as int16 or float32")
    if int(header["bitpix"]) not in (0, bits):  # some writers leave it out
        raise damaged(path, f"its type has {bits} bits a voxel, its header says {header['bitpix']}")
    if code in codes.value_set() and int(header["intent_code"]) in _CIFTI and header.dtype.itemsize == 540:
        raise refusal(path, "it is a CIFTI file of surfaces; save the volume as NIfTI")
    if (unit := int(header["xyzt_units"]) & 7) not in _UNITS:
        raise refusal(path, f"its lengths have no known unit, got code {unit}; set xyzt_units to 2 (mm)")
    return Claim(tuple(int(size) for size in header["dim"][1 : rank + 1]), bits // 8)


def _check_extensions(block: bytes, number: np.dtype, path: Path) -> None:
    """Refuse an extension longer than what lies before the voxels: nibabel would read as much as it announces.

    Args:
        block: from the end of the header to the first voxel; it begins with the four bytes of the extender.
        number: int32 in the byte order of the header.
        path: of the file.

    Raises:
        VolumeError: it does not fit.
    """
    place = 4
    if block[:1] not in (b"", b"\0") and len(block) < place + 16:  # nibabel would take the voxels for extensions
        raise damaged(path, "its header announces extensions, its voxels begin before them")
    while block[:1] not in (b"", b"\0") and place + 16 <= len(block):
        size = int(np.frombuffer(block, number, 1, place)[0])
        if not 8 <= size <= len(block) - place:
            raise damaged(path, f"an extension of its header announces {size} bytes, {len(block) - place} are there")
        place += size


def _start_of_voxels(header: np.void, path: Path, limits: Limits) -> int:
    """The offset of the first voxel; before it lie the header and its extensions."""
    smallest = header.dtype.itemsize + 4
    start = float(header["vox_offset"])
    if not math.isfinite(start) or (start and start < smallest):
        raise damaged(path, f"its voxels must begin behind the header at byte {smallest}, got {start:g}")
    if start > limits.header_bytes:
        raise too_large(path, f"{start:g} bytes before the voxels", "header_bytes", limits)
    return int(start) or smallest
