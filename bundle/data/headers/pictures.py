"""The headers of PNG, JPEG and TIFF, which Pillow reads without their pixels."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from bundle.data.headers.claims import too_large
from bundle.data.limits import Limits

# Not what Pillow hands on to other programs (EPS) or to other people's libraries.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")


def check_picture(path: Path, limits: Limits) -> None:
    """Refuse a picture of too many pixels or pages: see ``check_header``."""
    try:
        picture = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise too_large(path, "more pixels on a page", "picture_pixels", limits) from error
    total = 0
    with picture:
        for pages in range(1, limits.pages + 1):
            pixels = picture.width * picture.height  # each page of a TIFF has its own size
            total += pixels
            if pixels > limits.picture_pixels:
                raise too_large(path, f"{pixels} pixels on a page", "picture_pixels", limits)
            if total > limits.voxels:
                raise too_large(path, f"{total} pixels on {pages} pages", "voxels", limits)
            try:
                picture.seek(pages)
            except EOFError:
                return
    raise too_large(path, "more pages", "pages", limits)
