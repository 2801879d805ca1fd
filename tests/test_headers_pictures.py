"""Headers of pictures are checked before any library sees the file."""

from __future__ import annotations

import base64
import contextlib
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from bundle.data.headers import check_header
from bundle.data.limits import Limits
from bundle.data.volume import VolumeError, read_volume


def test_pictures_have_a_size_and_so_many_pages(tmp_path):
    pages = [Image.fromarray(np.zeros((30, 20), np.uint8)) for _ in range(4)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    check_header(tmp_path / "a.tif")
    for limits, sentence in [
        (Limits(picture_pixels=599), "600 pixels on a page, the limit is 599"),
        (Limits(pages=3), "more pages, the limit is 3"),
        (Limits(voxels=2399), "2400 pixels on 4 pages, the limit is 2399"),
    ]:
        with pytest.raises(VolumeError, match=sentence):
            check_header(tmp_path / "a.tif", limits)


def test_a_picture_that_pillow_calls_a_bomb_is_called_too_large(tmp_path):
    Image.new("1", (20_000, 10_000)).save(tmp_path / "a.png")
    with pytest.raises(VolumeError, match="too large: more pixels on a page, the limit is 178956970"):
        read_volume(tmp_path / "a.png")


def test_a_picture_is_not_handed_to_other_programs(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(VolumeError, match="damaged"):
        read_volume(tmp_path / "a.png")


def png(width: int, height: int, bits: int, colour: int, *, pixels: bytes, announced: int | None = None) -> bytes:
    def part(kind: bytes, content: bytes, length: int) -> bytes:
        return length.to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((bits, colour, 0, 0, 0))
    packed = zlib.compress(pixels)
    parts = part(b"IHDR", header, 13) + part(b"IDAT", packed, announced or len(packed)) + part(b"IEND", b"", 0)
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (png(4, 3, 16, 2, pixels=bytes(75), announced=400 << 20), "a part of it announces 419430400 bytes"),
        (png(4, 14_000_000, 8, 2, pixels=bytes(16 << 20)), "announces 14000000 rows of 13 bytes, too many for"),
        (png(4, 8_000_000, 4, 3, pixels=bytes(4 << 20)), "announces 8000000 rows of 3 bytes, too many for"),
    ],
)
def test_a_png_announces_no_more_than_it_can_hold(tmp_path, content, sentence):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(VolumeError, match=sentence):
        read_volume(tmp_path / "a.png")


