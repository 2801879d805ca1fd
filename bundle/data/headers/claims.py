"""What a header claims about the voxels, and whether the file can hold it."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bundle.data.limits import Limits, variable_of
from bundle.errors import VolumeError

# No stream of deflate grows more than this: 258 bytes from two bits (zlib's technical details, "maximum compression
# factor"). Label maps come near it, so a smaller bound would refuse good files.
DEFLATE_RATIO = 1032
_GZIP_HEADER = 18  # bytes of gzip's shortest header and trailer
# A number of the geometry in a text header, at most 1e49: ITK does not come back from the decomposition of a matrix
# whose squares overflow. No digit can be matched in two ways, else a list of 25 numbers could be in 20 ** 25.
NUMBER = r"[-+]?(?:\d{1,20}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE](?:\+?[012]?\d|-\d{1,3}))?"
# A value of a voxel in a text header.
VALUE = r"[-+]?(?:[\d.]{1,40}(?:[eE][-+]?\d{1,3})?|(?i:nan|inf))"
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
            raise refusal(path, f"a volume must have voxels, got the size {_shown(self.sizes)}")
        if self.voxels > limits.voxels:
            raise too_large(path, f"{_shown(self.sizes)} voxels", "voxels", limits)
        if self.data_bytes > limits.data_bytes:
            raise too_large(path, f"{self.data_bytes} bytes of voxels", "data_bytes", limits)


def _shown(sizes: Sequence[int]) -> str:
    return " x ".join(str(size) if size < 10**15 else f"{float(size):.1e}" for size in sizes[:8])


def refusal(path: Path, reason: str) -> VolumeError:
    """What cannot be used, and what would be right."""
    return VolumeError(f"cannot read {path}: {reason}")


def damaged(path: Path, reason: str) -> VolumeError:
    """The sentence of ``read_volume`` about a file that breaks off or is something else."""
    return VolumeError(f"cannot read {path}, it is damaged or not of that format ({reason})")


@contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Turn what a library raises on a bad file into a sentence; our own errors pass.

    A parser may fail on a damaged file in any way (SyntaxError, IndexError, ZeroDivisionError, errors of its own), so
    this takes every exception and keeps it as the cause. What only a mistake in the code raises passes.
    """
    try:
        yield
    except (VolumeError, NameError, ImportError):
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise damaged(path, reason) from error


def too_large(path: Path, what: str, limit: str, limits: Limits) -> VolumeError:
    """The one sentence about a limit: "9 x 9 x 9 voxels, the limit is 512 (MONAI_SAM_MAX_VOXELS)"."""
    return refusal(path, f"it is too large: {what}, the limit is {getattr(limits, limit)} ({variable_of(limit)})")


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
        raise damaged(
            path, f"its header announces {claim.data_bytes} bytes of voxels, the file holds {max(available, 0)}"
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
        raise damaged(
            path, f"its header announces {claim.data_bytes} bytes of voxels, too many for {available} compressed bytes"
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
    stem, is_attached = path.name[: path.name.rindex(".")], path.name.lower().endswith(_ATTACHED_ONLY)
    named = name.removeprefix("./")
    if not is_attached and named.startswith(stem) and named[len(stem) :].lower() in _DATA_ENDINGS:
        data = path.with_name(named)
        if data.is_file() and not data.is_symlink():
            return data
    where = "in the file itself" if is_attached else f"beside it in {stem}.raw, {stem}.zraw or {stem}.raw.gz"
    raise refusal(path, f"it has detached data; its voxels must lie {where}, save it in one file")


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
            raise damaged(path, f"line {count} of its header holds control characters")
        yield line.decode("latin-1")
