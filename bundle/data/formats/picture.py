"""Pictures: PNG, JPEG and TIFF by Pillow, colours of 16 bits by tifffile and OpenCV, for Pillow keeps 8 bits of those.

A picture is read the way viewers show it: turned by its orientation tag (EXIF or TIFF), palettes resolved, opacity
dropped. The pages of a TIFF are slices; what is no volume (channels, time points, pages of several sizes) is refused.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import tifffile
from PIL import Image, ImageOps, ImageSequence
from PIL.PngImagePlugin import PngInfo

from bundle.data.formats.stored import LPS_TO_RAS, Stored, checked_spacing, picture_modality
from bundle.errors import VolumeError

# A picture has no position; this affine shows it the way it is stored when its slice is taken as axial.
PICTURE_AFFINE = LPS_TO_RAS
# The text of a PNG in which we keep the spacing: [x, y, z] in mm. Its own resolution is whole pixels per metre, and in
# other people's pictures it is that of a screen.
_PNG_SPACING = "monai-sam spacing"
_ORIENTATION = 274  # tag of EXIF and TIFF
# The axes of a TIFF as tifffile names them: rows, columns, samples of a colour; slices, pages of no stated meaning.
_AXES_OF_VOLUMES = frozenset("YXSZIQ")
# Compressions that tifffile decodes without further packages: none, both kinds of deflate, PackBits.
_TIFFFILE_DECODES = (1, 8, 32946, 32773)
_AXIS_NAMES = {"C": "channels", "T": "time points", "A": "angles", "P": "phases", "R": "tiles", "E": "wavelengths"}


def read_picture(path: Path, *, is_label: bool) -> Stored:
    """Read PNG, JPEG or TIFF: i is the column, j the row, k the page.

    8-bit and 16-bit, grey and colour keep their values. A palette is resolved for an image and kept as numbers for a
    label; RGB with equal channels is grey. The spacing is 1 mm, except in a PNG of ``write_picture``.

    Raises:
        VolumeError: it is no volume, too large, or of a type that is not read.
    """
    if path.suffix.lower() in (".tif", ".tiff"):
        _check_tiff(path)
    spacing, pages = _pages(path, is_label=is_label)
    array = np.stack(pages)  # (K, J, I) or (K, J, I, 3)
    if array.ndim == 4 and (array[..., :1] == array).all():
        array = array[..., 0]
    affine = PICTURE_AFFINE @ np.diag([*spacing, 1.0])
    return Stored(array.transpose((2, 1, 0, 3)[: array.ndim]), affine, picture_modality(array), placed=False)


def _check_tiff(path: Path) -> None:
    """Refuse a TIFF that holds something else than one volume of grey values or colours.

    Raises:
        VolumeError: naming what it holds.
    """
    # Other programs' odd tags are not our user's matter.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        with tifffile.TiffFile(path) as tiff:
            series = tiff.series
            axes, shape, dtype = series[0].axes, series[0].shape, series[0].dtype
    except (tifffile.TiffFileError, IndexError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise VolumeError(f"cannot read {path}, it is damaged or no TIFF ({error})") from error
    if len(series) > 1:
        raise VolumeError(f"expected pages of one size and type in {path}, got {len(series)} kinds; save one of them")
    sizes = dict(zip(axes, shape, strict=True))
    if odd := [axis for axis, size in sizes.items() if axis not in _AXES_OF_VOLUMES and size > 1]:
        name = _AXIS_NAMES.get(odd[0], f"axis {odd[0]!r}")
        raise VolumeError(
            f"expected one volume in {path}, got {sizes[odd[0]]} {name} ({axes} {shape}); save one of them as a file"
        )
    if sizes.get("S", 1) not in (1, 3, 4) or (sizes.get("S", 1) > 1 and dtype not in (np.uint8, np.uint16)):
        raise VolumeError(
            f"expected grey values or colours of 8 or 16 bits in {path}, got {sizes['S']} values of {dtype} for each "
            "pixel; save one channel or convert it"
        )


def _pages(path: Path, *, is_label: bool) -> tuple[np.ndarray, list[np.ndarray]]:
    """The spacing, and each page as (J, I) or (J, I, 3)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # how large is too large, limits say
            with Image.open(path) as picture:
                spacing = checked_spacing(json.loads(picture.info.get(_PNG_SPACING, "[1, 1, 1]")), path)
                if _is_deep_colour(picture):
                    return spacing, list(_deep_pages(path, picture))
                return spacing, [_page(page, is_label=is_label) for page in ImageSequence.Iterator(picture)]
    except Image.DecompressionBombError as error:
        raise VolumeError(f"{path} is too large to be read ({error}); crop or shrink it") from error


def _is_deep_colour(picture: Image.Image) -> bool:
    """Whether a pixel has several values of 16 bits, of which Pillow would keep the upper byte."""
    raw_modes = (part if isinstance(part, str) else part[0] for part in (tile.args for tile in picture.tile))
    return len(picture.getbands()) > 1 and any(";16" in mode for mode in raw_modes)


def _deep_pages(path: Path, picture: Image.Image) -> Iterator[np.ndarray]:
    if picture.mode == "CMYK":
        raise VolumeError(f"{path} holds printing colours (CMYK) of 16 bits; save it as RGB")
    if picture.format == "TIFF":
        pages, orientation = _deep_tiff(path)
    else:
        page = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if page is None:
            raise VolumeError(f"cannot read {path}, its colours of 16 bits are damaged")
        pages, orientation = page[None, ..., 2::-1], picture.getexif().get(_ORIENTATION, 1)  # blue comes first
    for page in pages:
        yield _upright(page[..., :3], orientation)


def _deep_tiff(path: Path) -> tuple[np.ndarray, int]:
    """(K, J, I, S) of a TIFF as it is stored, and its orientation tag."""
    with tifffile.TiffFile(path) as tiff:
        series, first = tiff.series[0], tiff.pages[0]
        orientation = first.tags.valueof(_ORIENTATION, 1)
        if first.compression in _TIFFFILE_DECODES:
            array = np.moveaxis(series.asarray(), series.axes.index("S"), -1)
            return array.reshape(-1, *array.shape[-3:]), orientation
        # OpenCV knows LZW, but not separate planes, and turns some orientations by itself and fails at the others.
        found, pages = cv2.imreadmulti(str(path), flags=cv2.IMREAD_UNCHANGED)
        if not found or first.planarconfig != 1 or orientation != 1 or len(pages) != len(tiff.pages):
            raise VolumeError(f"cannot read the compressed colours of 16 bits in {path}; save it without compression")
        return np.stack(pages)[..., 2::-1], orientation


def _upright(page: np.ndarray, orientation: int) -> np.ndarray:
    """A (J, I, ...) page as its orientation tag shows it: 2 to 4 mirror or turn it, 5 to 8 swap rows and columns."""
    flips = {2: (1,), 3: (0, 1), 4: (0,), 5: (), 6: (1,), 7: (0, 1), 8: (0,)}
    page = page.swapaxes(0, 1) if orientation > 4 else page
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
    texts.add_text(_PNG_SPACING, json.dumps(nib.affines.voxel_sizes(stored.affine).tolist()))
    picture = Image.fromarray(np.ascontiguousarray(array[:, :, 0].swapaxes(0, 1)))
    picture.save(path, compress_level=1 if compress else 0, pnginfo=texts)
