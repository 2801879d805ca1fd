"""DICOM files: which are such, and the preamble and the length of the file meta information (PS3.10, chapter 7).

What lies behind them is for the reader; a hostile one is held by the process it is read in (``bundle.data.guarded``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from bundle.data.headers.claims import damaged, too_large
from bundle.data.limits import Limits

_PREAMBLE = 128
_GROUP_LENGTH = struct.pack("<HH2sH", 0x0002, 0x0000, b"UL", 4)  # (0002,0000), explicit little endian
# A file meta information holds a dozen short elements and at most a private one.
_LONGEST_META = 2**16
# Names that lie in folders of DICOM and are none of its slices.
_OTHER_ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".txt", ".xml", ".json", ".html", ".inf", ".exe", ".zip")


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its first bytes: the letters DICM, or in files before 1993 a tag of group 8."""
    with path.open("rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or (
        start[:2] == b"\x08\x00" and start[2:4] in (b"\x00\x00", b"\x05\x00", b"\x08\x00")
    )


def holds_dicom(folder: Path) -> bool:
    """Whether DICOM files lie in a folder; one is enough; previews and an index (DICOMDIR) are not looked at."""
    return any(is_dicom(path) for path in _candidates(folder))


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files that lie in a folder itself, by name."""
    return [path for path in _candidates(folder) if is_dicom(path)]


def _candidates(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        name = path.name.lower()
        if path.is_file() and not name.startswith((".", "dicomdir")) and not name.endswith(_OTHER_ENDINGS):
            yield path


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
