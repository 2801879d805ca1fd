"""Small right files of every volume format but DICOM: 4 x 3 x 2 voxels, no file above 4 kB.

None is made with ITK, whose threads would not survive the fork into the children that read them.
"""

from __future__ import annotations

import gzip
import io
import json
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fuzzing.case import Case

VOXELS = np.arange(-4, 20, dtype=np.int16).reshape(4, 3, 2)  # (I, J, K)
LABELS = (VOXELS > 5).astype(np.uint8) * 2
COLOUR = np.arange(72, dtype=np.uint8).reshape(4, 3, 2, 3)
AFFINE = np.array([[-0.8, 0, 0, 10.0], [0, -0.8, 0, -20.0], [0, 0, 2.5, 30.0], [0, 0, 0, 1]])


def _one(name: str, content: bytes, seed: str) -> Case:
    return Case({name: content}, name, (seed,))


# ---- NRRD and MetaImage ---------------------------------------------------------------------------------------------


def _raw(array: np.ndarray) -> bytes:
    """In the order of these formats, first index fastest (colours before all)."""
    return np.moveaxis(array, 3, 0).tobytes("F") if array.ndim == 4 else array.tobytes("F")


def _nrrd_header(array: np.ndarray, encoding: str, *more: str) -> bytes:
    kind = {"i2": "short", "u1": "uchar", "f4": "float"}[array.dtype.str[1:]]
    colour = array.ndim == 4
    lines = (
        "NRRD0005",
        "# made for fuzzing",
        f"type: {kind}",
        f"dimension: {array.ndim}",
        "space: left-posterior-superior",
        f"sizes: {'3 ' if colour else ''}4 3 2",
        f"space directions: {'none ' if colour else ''}(0.8,0,0) (0,0.8,0) (0,0,2.5)",
        f"kinds: {'RGB-color ' if colour else ''}domain domain domain",
        "endian: little",
        f"encoding: {encoding}",
        "space origin: (-10,20,30)",
        *more,
    )
    return "\n".join(lines).encode()


def nrrd() -> list[Case]:
    """Attached headers: raw, gzip, text, hex, bzip2, colour, a field of free keys."""
    import bz2

    raw = _raw(VOXELS)
    bodies = {
        "raw": raw,
        "gzip": gzip.compress(raw, mtime=0),
        "ascii": " ".join(map(str, VOXELS.ravel("F"))).encode(),
        "hex": raw.hex().encode(),
        "bzip2": bz2.compress(raw),
    }
    cases = [_one("a.nrrd", _nrrd_header(VOXELS, name) + b"\n\n" + body, name) for name, body in bodies.items()]
    cases.append(_one("a.nrrd", _nrrd_header(COLOUR, "raw", "key:=value") + b"\n\n" + _raw(COLOUR), "colour"))
    cases.append(
        _one("a.nrrd", _nrrd_header(LABELS, "gzip") + b"\n\n" + gzip.compress(_raw(LABELS), mtime=0), "labels")
    )
    return cases


def nhdr() -> list[Case]:
    """Detached headers, raw and gzip, one file and a list."""
    whole, half = _raw(VOXELS), VOXELS.size
    header = _nrrd_header(VOXELS, "raw", "data file: a.raw") + b"\n"
    packed = _nrrd_header(VOXELS, "gzip", "data file: a.raw.gz") + b"\n"
    listed = _nrrd_header(VOXELS, "raw", "data file: LIST\n0.raw\n1.raw") + b"\n"
    return [
        Case({"a.nhdr": header, "a.raw": whole}, "a.nhdr", ("detached",)),
        Case({"a.nhdr": packed, "a.raw.gz": gzip.compress(whole, mtime=0)}, "a.nhdr", ("detached gzip",)),
        Case({"a.nhdr": listed, "0.raw": whole[:half], "1.raw": whole[half:]}, "a.nhdr", ("list",)),
    ]


