"""What a header claims about the voxels, and whether the file can hold it."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bundle.data.limits import Limits, variable_of
from bundle.errors import VolumeError

# No stream of deflate grows more than this: 258 bytes from two bits (zlib's technical details, "maximum compression
# factor"). Label maps come near it, so a smaller bound would refuse good files.
DEFLATE_RATIO = 1032
_GZIP_HEADER = 18  # bytes of gzip's shortest header and trailer
_ATTACHED_ONLY = (".mha", ".nrrd")
_DATA_ENDINGS = (".raw", ".zraw", ".raw.gz", ".img", ".bin")
_BLOCK = 2**20
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True)
class Claim:
    """The voxels that a header announces.

    Attributes:
        sizes: voxels along each axis.
        channels: values of a voxel.
        item_bytes: bytes of a value.
    """

    sizes: tuple[int, ...]
    item_bytes: int
    channels: int = 1

    @property
    def voxels(self) -> int:
        """Their number."""
        return math.prod(self.sizes)

    @property
    def data_bytes(self) -> int:
        """Bytes once they are decompressed."""
        return self.voxels * self.channels * self.item_bytes

    def check(self, path: Path, limits: Limits) -> None:
        """Refuse what is empty or larger than the limits.

        Raises:
            VolumeError: it is.
        """
        if min(self.sizes, default=0) < 1 or self.channels < 1:
            raise VolumeError(f"{path}: a volume must have voxels, got the size {_shown(self.sizes)}")
        if self.voxels > limits.voxels:
            raise too_large(path, f"{_shown(self.sizes)} voxels", "voxels", limits)
        if self.data_bytes > limits.data_bytes:
            raise too_large(path, f"{self.data_bytes} bytes of voxels", "data_bytes", limits)


def _shown(sizes: Sequence[int]) -> str:
    return " x ".join(str(size) if size < 10**15 else f"{float(size):.1e}" for size in sizes[:8])


def too_large(path: Path, what: str, limit: str, limits: Limits) -> VolumeError:
    """The one sentence about a limit: ``ct.nii has 9 x 9 x 9 voxels, the limit is 512 (MONAI_SAM_MAX_VOXELS)``."""
    return VolumeError(f"{path} is too large: {what}, the limit is {getattr(limits, limit)} ({variable_of(limit)})")


def check_raw(path: Path, claim: Claim, available: int) -> None:
    """Refuse voxels that are not all there; bytes behind them do no harm.

    Args:
        path: the file of the header.
        claim: what it says.
        available: bytes from the first voxel to the end of the file.

    Raises:
        VolumeError: they are not.
    """
    if available < claim.data_bytes:
        raise VolumeError(
            f"{path} is cut off: its header announces {claim.data_bytes} bytes of voxels, the file holds "
            f"{max(available, 0)}; copy it again"
        )


def check_deflated(path: Path, claim: Claim, available: int, *, before: int = 0) -> None:
    """Refuse a claim that no compressed file of this size could hold; the reader counts the rest as it reads.

    Args:
        path: the file of the header.
        claim: what it says.
        available: compressed bytes.
        before: bytes that are decompressed before the first voxel.

    Raises:
        VolumeError: it could not.
    """
    if before + claim.data_bytes > DEFLATE_RATIO * max(available - _GZIP_HEADER, 1):
        raise VolumeError(
            f"{path} is cut off: its header announces {claim.data_bytes} bytes of voxels, which {available} compressed "
            "bytes cannot hold; copy it again"
        )


def inflated_length(file: BinaryIO, wanted: int, compressed: int) -> int:
    """How many bytes a zlib or gzip stream gives, counted up to ``wanted`` and without keeping them.

    Args:
        file: stands at the first byte of the stream.
        wanted: where to stop.
        compressed: length of the stream in bytes.

    Raises:
        zlib.error: it is damaged.
    """
    decoder = zlib.decompressobj(wbits=47)  # either header
    length = 0
    while length < wanted and not decoder.eof:
        block = decoder.unconsumed_tail or file.read(min(_BLOCK, compressed))
        if not block:
            length += len(decoder.flush())
            break
        compressed -= 0 if decoder.unconsumed_tail else len(block)
        length += len(decoder.decompress(block, _BLOCK))
    return min(length, wanted)


def detached_file(path: Path, name: str) -> Path:
    """The file of the voxels that a header names: for .mhd and .nhdr one of the same name beside it, and no other.

    Whatever else is named gets the same answer, whether it exists or not: a header that somebody sent must not read
    or find another file.

    Raises:
        VolumeError: another file is named, or it is a link or missing.
    """
    lower = path.name.lower()
    stem = path.name[: lower.rindex(".")]
    named = name.removeprefix("./")
    data = path.with_name(f"{stem}{_DATA_ENDINGS[0]}")
    if not lower.endswith(_ATTACHED_ONLY) and named.startswith(stem) and named[len(stem) :].lower() in _DATA_ENDINGS:
        data = path.with_name(named)
        if data.is_file() and not data.is_symlink():
            return data
    own = (
        "in the file itself" if lower.endswith(_ATTACHED_ONLY) else f"beside it in {stem}.raw, {stem}.zraw or the like"
    )
    raise VolumeError(
        f"{path} has detached data: its voxels must lie {own}; save it as .mha, .nrrd or .nii.gz in one file"
    )


def header_lines(file: BinaryIO, path: Path, limits: Limits) -> Iterator[str]:
    """The lines of a text header, without their ends, as far as the caller asks for them.

    Raises:
        VolumeError: too many or too long ones, or control characters, at which parsers end words and lines differently.
    """
    read = count = 0
    while line := file.readline(limits.line_bytes + 1):
        read, count = read + len(line), count + 1
        if len(line) > limits.line_bytes:
            raise too_large(path, "a longer line in its header", "line_bytes", limits)
        if read > limits.header_bytes:
            raise too_large(path, "a longer header", "header_bytes", limits)
        if count > limits.header_lines:
            raise too_large(path, "more lines in its header", "header_lines", limits)
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        if _CONTROL.search(line):
            raise VolumeError(f"{path}: line {count} of its header holds control characters; save it again")
        yield line.decode("latin-1")
