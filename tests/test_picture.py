"""A picture is read the way viewers show it, with all its bits; what is no volume is refused by name."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from bundle.data.volume import VolumeError, read_label, read_volume
from bundle.families.family import load_family

DEEP = np.random.default_rng(0).integers(0, 4096, (6, 5, 3)).astype(np.uint16)
GREY = np.random.default_rng(1).integers(0, 200, (6, 5)).astype(np.uint8)


def save_png(path: Path, array: np.ndarray, kind: int) -> Path:
    """A PNG of 16 bits, which Pillow writes in grey alone; ``kind`` is PNG's number of the colours."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    head = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


def pixels(path: Path) -> np.ndarray:
    """(J, I[, 3]) of the first slice, as pictures are held elsewhere."""
    return read_volume(path).array[:, :, 0].swapaxes(0, 1)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"planarconfig": "separate"}])
def test_colours_of_16_bits_in_a_tiff_keep_them(tmp_path, options):
    array = DEEP.transpose(2, 0, 1) if "planarconfig" in options else DEEP
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", **options)
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif"), DEEP)
    assert read_volume(tmp_path / "a.tif").modality == "other"


def test_separate_planes_of_8_bits_are_colours(tmp_path):
    shallow = (DEEP >> 4).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", shallow.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif"), shallow)


def test_colours_of_16_bits_by_opencv_keep_them(tmp_path):
    for name in ("a.png", "a.tif"):  # OpenCV compresses its TIFF by LZW
        cv2.imwrite(str(tmp_path / name), DEEP[..., ::-1])
        np.testing.assert_array_equal(pixels(tmp_path / name), DEEP)


def test_opacity_of_16_bits_is_dropped_and_grey_stays_grey(tmp_path):
    opaque = np.concatenate([DEEP, DEEP[..., :1]], axis=2)
    np.testing.assert_array_equal(pixels(save_png(tmp_path / "rgba.png", opaque, 6)), DEEP)
    np.testing.assert_array_equal(pixels(save_png(tmp_path / "la.png", opaque[..., :2], 4)), DEEP[..., 0])
    np.testing.assert_array_equal(pixels(save_png(tmp_path / "l.png", opaque[..., 0], 0)), DEEP[..., 0])


def test_a_stack_of_deep_colours_is_a_volume(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([DEEP, DEEP + 1]), photometric="rgb")
    volume = read_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.array[:, :, 1].swapaxes(0, 1), DEEP + 1)


