"""The headers of PNG, JPEG and TIFF, which Pillow or tifffile reads without their pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tifffile
from PIL import Image, UnidentifiedImageError

from bundle.data.headers.claims import DEFLATE_RATIO, damaged, too_large
from bundle.data.limits import LIMITS, Limits
from bundle.files import BoundedFile

# Pixels that a byte can hold at most: 8 of one bit, as far as the compression shrinks them. JPEG has a bit
# or more for 8 x 8 pixels; the fax codes have one for a whole row.
_DEFLATED, _LZW = 8 * DEFLATE_RATIO, 8 * 1400
_PIXELS_PER_BYTE = {
    **dict.fromkeys(("PNG", "tiff_adobe_deflate", "tiff_deflate"), _DEFLATED),
    **dict.fromkeys(("GIF", "tiff_lzw"), _LZW),
    **dict.fromkeys(("JPEG", "MPO", "jpeg", "tiff_jpeg", "packbits"), 512),
    **dict.fromkeys(("raw", "BMP"), 8),
}
_FAX = dict.fromkeys(("tiff_ccitt", "group3", "group4"), 8)
_PIXELS_PER_BYTE_AT_MOST = 2**16  # of zstd, LZMA and WebP
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_PARTS = 1 << 20  # libpng's have 8 kB of pixels each
_PNG_VALUES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # kind of colour -> values of a pixel
# Not what Pillow hands on to other programs (EPS) or to other people's libraries.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")


def check_picture(path: Path, limits: Limits) -> None:
    """Refuse a picture of too many pixels or pages: see ``check_header``."""
    try:
        picture = Image.open(BoundedFile(path), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise too_large(path, "more pixels on a page", "picture_pixels", limits) from error
    except UnidentifiedImageError:
        # Pillow knows no TIFF of 64 bits or of five channels; what becomes of those, their reader says.
        if not path.name.lower().endswith((".tif", ".tiff")):
            raise
        _check_tiff(path, limits)
    else:
        with picture:
            _check_pages(path, _pixels_by_pillow(picture), limits)
            picture.seek(0)
            _check_room(path, picture)
            if picture.format == "PNG":
                _check_png(path)


@contextmanager
def opened_tiff(path: Path, limits: Limits = LIMITS) -> Iterator[tifffile.TiffFile]:
    """A TIFF whose pages are counted: tifffile would follow a circle of them without end to find the series.

    Raises:
        VolumeError: there are more than the limit.
        tifffile.TiffFileError: it is none.
    """
    with tifffile.TiffFile(path) as tiff:
        if len(tiff.pages) > limits.pages:
            raise too_large(path, "more pages", "pages", limits)
        yield tiff


def _check_tiff(path: Path, limits: Limits) -> None:
    try:
        with opened_tiff(path, limits) as tiff:
            # The series of ImageJ may have more pages by its description than by its directory.
            claimed = max((series.size for series in tiff.series), default=0)
            if claimed > limits.voxels:
                raise too_large(path, f"{claimed} values", "voxels", limits)
            _check_pages(path, (page.imagewidth * page.imagelength for page in tiff.pages), limits)
    except (tifffile.TiffFileError, IndexError, AttributeError, ArithmeticError) as error:
        raise damaged(path, str(error)) from error


def _pixels_by_pillow(picture: Image.Image) -> Iterator[int]:
    """Pixels of each page: those of a TIFF have sizes of their own."""
    page = 0
    while True:
        yield picture.width * picture.height
        page += 1
        try:
            picture.seek(page)
        except EOFError:
            return


def _check_room(path: Path, picture: Image.Image) -> None:
    """Refuse a page of more pixels than a file of this size can hold; Pillow makes room for all of them first."""
    compression = picture.info.get("compression") if picture.format == "TIFF" else picture.format
    ratio = max(_PIXELS_PER_BYTE.get(compression, _PIXELS_PER_BYTE_AT_MOST), _FAX.get(compression, 0) * picture.width)
    size = path.stat().st_size
    if picture.width * picture.height > ratio * size:
        raise damaged(path, f"it announces {picture.width} x {picture.height} pixels, too many for {size} bytes")


def _check_png(path: Path) -> None:
    """Refuse a PNG whose parts, or whose rows once they are inflated, are longer than a file of its size can hold.

    OpenCV, which reads colours of 16 bits, makes room for a part before it looks for it.
    """
    size, at = path.stat().st_size, len(_PNG_START)
    with path.open("rb") as file:
        for _ in range(_PNG_PARTS):
            file.seek(at)
            head = file.read(8)
            if len(head) < 8:
                return
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            if kind == b"IEND":
                return
            at += 12 + length
            if at > size or (kind == b"IHDR" and length < 13):
                raise damaged(path, f"a part of it announces {length} bytes, the file has {size}")
            if kind == b"IHDR":
                _check_rows(path, file.read(10), size)
    raise damaged(path, f"it has more than {_PNG_PARTS} parts")


def _check_rows(path: Path, header: bytes, size: int) -> None:
    """``header`` is what IHDR begins with: width, height, bits of a value, kind of colour (PNG, section 11.2.2)."""
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits, colour = header[8], header[9]
    row = 1 + (width * bits * _PNG_VALUES.get(colour, 1) + 7) // 8
    if row * height > DEFLATE_RATIO * size:
        raise damaged(path, f"it announces {height} rows of {row} bytes, too many for {size} bytes")


def _check_pages(path: Path, sizes: Iterable[int], limits: Limits) -> None:
    total = 0
    for page, pixels in enumerate(sizes, start=1):
        total += pixels
        if page > limits.pages:
            raise too_large(path, "more pages", "pages", limits)
        if pixels > limits.picture_pixels:
            raise too_large(path, f"{pixels} pixels on a page", "picture_pixels", limits)
        if total > limits.voxels:
            raise too_large(path, f"{total} pixels on {page} pages", "voxels", limits)