@pytest.mark.parametrize(("colour", "bits"), [(2, 16), (2, 8), (0, 16), (0, 8), (0, 1), (4, 8), (6, 16)])
def test_a_png_that_is_one_colour_all_over_is_read(tmp_path, colour, bits):
    values = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    row = 1 + (600 * values * bits + 7) // 8
    (tmp_path / "a.png").write_bytes(png(600, 500, bits, colour, pixels=bytes(row * 500)))
    assert read_volume(tmp_path / "a.png").shape == (600, 500, 1)
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:-4])  # without the checksum of its end, which OpenCV wants
    with (
        contextlib.nullcontext()
        if bits < 16 or colour == 0
        else pytest.raises(VolumeError, match="16 bits are damaged")
    ):
        assert read_volume(tmp_path / "a.png").shape == (600, 500, 1)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        # 13,000 x 13,000 pixels in 80 bytes, 2700 x 65,500 in 188; then an EXIF, an ICC profile, a chunk amiss.
        (
            "a.png",
            ("iVBORw0KGgoAAAANSUhEUgAAMsgAADLICAAAAADHybfkAAAAEElEQVR4AWNgYKg/wMDAAAAFgwFArvK9DgAAAABJRU5ErkJggg=="),
            "too many for",
        ),
        (
            "a.jpg",
            (
                "/9j/4QAhRXhpZgAASUkqAAgAAAABABIBAwABAAAABgAAAAAAAP/gABBKRklGAAEBAAABAAEAAP/bAEMACAYGBwYFCA"
                "cHBwkJCAoMFA0MCwsMGRITDxQdGh8eHRocHCAkLicgIiwjHBwoNyksMDE0NDQfJzk9ODI8LjM0Mv/AAAsICoz/3AEB"
                "EQD/xAAfAAABBQEBAQEBAQAAAAAAAAAAAQIDBAUGBwgJCgv/2gAIAQEAAD8A8QgA8ocV/9k="
            ),
            "too many for",
        ),
        (
            "a.tif",
            (
                "SUkqAAgAAAAJAAABBAABAAAAyDIAAAEBBAABAAAAyDIAAAIBAwABAAAACAAAAAMBAwABAAAAAgAAAAYBAwABAAAAAQ"
                "AAABEBBAABAAAACAAAABUBAwABAAAAAQAAABYBBAABAAAAyDIAABcBBAAAAAAAQLwSCgAAAAAAAAAAAAAAAAAAAAAA"
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
            ),
            "too many for",
        ),
        (
            "a.png",
            (
                "iVBORw0KGgoAAAANSUhEUgAAAAQAAAADBAMAAABG2rP1AAAACGVYSWYZVhCbJrsh9lZtdJwAAAAeUExURQABAgMEBQ"
                "YHCAkKCwwNDg8QERITFBUWFxgZGhscHXJKDocAAAARSURBVHicY2BQYmJgYGJiAAABDQApBZgGtAAAAABJRU5ErkJg"
                "gg=="
            ),
            "damaged",
        ),
        (
            "a.png",
            ("iVBORw0KGgoAAAANSUhEUgAAAAQAAAADCAYAAAC09K7GAAAAEklEQVR4nGNkYGBgYEMCTAQBABBwAI4dhEvWAAAAAGlDQ1CliRk+"),
            "damaged",
        ),
        (
            "a.png",
            (
                "iVBORw0KGgoAAAANSUhEUgAAAAQAAAADCAIAAAA7ljmRAAAAFElEQVR4AWNkYGQSggEmNiQA5wAAFy8BI1FT/s8AAA"
                "AASUVOrkJggg=="
            ),
            "damaged",
        ),
    ],
)
def test_a_picture_that_is_too_large_for_its_file_or_damaged_is_refused(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(base64.b64decode(content))
    with pytest.raises(VolumeError, match=sentence):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "group4", "jpeg"])
@pytest.mark.parametrize("mode", ["1", "L"])
def test_a_blank_picture_passes_in_every_compression(tmp_path, compression, mode):
    if (compression, mode) in (("group4", "L"), ("jpeg", "1")):
        return
    Image.new(mode, (3000, 2000)).save(tmp_path / "a.tif", compression=compression)
    check_header(tmp_path / "a.tif")
    for name in ("a.png", "a.jpg"):
        Image.new(mode, (3000, 2000)).save(tmp_path / name, optimize=True)
        check_header(tmp_path / name)


def test_pages_in_a_circle_are_counted_once(tmp_path):
    """tifffile would go round them forever to find out what they have in common."""
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 4, 5), np.uint8), photometric="minisblack", metadata=None)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        second, last = tiff.pages[1].offset, tiff.pages[2].offset
    end = last + 2 + 12 * int.from_bytes(content[last : last + 2], "little")
    content[end : end + 4] = second.to_bytes(4, "little")
    (tmp_path / "a.tif").write_bytes(content)
    with contextlib.suppress(VolumeError):
        assert read_volume(tmp_path / "a.tif").shape == (5, 4, 3)


def test_a_tiff_of_wide_values_has_room_for_them(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.float64), photometric="minisblack", metadata=None)
    content = (tmp_path / "a.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        places = [tiff.pages[0].tags[name].valueoffset for name in ("ImageWidth", "ImageLength")]
    for place in places:
        content = content[:place] + (9000).to_bytes(2, "little") + content[place + 2 :]
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(VolumeError):
        read_volume(tmp_path / "a.tif")
