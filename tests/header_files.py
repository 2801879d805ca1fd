"""Small files with text headers for the tests that check them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

TYPES = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64)
NRRD = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n"
META = "ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"


def write(path: Path, text: str, data: bytes = bytes(64), *, end: str = "\n") -> Path:
    """A text header, its end, and voxels."""
    path.write_bytes(text.encode("latin-1") + end.encode() + data)
    return path


def nrrd(folder: Path, text: str, data: bytes = bytes(64)) -> Path:
    return write(folder / "a.nrrd", text, data)


def meta(folder: Path, text: str, data: bytes = bytes(64)) -> Path:
    return write(folder / "a.mha", text, data, end="")