def seg_nrrd() -> list[Case]:
    """Segmentations as 3D Slicer writes them: one layer, and two layers of which the first axis is a list."""
    segments = [
        *("Segment0_ID:=Segment_1", "Segment0_Name:=liver", "Segment0_LabelValue:=2", "Segment0_Layer:=0"),
        *(
            "Segment0_Extent:=0 3 0 2 0 1",
            "Segment0_Color:=0.5 0.1 0.1",
            "Segmentation_ReferenceImageExtentOffset:=0 0 0",
        ),
        *(
            "Segmentation_MasterRepresentation:=Binary labelmap",
            "Segmentation_ContainedRepresentationNames:=Binary labelmap|",
        ),
    ]
    one = _nrrd_header(LABELS, "gzip", *segments) + b"\n\n" + gzip.compress(_raw(LABELS), mtime=0)
    layers = np.stack([LABELS, LABELS[::-1]])
    more = ["Segment1_ID:=Segment_2", "Segment1_Name:=spleen", "Segment1_LabelValue:=2", "Segment1_Layer:=1"]
    two = _nrrd_header(LABELS, "raw", *segments, *more).replace(b"dimension: 3", b"dimension: 4")
    two = (
        two.replace(b"sizes: 4", b"sizes: 2 4")
        .replace(b"directions: (", b"directions: none (")
        .replace(b"kinds: ", b"kinds: list ")
    )
    return [_one("a.seg.nrrd", one, "one layer"), _one("a.seg.nrrd", two + b"\n\n" + layers.tobytes("F"), "two layers")]


def _meta_header(array: np.ndarray, data: str, *more: str) -> bytes:
    kind = {"i2": "MET_SHORT", "u1": "MET_UCHAR", "f4": "MET_FLOAT"}[array.dtype.str[1:]]
    lines = (
        *("ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False", *more),
        *(
            "TransformMatrix = 1 0 0 0 1 0 0 0 1",
            "Offset = -10 20 30",
            "CenterOfRotation = 0 0 0",
            "AnatomicalOrientation = RAI",
        ),
        *(
            "ElementSpacing = 0.8 0.8 2.5",
            "DimSize = 4 3 2",
            *(["ElementNumberOfChannels = 3"] if array.ndim == 4 else []),
        ),
        *(f"ElementType = {kind}", f"ElementDataFile = {data}"),
    )
    return "\n".join(lines).encode() + b"\n"


def mha() -> list[Case]:
    """Local data: raw, compressed, colour, text."""
    import zlib

    packed = zlib.compress(_raw(VOXELS))
    more = ("CompressedData = True", f"CompressedDataSize = {len(packed)}")
    text = _meta_header(VOXELS, "LOCAL").replace(b"BinaryData = True", b"BinaryData = False")
    return [
        _one("a.mha", _meta_header(VOXELS, "LOCAL", "CompressedData = False") + _raw(VOXELS), "raw"),
        _one("a.mha", _meta_header(VOXELS, "LOCAL", *more) + packed, "compressed"),
        _one("a.mha", _meta_header(COLOUR, "LOCAL") + _raw(COLOUR), "colour"),
        _one("a.mha", _meta_header(LABELS, "LOCAL") + _raw(LABELS), "labels"),
        _one("a.mha", text + " ".join(map(str, VOXELS.ravel("F"))).encode() + b"\n", "text"),
    ]


def mhd() -> list[Case]:
    """Detached data, raw and compressed, and a list of slices."""
    import zlib

    whole = _raw(VOXELS)
    packed = zlib.compress(whole)
    more = ("CompressedData = True", f"CompressedDataSize = {len(packed)}")
    listed = _meta_header(VOXELS, "LIST\n0.raw\n1.raw")
    return [
        Case({"a.mhd": _meta_header(VOXELS, "a.raw"), "a.raw": whole}, "a.mhd", ("detached",)),
        Case({"a.mhd": _meta_header(VOXELS, "a.zraw", *more), "a.zraw": packed}, "a.mhd", ("detached, compressed",)),
        Case({"a.mhd": listed, "0.raw": whole[:24], "1.raw": whole[24:]}, "a.mhd", ("list",)),
    ]


# ---- NIfTI ----------------------------------------------------------------------------------------------------------


def _nifti_images() -> dict[str, nib.Nifti1Image]:
    rgb = np.ascontiguousarray(COLOUR).view([(c, np.uint8) for c in "RGB"]).reshape(4, 3, 2)
    scaled = nib.Nifti1Image(VOXELS, AFFINE)
    scaled.header.set_slope_inter(0.5, -3)
    extended = nib.Nifti1Image(LABELS, AFFINE)
    extended.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"made for fuzzing"))
    quaternion = nib.Nifti1Image(VOXELS, None)
    quaternion.set_qform(AFFINE, code=1)
    return {
        "int16": nib.Nifti1Image(VOXELS, AFFINE),
        "scaled": scaled,
        "labels with extension": extended,
        "qform": quaternion,
        "colour": nib.Nifti1Image(rgb, AFFINE),
        "float64, 4D": nib.Nifti1Image(VOXELS.astype(np.float64)[..., None], AFFINE),
        "big endian": nib.Nifti1Image(VOXELS, AFFINE, nib.Nifti1Header(endianness=">")),
        "NIfTI-2": nib.Nifti2Image(VOXELS, AFFINE),
    }


