"""Pictures: PNG, JPEG and TIFF by Pillow, except where it would change the values: see ``formats.tiff`` for TIFF.

A picture is read the way viewers show it: turned by its orientation tag (EXIF or TIFF), palettes resolved, opacity
dropped. The pages of a TIFF are slices; what is no volume (channels, time points, pages of several sizes) is refused.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, ImageSequence
from PIL.PngImagePlugin import PngInfo

from bundle.data.formats.stored import LPS_TO_RAS, Stored, checked_spacing, picture_modality, voxel_sizes
from bundle.data.formats.tiff import ORIENTATION, examine_tiff, read_tiff
from bundle.data.headers.pictures import FORMATS
from bundle.errors import VolumeError
from bundle.files import BoundedFile

logger = logging.getLogger(__name__)

# A picture has no position; this affine shows it the way it is stored when its slice is taken as axial.
PICTURE_AFFINE = LPS_TO_RAS
# The text of a PNG in which we keep the spacing: [x, y, z] in mm. Its own resolution is whole pixels per metre, and in
# other people's pictures it is that of a screen.
_PNG_SPACING = "monai-sam spacing"
_LOSSY = ("JPEG", "MPO")
_BITS, _PHOTOMETRIC = 258, 262  # tags of TIFF


def read_picture(path: Path, *, is_label: bool) -> Stored:
    """Read PNG, JPEG or TIFF: i is the column, j the row, k the page.

    8-bit and 16-bit, grey and colour keep their values. A palette is resolved for an image and kept as numbers for a
    label; RGB with equal channels is grey. The spacing is 1 mm, except in a PNG of ``write_picture``.

    Raises:
        VolumeError: it is no volume, too large, or of a type that is not read.
    """
    if path.suffix.lower() in (".tif", ".tiff") and not examine_tiff(path).is_plain:
        stored, orientation = read_tiff(path)
        spacing, pages = np.ones(3), [_upright(page, orientation) for page in stored]
    else:
        spacing, pages = _pages(path, is_label=is_label)
    array = np.stack(pages)  # (K, J, I) or (K, J, I, 3)
    if array.ndim == 4 and (array[..., :1] == array).all():
        array = array[..., 0]
    affine = PICTURE_AFFINE @ np.diag([*spacing, 1.0])
    return Stored(array.transpose((2, 1, 0, 3)[: array.ndim]), affine, picture_modality(array), placed=False)


def _pages(path: Path, *, is_label: bool) -> tuple[np.ndarray, list[np.ndarray]]:
    """The spacing, and each page as (J, I) or (J, I, 3)."""
    try:
        with BoundedFile(path) as file, Image.open(file, formats=FORMATS) as picture:
            if is_label and picture.format in _LOSSY:
                logger.warning("%s is a JPEG, which changes the numbers of labels; a PNG keeps them", path)
            spacing = checked_spacing(json.loads(picture.info.get(_PNG_SPACING, "[1, 1, 1]")), path)
            if _is_deep_colour(picture):
                return spacing, [_deep_page(path, picture.getexif().get(ORIENTATION, 1))]
            is_inverted = is_label and _shows_zero_white(picture)
            pages = [_page(page, is_label=is_label) for page in ImageSequence.Iterator(picture)]
            return spacing, [255 - page if is_inverted else page for page in pages]
    except Image.DecompressionBombError as error:
        raise VolumeError(f"{path} is too large to be read ({error}); crop or shrink it") from error


def _shows_zero_white(picture: Image.Image) -> bool:
    """Whether Pillow inverts the values of a TIFF: ImageJ shows 0 in white, which is the background of labels."""
    tags = getattr(picture, "tag_v2", {})
    return picture.mode == "L" and tags.get(_PHOTOMETRIC) == 0 and tags.get(_BITS) == (8,)


def _is_deep_colour(picture: Image.Image) -> bool:
    """Whether a pixel of a PNG has several values of 16 bits, of which Pillow would keep the upper byte."""
    return len(picture.getbands()) > 1 and any(";16" in str(tile.args) for tile in picture.tile)


def _deep_page(path: Path, orientation: int) -> np.ndarray:
    page = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if page is None or page.ndim != 3:
        raise VolumeError(f"cannot read {path}, its colours of 16 bits are damaged")
    return _upright(page[..., 2::-1], orientation)  # OpenCV's are blue, green, red


def _upright(page: np.ndarray, orientation: int) -> np.ndarray:
    """A (J, I, ...) page as its orientation tag shows it: 2 to 4 mirror or turn it, 5 to 8 swap rows and columns."""
    flips = {2: (1,), 3: (0, 1), 4: (0,), 5: (), 6: (1,), 7: (0, 1), 8: (0,)}
    page = page.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else page
    return np.flip(page, flips.get(orientation, ()))


def _page(page: Image.Image, *, is_label: bool) -> np.ndarray:
    page = ImageOps.exif_transpose(page)
    if page.mode == "LA":
        page = page.convert("L")
    elif page.mode in {"RGBA", "RGBX", "CMYK", "YCbCr", "PA"} or (page.mode == "P" and not is_label):
        page = page.convert("RGB")
    return np.asarray(page)


def write_picture(stored: Stored, path: Path, *, source: Path | None, compress: bool) -> None:
    """Write one slice as an 8-bit, 16-bit or RGB PNG; of the affine it keeps the spacing."""
    array = stored.array
    if array.shape[2] != 1:
        raise VolumeError(f"a picture holds one slice, got {array.shape[2]}; write .nii.gz, .nrrd or .npz instead")
    if array.dtype not in (np.uint8, np.uint16) or (array.ndim == 4 and array.dtype != np.uint8):
        raise VolumeError(f"a PNG holds 8 or 16 bits without sign, got {array.dtype}; write .nii.gz or .nrrd instead")
    texts = PngInfo()
    texts.add_text(_PNG_SPACING, json.dumps(voxel_sizes(stored.affine).tolist()))
    picture = Image.fromarray(np.ascontiguousarray(array[:, :, 0].swapaxes(0, 1)))
    picture.save(path, compress_level=1 if compress else 0, pnginfo=texts)