def test_deep_colours_reach_the_network_with_more_than_16_levels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.repeat(np.repeat(DEEP, 20, 0), 20, 1), photometric="rgb")
    volume, contract = read_volume(tmp_path / "a.tif"), load_family("default").contract
    intensity = contract.intensity(volume.array, volume.modality)
    shown = contract.to_input(volume.array[:, :, 0], intensity, contract.placement(*volume.shape[:2])).numpy()
    assert np.isfinite(shown).all()
    assert len(np.unique(shown[0])) > 25  # of 30 pixels


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_viewers_turn_it(tmp_path, orientation):
    for name in ("a.jpg", "a.png", "a.tif"):
        picture = Image.fromarray(np.repeat(np.repeat(GREY, 8, 0), 8, 1))
        exif = picture.getexif()
        exif[274] = orientation
        picture.save(tmp_path / name, exif=exif)
        # From memory: of a path, Pillow maps the rows of a TIFF before it swaps them with the columns.
        content = io.BytesIO((tmp_path / name).read_bytes())
        shown = np.asarray(ImageOps.exif_transpose(Image.open(content)))
        np.testing.assert_array_equal(pixels(tmp_path / name), shown)
        np.testing.assert_array_equal(read_label(tmp_path / name).array[:, :, 0].T, shown)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_colours_are_turned_too(tmp_path, orientation):
    content = save_png(tmp_path / "a.png", DEEP, 2).read_bytes()
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">HH", orientation, 0) + b"\0\0\0\0"
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])
    shallow = Image.fromarray((DEEP >> 8).astype(np.uint8))
    shallow.getexif()[274] = orientation
    shown = np.asarray(ImageOps.exif_transpose(shallow))
    np.testing.assert_array_equal(pixels(tmp_path / "a.png") >> 8, shown)
    tifffile.imwrite(tmp_path / "a.tif", DEEP, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif") >> 8, shown)


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((4, 2, 6, 5), "ZCYX", "2 channels"),
        ((3, 6, 5), "TYX", "3 time points"),
        ((3, 6, 5), "CYX", "3 channels"),
        ((2, 3, 6, 5), "TZYX", "2 time points"),
    ],
)
def test_channels_and_time_points_of_imagej_are_refused_by_name(tmp_path, shape, axes, message):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), imagej=True, metadata={"axes": axes})
    with pytest.raises(VolumeError, match=message):
        read_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["uint32", "int16", "int64", "float32", "float64"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_grey_values_of_other_types_are_kept(tmp_path, kind, compression):
    grey = (DEEP[..., 0].astype(kind) * (1 if kind == "int16" else 1000)) * (2 if kind == "uint32" else -1)
    tifffile.imwrite(tmp_path / "a.tif", grey.astype(kind), compression=compression)
    np.testing.assert_allclose(read_volume(tmp_path / "a.tif").array[:, :, 0].T, grey)


def test_instances_numbered_with_32_bits_are_kept(tmp_path):
    labels = np.array([[0, 4_000_000_000], [614_454_277, 1]], np.uint32)
    tifffile.imwrite(tmp_path / "a.tif", labels)
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif").array[:, :, 0].T, labels)


def test_printing_colours_of_16_bits_are_refused(tmp_path):
    opaque = np.concatenate([DEEP, DEEP[..., :1]], axis=2)
    tifffile.imwrite(tmp_path / "a.tif", opaque, photometric="separated")
    with pytest.raises(VolumeError, match="SEPARATED"):
        read_volume(tmp_path / "a.tif")


def test_channels_of_ome_are_refused_by_name(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((2, 4, 6, 5), np.uint8), metadata={"axes": "CZYX"})
    with pytest.raises(VolumeError, match="2 channels"):
        read_volume(tmp_path / "a.ome.tif")


def test_a_stack_of_imagej_is_a_volume(tmp_path):
    stack = np.stack([GREY, GREY + 1, GREY + 2])
    for options in ({"imagej": True, "metadata": {"axes": "ZYX"}}, {"photometric": "minisblack"}):
        tifffile.imwrite(tmp_path / "a.tif", stack, **options)
        np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array, stack.transpose(2, 1, 0))


@pytest.mark.parametrize(
    "array", [np.zeros((6, 5, 3), np.float32), np.zeros((6, 5, 2), np.uint8), np.zeros((6, 5, 5), np.uint8)]
)
def test_several_values_for_a_pixel_that_are_no_colour_are_refused(tmp_path, array):
    kind = "rgb" if array.shape[2] == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", array, photometric=kind, planarconfig="contig")
    with pytest.raises(VolumeError, match="for each pixel"):
        read_volume(tmp_path / "a.tif")


def test_pages_of_several_sizes_are_refused(tmp_path):
    pages = [Image.fromarray(GREY), Image.fromarray(GREY[:3])]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(VolumeError, match="one size and type"):
        read_volume(tmp_path / "a.tif")


def test_a_picture_that_is_too_large_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    with pytest.raises(VolumeError, match="too large"):
        read_volume(tmp_path / "a.png")


def test_16_bits_of_grey_are_no_display_values(tmp_path):
    Image.fromarray(DEEP[..., 0]).save(tmp_path / "a.png")
    volume = read_volume(tmp_path / "a.png")
    assert (volume.modality, volume.placed) == ("other", False)
    np.testing.assert_array_equal(volume.array[:, :, 0].T, DEEP[..., 0])


def test_a_jpeg_of_labels_is_spoken_of(tmp_path, caplog):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.jpg")
    read_volume(tmp_path / "a.jpg")
    assert not caplog.text
    assert not read_label(tmp_path / "a.jpg").array.any()
    assert "is a JPEG, which changes the numbers of labels" in caplog.text


def test_labels_of_a_tiff_that_shows_zero_white_are_its_numbers(tmp_path):
    """As ImageJ saves masks; as an image it is shown dark on light."""
    stored = np.array([[0, 0, 7], [0, 255, 7]], np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite")
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif").array[:, :, 0], stored.T)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array[:, :, 0], 255 - stored.T)