def nii() -> list[Case]:
    """NIfTI-1 and -2 of several types."""
    return [_one("a.nii", image.to_bytes(), name) for name, image in _nifti_images().items()]


def nii_gz() -> list[Case]:
    """The same, compressed."""
    return [_one("a.nii.gz", gzip.compress(image.to_bytes(), mtime=0), name) for name, image in _nifti_images().items()]


# ---- NumPy and zarr -------------------------------------------------------------------------------------------------


def npy() -> list[Case]:
    """MedSAM's arrays (D, H, W), and floats in [0, 1]."""
    arrays = {"int16": VOXELS.T, "unit": COLOUR.T[0].astype(np.float32) / 255, "labels": np.asfortranarray(LABELS.T)}
    cases = []
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        cases.append(_one("a.npy", buffer.getvalue(), name))
    return cases


def npz() -> list[Case]:
    """MedSAM's archives with image and labels, with and without our affine, stored and compressed."""
    entries = {"imgs": COLOUR.transpose(2, 1, 0, 3), "gts": LABELS.T, "spacing": np.array([0.8, 0.8, 2.5])}
    cases = []
    for name, save, more in (("stored", np.savez, {}), ("compressed", np.savez_compressed, {"affine": AFFINE})):
        buffer = io.BytesIO()
        save(buffer, **entries, **more)
        cases.append(_one("a.npz", buffer.getvalue(), name))
    return cases


def zarr_group() -> list[Case]:
    """A group as ``scripts/prepare.py`` writes it."""
    from bundle.data.formats.medsam import write_zarr

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.zarr")
        write_zarr(path, {"imgs": VOXELS.T, "gts": LABELS.T}, spacing=[0.8, 0.8, 2.5], affine=AFFINE.tolist())
        files = {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
    return [Case(files, "", ("group",), folder="case.zarr")]


# ---- pictures -------------------------------------------------------------------------------------------------------


def _picture(image: Image.Image, ending: str, seed: str, **options: object) -> Case:
    buffer = io.BytesIO()
    image.save(buffer, {"jpg": "jpeg", "tif": "tiff"}.get(ending, ending), **options)
    return _one(f"a.{ending}", buffer.getvalue(), seed)


def _pages() -> dict[str, Image.Image]:
    grey = (VOXELS[:, :, 0].T + 4).astype(np.uint8)
    palette = Image.fromarray(LABELS[:, :, 0].T, "P")
    palette.putpalette(list(range(30)))
    return {
        "grey": Image.fromarray(grey),
        "16 bits": Image.fromarray(grey.astype(np.uint16) * 200),
        "colour": Image.fromarray(np.ascontiguousarray(COLOUR[:, :, 0].swapaxes(0, 1))),
        "opacity": Image.fromarray(np.dstack([grey] * 4)),
        "palette": palette,
        "1 bit": Image.fromarray(grey > 9),
    }


def png() -> list[Case]:
    """Every mode of Pillow's PNG, one with our spacing."""
    text = PngInfo()
    text.add_text("monai-sam spacing", json.dumps([0.8, 0.8, 1.0]))
    cases = [_picture(page, "png", name) for name, page in _pages().items()]
    return [*cases, _picture(_pages()["grey"], "png", "spacing", pnginfo=text)]


def jpg() -> list[Case]:
    """Grey, colour, progressive, CMYK."""
    pages = _pages()
    return [
        _picture(pages["grey"], "jpg", "grey"),
        _picture(pages["colour"], "jpg", "colour"),
        _picture(pages["colour"], "jpg", "progressive", progressive=True),
        _picture(pages["colour"].convert("CMYK"), "jpg", "CMYK"),
    ]


def tif() -> list[Case]:
    """Several modes and compressions, and a stack of pages."""
    pages = _pages()
    cases = [_picture(page, "tif", name) for name, page in pages.items()]
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "group4", "jpeg"):
        page = pages["1 bit"] if compression == "group4" else pages["colour" if compression == "jpeg" else "grey"]
        cases.append(_picture(page, "tif", compression, compression=compression))
    stack = _picture(pages["grey"], "tif", "stack", save_all=True, append_images=[pages["grey"]])
    return [*cases, stack, _picture(Image.fromarray(VOXELS[:, :, 0].T.astype(np.float32)), "tif", "float")]
