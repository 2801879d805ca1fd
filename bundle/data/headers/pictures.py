"""The headers of PNG, JPEG and TIFF, which Pillow or tifffile reads without their pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import tifffile
from PIL import Image, UnidentifiedImageError

from bundle.data.headers.claims import damaged, too_large
from bundle.data.limits import Limits

# Not what Pillow hands on to other programs (EPS) or to other people's libraries.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")


def check_picture(path: Path, limits: Limits) -> None:
    """Refuse a picture of too many pixels or pages: see ``check_header``."""
    try:
        picture = Image.open(path, formats=FORMATS)
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


def _check_tiff(path: Path, limits: Limits) -> None:
    try:
        with tifffile.TiffFile(path) as tiff:
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
