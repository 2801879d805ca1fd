"""What a TIFF holds, by tifffile, and the voxels of those that Pillow would change."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import tifffile

from bundle.data.headers.claims import DEFLATE_RATIO, damaged, too_large
from bundle.data.headers.pictures import opened_tiff
from bundle.data.limits import LIMITS
from bundle.errors import VolumeError

ORIENTATION = 274  # tag of TIFF and EXIF
# The axes of a TIFF as tifffile names them: rows, columns, samples of a colour; slices, pages of no stated meaning.
_AXES_OF_VOLUMES = frozenset("YXSZIQ")
_AXIS_NAMES = {"C": "channels", "T": "time points", "A": "angles", "P": "phases", "R": "tiles", "E": "wavelengths"}
# Compressions that tifffile decodes without further packages: none, both kinds of deflate, PackBits.
_DECODED = (1, 8, 32946, 32773)
_RGB, _GREY, _CONTIGUOUS = 2, (0, 1), 1  # tags
# tifffile tells of odd tags that other programs write, which is no matter for our user.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


class TiffContent(NamedTuple):
    """What the pages hold.

    Attributes:
        dtype: of a value.
        samples: values of a pixel.
    """

    dtype: np.dtype
    samples: int

    @property
    def is_plain(self) -> bool:
        """Whether Pillow keeps the values: of colours of 16 bits it drops a half, 32 bits it takes for signed."""
        return self.dtype in (np.bool_, np.uint8) or (self.dtype == np.uint16 and self.samples == 1)


def examine_tiff(path: Path) -> TiffContent:
    """What a TIFF holds, if that is one volume of grey values or colours.

    Raises:
        VolumeError: it holds something else, which is named, or is damaged.
    """
    try:
        with opened_tiff(path) as tiff:
            series = tiff.series
            axes, shape, dtype = series[0].axes, series[0].shape, series[0].dtype
            if (claimed := series[0].size) > 4 * LIMITS.voxels:
                raise too_large(path, f"{claimed} values", "voxels", LIMITS)
    except (tifffile.TiffFileError, IndexError, AttributeError, ArithmeticError) as error:
        raise VolumeError(f"cannot read {path}, it is damaged or no TIFF ({error})") from error
    if len(series) > 1:
        raise VolumeError(f"expected pages of one size and type in {path}, got {len(series)} kinds; save one of them")
    sizes = dict(zip(axes, shape, strict=True))
    if odd := [axis for axis, size in sizes.items() if axis not in _AXES_OF_VOLUMES and size > 1]:
        name = _AXIS_NAMES.get(odd[0], f"axis {odd[0]!r}")
        raise VolumeError(
            f"expected one volume in {path}, got {sizes[odd[0]]} {name} ({axes} {shape}); save one of them as a file"
        )
    samples = sizes.get("S", 1)
    if samples not in (1, 3, 4) or (samples > 1 and dtype not in (np.uint8, np.uint16)):
        raise VolumeError(
            f"expected grey values or colours of 8 or 16 bits in {path}, got {samples} values of {dtype} for each "
            "pixel; save one channel or convert it"
        )
    return TiffContent(np.dtype(dtype), samples)


def read_tiff(path: Path) -> tuple[np.ndarray, int]:
    """The pages of a TIFF that is not plain, as they are stored, and its orientation tag.

    Returns:
        (K, J, I), or (K, J, I, 3) colour, and 1 to 8.

    Raises:
        VolumeError: its kind of colours or compression is not known.
    """
    with opened_tiff(path) as tiff:
        series, first = tiff.series[0], tiff.pages[0]
        is_colour = "S" in series.axes
        if first.photometric not in ((_RGB,) if is_colour else _GREY):
            raise VolumeError(f"expected grey or RGB values in {path}, got {first.photometric.name}; save it as RGB")
        orientation = int(first.tags.valueof(ORIENTATION, 1))
        if first.compression in _DECODED:
            if series.nbytes > DEFLATE_RATIO * path.stat().st_size:  # tifffile makes room for all of them first
                raise damaged(path, f"it announces {series.nbytes} bytes of pixels, too many for its length")
            array = series.asarray()
            array = np.moveaxis(array, series.axes.index("S"), -1)[..., :3] if is_colour else array
            return array.reshape(-1, *array.shape[-3 if is_colour else -2 :]), orientation
        # OpenCV knows LZW, but not separate planes, and turns some orientations by itself and fails at the others.
        found, pages = cv2.imreadmulti(str(path), flags=cv2.IMREAD_UNCHANGED)
        if not found or first.planarconfig != _CONTIGUOUS or orientation != 1 or len(pages) != len(tiff.pages):
            raise VolumeError(f"cannot read the compressed values of {series.dtype} in {path}; save it uncompressed")
        array = np.stack(pages)
        return array[..., 2::-1] if is_colour else array, orientation  # OpenCV's are blue, green, red
