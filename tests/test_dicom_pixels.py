"""Tests of the values of DICOM images."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pydicom
import pytest
from dicom_files import MR, PET, change, numbered, write_enhanced, write_slice, write_stack
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from bundle.data.volume import read_volume
from bundle.errors import VolumeError

RAMP = np.arange(20, dtype=np.uint16).reshape(4, 5) * 100


def stored(path):
    """(rows, columns[, 3]) of a volume of one slice."""
    return read_volume(path).array[:, :, 0].swapaxes(0, 1)


def test_each_slice_has_its_own_slope_and_fractions_stay(tmp_path):
    for k, slope in enumerate((1, 0.00015, 0.0005, 0.00099, 0.0025)):
        write_slice(
            tmp_path / f"{k}.dcm", numbered(1000), (0, 0, 3 * k), sop=PET, RescaleSlope=slope, RescaleIntercept=0
        )
    array = read_volume(tmp_path).array
    np.testing.assert_allclose(array[0, 0], [1000, 0.15, 0.5, 0.99, 2.5], rtol=1e-6)
    assert array.dtype == np.float32


@pytest.mark.parametrize("slopes", [(0.5, 100), (100, 0.5)])
def test_fractions_stay_beside_large_whole_numbers(tmp_path, slopes):
    for k, slope in enumerate(slopes):
        write_slice(tmp_path / f"{k}.dcm", numbered(1001), (0, 0, 3 * k), RescaleSlope=slope, RescaleIntercept=0)
    assert read_volume(tmp_path).array[0, 0].tolist() == [1001 * slope for slope in slopes]


def test_each_frame_has_its_own_slope(tmp_path):
    pixels = np.stack([numbered(1000)] * 4)
    path = write_enhanced(tmp_path / "a.dcm", pixels, [(0, 0, 3 * k) for k in range(4)], slopes=[1, 2, 3, 4])
    assert read_volume(path).array[0, 0].tolist() == [1000, 2000, 3000, 4000]


def test_whole_slopes_leave_integers_of_the_smallest_type(tmp_path):
    write_slice(
        tmp_path / "a.dcm",
        numbered(7),
        Modality="CT",
        BitsStored=12,
        HighBit=11,
        RescaleSlope=1,
        RescaleIntercept=-1024,
    )
    volume = read_volume(tmp_path / "a.dcm")
    assert volume.array.dtype == np.int16 and volume.array.max() == 7 - 1024 and volume.modality == "CT"


def test_products_may_need_more_bits_than_the_stored_values(tmp_path):
    write_slice(tmp_path / "a.dcm", np.full((4, 5), 30000, np.int16), RescaleSlope=3, RescaleIntercept=-1)
    assert stored(tmp_path / "a.dcm")[0, 0] == 89999


def test_values_of_32_bits_are_kept(tmp_path):
    write_slice(tmp_path / "a.dcm", np.full((4, 5), 123456789, np.uint32))
    assert stored(tmp_path / "a.dcm")[0, 0] == 123456789


def test_bits_above_the_value_are_dropped_and_the_sign_is_continued(tmp_path):
    pixels = np.full((4, 5), 0xF000 | 0x0FFE, np.uint16)
    tags = {"BitsStored": 12, "HighBit": 11}
    assert stored(write_slice(tmp_path / "a.dcm", pixels, **tags))[0, 0] == 0xFFE
    pixels = np.full((4, 5), 0x0FFE, np.int16)
    assert stored(write_slice(tmp_path / "b.dcm", pixels, **tags))[0, 0] == -2


def test_monochrome1_is_inverted_before_its_values_are_rescaled(tmp_path):
    tags = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11, "RescaleSlope": 2}
    path = write_slice(tmp_path / "a.dcm", RAMP, RescaleIntercept=-10, **tags)
    np.testing.assert_array_equal(stored(path), 2 * (4095 - RAMP.astype(int)) - 10)


def test_a_slope_of_zero_is_refused(tmp_path):
    write_slice(tmp_path / "a.dcm", RAMP, RescaleSlope=0, RescaleIntercept=0)
    with pytest.raises(VolumeError, match="slope"):
        read_volume(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    ("syntax", "little", "implicit"),
    [
        (ExplicitVRBigEndian, False, False),
        (ImplicitVRLittleEndian, True, True),
        (DeflatedExplicitVRLittleEndian, True, False),
    ],
)
def test_uncompressed_syntaxes_hold_the_same_values(tmp_path, syntax, little, implicit):
    dataset = pydicom.dcmread(write_slice(tmp_path / "a.dcm", RAMP))
    dataset.file_meta.TransferSyntaxUID, dataset.is_little_endian, dataset.is_implicit_VR = syntax, little, implicit
    dataset.PixelData = RAMP.astype("<u2" if little else ">u2").tobytes()
    dataset.save_as(tmp_path / "a.dcm", write_like_original=False)
    np.testing.assert_array_equal(stored(tmp_path / "a.dcm"), RAMP)


def test_rle_holds_the_same_values_with_their_own_slope(tmp_path):
    ramp = np.arange(24 * 20, dtype=np.uint16).reshape(24, 20)
    dataset = pydicom.dcmread(write_slice(tmp_path / "a.dcm", ramp, RescaleSlope=0.5, RescaleIntercept=1))
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(stored(tmp_path / "a.dcm"), ramp * 0.5 + 1)


def test_jpeg_2000_frames_are_decoded_and_rescaled_one_by_one(tmp_path):
    ramp = np.arange(32 * 40, dtype=np.uint16).reshape(32, 40) * 3
    pixels = np.stack([ramp, ramp[::-1]])
    path = write_enhanced(tmp_path / "a.dcm", pixels, [(0, 0, 0), (0, 0, 3)], slopes=[1, 3])
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([_jpeg_2000(picture) for picture in pixels])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    np.testing.assert_array_equal(read_volume(path).array[:, :, 0].T, ramp)
    np.testing.assert_array_equal(read_volume(path).array[:, :, 1].T, 3 * ramp[::-1].astype(int))


def _jpeg_2000(picture):
    stream = BytesIO()
    Image.fromarray(picture).save(stream, format="JPEG2000", no_jp2=True, irreversible=False)
    return stream.getvalue()


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless])
def test_pixels_that_are_not_compressed_as_the_file_says_are_refused(tmp_path, syntax):
    """GDCM would look for seconds for a JPEG 2000 in a JPEG of 360 bytes."""
    dataset = pydicom.dcmread(write_slice(tmp_path / "a.dcm", np.zeros((8, 8), np.uint8)))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([b"\0\0" + bytes(range(98))])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(VolumeError, match=r"the pixels of .*a\.dcm are not JPEG.*, as its transfer syntax says"):
        read_volume(tmp_path / "a.dcm")


_OFFSETS = bytes.fromhex("feff00e0 00000000")  # an empty table of them


@pytest.mark.parametrize(
    "damaged",
    [
        bytes.fromhex("feff00e0 04000000 9e077d89 dbd6b2e3") + bytes(80),  # no item behind the offsets
        bytes.fromhex("feff00e0 03000000 000000"),  # an offset has four bytes
        _OFFSETS + bytes.fromhex("feff00e0 ffffffff"),  # a frame without an end
        _OFFSETS,
    ],
)
def test_compressed_pixels_that_are_no_items_are_refused(tmp_path, damaged):
    """GDCM would look for seconds for the next item."""
    path = _rle(tmp_path, damaged)
    with pytest.raises(VolumeError, match=r"the pixels of .*a\.dcm are not RLE Lossless, as its transfer syntax says"):
        read_volume(path)


def test_a_file_that_ends_within_its_compressed_pixels_is_refused(tmp_path):
    path = _rle(tmp_path, encapsulate([bytes(64)]))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(VolumeError, match=r"a\.dcm holds no pixels, or ends within them"):
        read_volume(path)


def _rle(folder, pixels):
    path = write_slice(folder / "a.dcm", np.zeros((8, 8), np.int16))
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.PixelData = pixels
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("planar", [0, 1])
def test_grey_ultrasound_in_ybr_is_grey(tmp_path, planar):
    grey = np.tile(np.arange(0, 250, 50, dtype=np.uint8), (4, 1))
    ybr = np.stack([grey, np.full_like(grey, 128), np.full_like(grey, 128)], axis=0 if planar else -1)
    path = write_slice(tmp_path / "us.dcm", grey, None, Modality="US")
    change(
        path,
        SamplesPerPixel=3,
        PhotometricInterpretation="YBR_FULL",
        PlanarConfiguration=planar,
        PixelData=ybr.tobytes(),
    )
    picture = stored(path)
    assert picture.shape == (4, 5, 3) and np.ptp(picture.astype(int), axis=-1).max() < 4
    np.testing.assert_allclose(picture[..., 0], grey, atol=3)


def test_a_colour_picture_announces_no_more_than_it_holds(tmp_path):
    path = write_slice(tmp_path / "us.dcm", np.zeros((4, 6), np.uint8), None, Modality="US")
    change(path, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, PixelData=bytes(72))
    assert stored(path).shape == (4, 6, 3)
    change(path, Rows=65535, Columns=65535)
    with pytest.raises(VolumeError, match="announces 12884508675 bytes of pixels and holds 72"):
        stored(path)
    change(path, Rows=4, Columns=6, PhotometricInterpretation="YBR_FULL_422", PixelData=bytes(48))
    assert stored(path).shape == (4, 6, 3)


def test_a_palette_gives_its_colours(tmp_path):
    index = np.tile(np.arange(5, dtype=np.uint8) * 12, (4, 1))
    path = write_slice(tmp_path / "us.dcm", index, None, Modality="US")
    dataset = pydicom.dcmread(path)
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    ramp = np.arange(256, dtype="<u2") * 257
    for number, table in enumerate((ramp, ramp[::-1], ramp * 0)):
        dataset.add_new((0x0028, 0x1101 + number), "US", [256, 0, 16])
        dataset.add_new((0x0028, 0x1201 + number), "OW", np.ascontiguousarray(table).tobytes())
    dataset.save_as(path)
    np.testing.assert_allclose(stored(path)[0, 4], [48, 207, 0], atol=2)


def test_a_lookup_table_is_applied(tmp_path):
    table = pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [3, 0, 16], "US"
    table.LUTData = np.array([10, 500, 20], "<u2").tobytes()
    path = write_slice(tmp_path / "a.dcm", numbered(1), ModalityLUTSequence=[table], sop=MR)
    assert (stored(path) == 500).all()


def test_floats_are_kept(tmp_path):
    path = write_slice(
        tmp_path / "a.dcm", RAMP, PixelData=None, BitsStored=None, HighBit=None, PixelRepresentation=None
    )
    values = (RAMP / 7).astype(np.float32)
    change(path, BitsAllocated=32, FloatPixelData=values.tobytes())
    np.testing.assert_array_equal(stored(path), values)


def test_a_file_with_fewer_frames_than_its_tags_say_is_refused(tmp_path):
    write_stack(tmp_path, [(0, 0, 0)])
    change(tmp_path / "0.dcm", PixelData=b"\0" * 10)
    with pytest.raises(VolumeError):
        read_volume(tmp_path)
