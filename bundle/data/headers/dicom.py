"""DICOM files: the preamble and the length of the file meta information (PS3.10, chapter 7), no more.

What lies behind them is for the reader; a hostile one is held by the process it is read in (``bundle.data.guarded``).
"""

from __future__ import annotations

import struct
from pathlib import Path

from bundle.data.headers.claims import damaged, too_large
from bundle.data.limits import Limits

_PREAMBLE = 128
_GROUP_LENGTH = struct.pack("<HH2sH", 0x0002, 0x0000, b"UL", 4)  # (0002,0000), explicit little endian
# A file meta information holds a dozen short elements and at most a private one.
_LONGEST_META = 2**16


def check_dicom_file(path: Path, limits: Limits) -> None:
    """Refuse a file whose meta information is longer than itself: see ``check_header``.

    A file without the magic letters passes: whether it is DICOM all the same, or nothing at all, the reader says.
    """
    size = path.stat().st_size
    if size > limits.data_bytes:
        raise too_large(path, f"{size} bytes", "data_bytes", limits)
    with path.open("rb") as file:
        head = file.read(_PREAMBLE + 4 + len(_GROUP_LENGTH) + 4)
    meta = head[_PREAMBLE + 4 :]
    if head[_PREAMBLE : _PREAMBLE + 4] != b"DICM" or not meta.startswith(_GROUP_LENGTH) or len(meta) < 12:
        return
    (length,) = struct.unpack("<I", meta[8:12])
    if length > min(_LONGEST_META, size - len(head)):
        raise damaged(path, f"its file meta information of {length} bytes does not fit into it")


def check_dicom_folder(folder: Path, limits: Limits) -> None:
    """Refuse a folder of more files than a series has: see ``check_header``."""
    count = sum(1 for _ in folder.iterdir())
    if count > limits.files:
        raise too_large(folder, f"{count} files", "files", limits)
