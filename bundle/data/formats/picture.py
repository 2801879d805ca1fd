"""Pictures by Pillow: PNG, JPEG, TIFF."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image, ImageSequence
from PIL.PngImagePlugin import PngInfo

from bundle.data.formats.stored import LPS_TO_RAS, Stored, picture_modality
from bundle.errors import VolumeError

# A picture has no position; this affine shows it the way it is stored when its slice is taken as axial.
PICTURE_AFFINE = LPS_TO_RAS
# The text of a PNG in which we keep the spacing: [x, y, z] in mm. Its own resolution is whole pixels per metre, and in
# other people's pictures it is that of a screen.
_PNG_SPACING = "monai-sam spacing"


def read_picture(path: Path, *, is_label: bool) -> Stored:
    """Read PNG, JPEG or TIFF (pages are slices): i is the column, j the row.

    A palette is resolved for an image and kept as numbers for a label; RGB with equal channels is grey; opacity is
    dropped. The spacing is 1 mm, except in a PNG of ``write_picture``.
    """
    with Image.open(path) as picture:
        spacing = json.loads(picture.info.get(_PNG_SPACING, "[1, 1, 1]"))
        pages = [_picture_page(page, is_label=is_label) for page in ImageSequence.Iterator(picture)]
    array = np.stack(pages)  # (K, J, I) or (K, J, I, 3)
    if array.ndim == 4 and (array[..., :1] == array).all():
        array = array[..., 0]
    affine = PICTURE_AFFINE @ np.diag([*spacing, 1.0])
    return Stored(array.transpose((2, 1, 0, 3)[: array.ndim]), affine, picture_modality(array))


def _picture_page(page: Image.Image, *, is_label: bool) -> np.ndarray:
    if page.mode == "LA":
        page = page.convert("L")
    elif page.mode in {"RGBA", "CMYK", "YCbCr", "PA"} or (page.mode == "P" and not is_label):
        page = page.convert("RGB")
    return np.asarray(page)


def write_picture(stored: Stored, path: Path, *, source: Path | None, compress: bool) -> None:
    """Write one slice as an 8-bit, 16-bit or RGB PNG; of the affine it keeps the spacing."""
    array = stored.array
    if array.shape[2] != 1:
        raise VolumeError(f"a picture holds one slice, got {array.shape[2]}; write .nii.gz, .nrrd or .npz instead")
    if array.dtype not in (np.uint8, np.uint16):
        raise VolumeError(f"a PNG holds 8 or 16 bits without sign, got {array.dtype}; write .nii.gz or .nrrd instead")
    texts = PngInfo()
    texts.add_text(_PNG_SPACING, json.dumps(nib.affines.voxel_sizes(stored.affine).tolist()))
    picture = Image.fromarray(np.ascontiguousarray(array[:, :, 0].swapaxes(0, 1)))
    picture.save(path, compress_level=1 if compress else 0, pnginfo=texts)
