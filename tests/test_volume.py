"""Every format gives back what was written, and a bad file gives one clear sentence."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_frames import affines

from bundle.data.volume import Volume, VolumeError, read_label, read_volume, volume_of_array, write_label, write_volume

ENDINGS_3D = [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".npz"]
COMMON = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def some_volume(shape=(4, 5, 6), affine=None, modality="other") -> Volume:
    array = np.random.default_rng(0).integers(-100, 1000, shape).astype(np.int16)
    return Volume(array, np.diag([-0.7, -0.8, 2.5, 1.0]) if affine is None else affine, modality)


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


@pytest.mark.parametrize("ending", ENDINGS_3D)
@given(affine=affines(), highest=st.sampled_from([1, 255, 256, 65535, 65536]))
@COMMON
def test_labels_keep_values_type_and_place_in_every_format(tmp_path, ending, affine, highest):
    like = some_volume(affine=affine)
    labels = np.random.default_rng(1).integers(0, highest + 1, like.shape)
    labels[0, 0, 0] = highest
    back = read_label(write_label(labels, like, tmp_path / f"label{ending}"))
    np.testing.assert_array_equal(back.array, labels)
    assert back.array.dtype == np.min_scalar_type(highest)
    # NIfTI holds float32, the text headers of MetaImage and NRRD almost all digits.
    np.testing.assert_allclose(back.affine, affine, rtol=1e-6, atol=1e-6 if "nii" not in ending else 1e-4)


@pytest.mark.parametrize("ending", ENDINGS_3D)
def test_images_keep_values_in_every_format(tmp_path, ending):
    volume = some_volume()
    back = read_volume(write_volume(volume, tmp_path / f"image{ending}"))
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.array.dtype == np.int16
    assert back.shape == (4, 5, 6)
    np.testing.assert_allclose(back.spacing, [0.7, 0.8, 2.5], rtol=1e-6)


def test_a_sheared_affine_survives_in_nifti(tmp_path):
    affine = np.array([[1, 0.3, 0, -5], [0, 1, 0, 2], [0, 0, 3, 7], [0, 0, 0, 1.0]])
    like = some_volume(affine=affine)
    back = read_label(write_label(np.ones(like.shape, np.uint8), like, tmp_path / "label.nii.gz"))
    np.testing.assert_allclose(back.affine, affine, atol=1e-6)


@pytest.mark.parametrize(("qform", "sform"), [(0, 2), (1, 0), (1, 1), (3, 4), (0, 0)])
def test_nifti_to_nifti_keeps_qform_and_sform_to_the_bit(tmp_path, qform, sform):
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.diag([-1.1, 1.3, 2.7, 1.0]))
    turned = np.array([[0, -1.1, 0, 3], [1.3, 0, 0, 4], [0, 0, 2.7, 5], [0, 0, 0, 1.0]])
    image.set_qform(turned, qform)
    image.set_sform(turned if sform else None, sform)
    nib.save(image, tmp_path / "image.nii.gz")
    like = read_volume(tmp_path / "image.nii.gz")
    write_label(np.ones(like.shape, bool), like, tmp_path / "label.nii.gz")
    source, label = (nib.load(tmp_path / f"{name}.nii.gz").header for name in ("image", "label"))
    for key in ("qform_code", "sform_code"):
        assert source[key] == label[key]
    np.testing.assert_array_equal(source.get_qform(), label.get_qform())
    np.testing.assert_array_equal(source.get_sform(), label.get_sform())
    np.testing.assert_array_equal(read_label(tmp_path / "label.nii.gz").affine, like.affine)


def test_itk_and_nibabel_agree_where_a_voxel_lies(tmp_path):
    volume = some_volume()
    write_volume(volume, tmp_path / "image.nii.gz")
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "image.nii.gz")), str(tmp_path / "image.nrrd"))
    np.testing.assert_allclose(read_volume(tmp_path / "image.nrrd").affine, volume.affine, atol=1e-5)


@pytest.mark.parametrize("highest", [200, 300])
def test_a_png_keeps_the_labels_of_one_slice(tmp_path, highest):
    like = some_volume((5, 3, 1))
    labels = np.arange(15).reshape(5, 3, 1)
    labels[4, 2, 0] = highest
    np.testing.assert_array_equal(read_label(write_label(labels, like, tmp_path / "label.png")).array, labels)


def test_a_png_keeps_the_spacing_of_what_was_written_and_of_nothing_else(tmp_path):
    volume = Volume(np.zeros((5, 3, 1), np.uint8), np.diag([-0.7, -2.5, 4.0, 1.0]))
    np.testing.assert_allclose(read_volume(write_volume(volume, tmp_path / "ours.png")).affine, volume.affine)
    Image.fromarray(np.zeros((3, 5), np.uint8)).save(tmp_path / "screen.png", dpi=(72, 72))
    np.testing.assert_allclose(read_volume(tmp_path / "screen.png").spacing, 1)


def test_a_picture_is_column_row_and_already_windowed(tmp_path):
    picture = np.zeros((3, 5), np.uint8)
    picture[1, 4] = 9
    Image.fromarray(picture).save(tmp_path / "a.png")
    volume = read_volume(tmp_path / "a.png")
    assert (volume.shape, volume.modality, volume.array[4, 1, 0]) == ((5, 3, 1), "windowed", 9)


def test_colour_stays_and_grey_rgb_becomes_grey(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (3, 5, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "colour.png")
    Image.fromarray(picture[..., [0, 0, 0]]).save(tmp_path / "grey.tif")
    colour = read_volume(tmp_path / "colour.png")
    assert colour.is_color
    np.testing.assert_array_equal(colour.array[:, :, 0].swapaxes(0, 1), picture)
    assert read_volume(tmp_path / "grey.tif").array.shape == (5, 3, 1)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".npz"])
def test_colour_volumes_are_already_windowed(tmp_path, ending):
    array = np.random.default_rng(0).integers(0, 255, (4, 5, 6, 3), dtype=np.uint8)
    back = read_volume(write_volume(Volume(array, np.diag([2.0, 2, 2, 1])), tmp_path / f"a{ending}"))
    np.testing.assert_array_equal(back.array, array)
    assert (back.is_color, back.modality) == (True, "windowed")


def test_a_palette_is_numbers_for_labels(tmp_path):
    mask = Image.fromarray(np.array([[0, 3]], np.uint8), mode="P")
    mask.putpalette([0, 0, 0] * 3 + [255, 0, 0])
    mask.save(tmp_path / "mask.png")
    assert read_label(tmp_path / "mask.png").array[1, 0, 0] == 3
    assert read_volume(tmp_path / "mask.png").is_color


def test_tiff_pages_are_slices(tmp_path):
    pages = [Image.fromarray(np.full((3, 5), value, np.uint8)) for value in (1, 2)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    assert read_volume(tmp_path / "stack.tif").array[0, 0].tolist() == [1, 2]


def test_medsam_archives_are_zyx_with_xyz_spacing(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (2, 3, 4), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", imgs=images, gts=images % 4, spacing=(0.5, 0.6, 7.0))
    volume = read_volume(tmp_path / "a.npz")
    assert (volume.shape, volume.modality) == ((4, 3, 2), "windowed")
    np.testing.assert_allclose(volume.spacing, (0.5, 0.6, 7.0))
    assert volume.array[3, 2, 1] == images[1, 2, 3]
    assert read_label(tmp_path / "a.npz").array[3, 2, 1] == images[1, 2, 3] % 4


@pytest.mark.parametrize("spacing", [0.5, (0.5, 0.6), "wide", [[1, 2, 3]]])
def test_a_spacing_that_is_not_three_numbers_is_named(tmp_path, spacing):
    np.savez(tmp_path / "a.npz", imgs=np.zeros((2, 3, 4), np.uint8), spacing=spacing)
    with pytest.raises(VolumeError, match="spacing"):
        read_volume(tmp_path / "a.npz")


def test_a_medsam_archive_is_placed_only_by_an_affine(tmp_path):
    np.savez(tmp_path / "a.npz", imgs=np.zeros((2, 3, 4), np.uint8))
    assert not read_volume(tmp_path / "a.npz").placed
    assert read_volume(write_volume(some_volume(), tmp_path / "b.npz")).placed


@pytest.mark.parametrize(
    ("shape", "expected"), [((3, 4), (4, 3, 1)), ((3, 4, 3), (4, 3, 1)), ((2, 3, 4, 3), (4, 3, 2))]
)
def test_medsam_arrays_may_be_flat_or_coloured(tmp_path, shape, expected):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random(shape))
    volume = read_volume(tmp_path / "a.npy")
    assert (volume.shape, volume.is_color, volume.modality) == (expected, shape[-1] == 3, "windowed")


def write_dicom_slice(path: Path, index: int, uid: str, modality: str = "CT") -> None:
    image = sitk.GetImageFromArray(np.full((1, 4, 5), index - 1000, np.int16))
    tags = {
        **{"0008|0060": modality, "0020|000e": uid, "0020|000d": "1.2.3", "0008|0018": f"{uid}.{index}"},
        **{"0020|0032": f"-10\\-20\\{2.5 * index}", "0020|0037": "1\\0\\0\\0\\1\\0", "0028|0030": "0.8\\0.7"},
        **{"0020|0013": str(index), "0018|0050": "2.5"},
    }
    for key, value in tags.items():
        image.SetMetaData(key, value)
    image.SetSpacing((0.7, 0.8, 2.5))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(path))
    writer.Execute(image)


def test_a_dicom_series_is_ordered_by_position_and_is_ct_by_its_tag(tmp_path):
    for name, index in zip("cab", range(3), strict=True):
        write_dicom_slice(tmp_path / f"{name}.dcm", index, "1.2.3.4")
    volume = read_volume(tmp_path)
    assert volume.modality == "CT"
    assert volume.array[0, 0].tolist() == [-1000, -999, -998]
    np.testing.assert_allclose(volume.affine @ [0, 0, 0, 1], [10, 20, 0, 1])
    np.testing.assert_allclose(volume.spacing, [0.7, 0.8, 2.5])


def test_a_dicom_file_needs_no_ending(tmp_path):
    write_dicom_slice(tmp_path / "a.dcm", 3, "1.2.3.4", modality="MR")
    volume = read_volume((tmp_path / "a.dcm").rename(tmp_path / "IM0001"))
    assert (volume.shape, volume.modality) == ((5, 4, 1), "other")


def test_of_several_dicom_series_one_must_be_chosen(tmp_path):
    for index, uid in enumerate(["1.2.3.4", "1.2.3.5"]):
        write_dicom_slice(tmp_path / f"{index}.dcm", index, uid)
    with pytest.raises(VolumeError, match=r"1\.2\.3\.4, 1\.2\.3\.5"):
        read_volume(tmp_path)
    with pytest.raises(VolumeError, match="no DICOM series 9"):
        read_volume(tmp_path, series="9")
    assert read_volume(tmp_path, series="1.2.3.5").array[0, 0, 0] == -999


def test_a_missing_dicom_slice_is_noticed(tmp_path):
    for index in (0, 1, 3, 4):
        write_dicom_slice(tmp_path / f"{index}.dcm", index, "1.2.3.4")
    with pytest.raises(VolumeError, match="evenly spaced"):
        read_volume(tmp_path)


def test_air_means_ct_and_a_caller_may_say_otherwise(tmp_path):
    path = save_nifti(tmp_path / "a.nii", np.array([[[-1000, 0]]], np.int16))
    assert read_volume(path).modality == "CT"
    assert read_volume(path, modality="other").modality == "other"
    assert read_volume(save_nifti(tmp_path / "b.nii", np.array([[[-800, 0]]], np.int16))).modality == "other"
    with pytest.raises(VolumeError, match="modality"):
        read_volume(path, modality="MRI")


@pytest.mark.parametrize(
    ("stored", "kept"),
    [("uint8", "uint8"), ("uint16", "int16"), ("int32", "int16"), ("float64", "float32"), (">i2", "int16")],
)
def test_types_stay_small(tmp_path, stored, kept):
    path = save_nifti(tmp_path / "a.nii.gz", np.arange(8, dtype=stored).reshape(2, 2, 2))
    volume = read_volume(path)
    assert volume.array.dtype == np.dtype(kept)
    assert volume.array.ravel().tolist() == list(range(8))


def test_trailing_ones_go_and_time_series_are_refused(tmp_path):
    assert read_volume(save_nifti(tmp_path / "a.nii", np.zeros((2, 3, 4, 1)))).shape == (2, 3, 4)
    with pytest.raises(VolumeError, match="one file per volume"):
        read_volume(save_nifti(tmp_path / "b.nii", np.zeros((2, 3, 4, 2))))


def test_nan_outside_the_field_of_view_becomes_the_minimum(tmp_path):
    array = np.array([[[np.nan, -3, np.inf, 5]]], np.float32)
    assert read_volume(save_nifti(tmp_path / "a.nii", array)).array.ravel().tolist() == [-3, -3, -3, 5]
    with pytest.raises(VolumeError, match="no finite value"):
        read_volume(save_nifti(tmp_path / "b.nii", np.full((2, 2, 2), np.nan)))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".npz", ".png", ".dcm", ".tif", ".npy", ".mhd"])
def test_a_damaged_file_is_named(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"\x1f\x8b not what the ending says")
    with pytest.raises(VolumeError, match=r"cannot read .*damaged"):
        read_volume(path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".npz"])
def test_a_file_that_was_cut_off_is_named(tmp_path, ending):
    path = write_volume(some_volume((20, 20, 20)), tmp_path / f"a{ending}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VolumeError, match="cannot read"):
        read_volume(path)


def test_missing_unknown_and_empty_inputs_are_named(tmp_path):
    with pytest.raises(VolumeError, match="no file or folder"):
        read_volume(tmp_path / "none.nii.gz")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(VolumeError, match="cannot tell the format"):
        read_volume(tmp_path / "notes.txt")
    with pytest.raises(VolumeError, match="DICOM series"):
        read_volume(tmp_path)
    np.savez(tmp_path / "a.npz", other=np.zeros(3))
    with pytest.raises(VolumeError, match=r"'imgs'.*other"):
        read_volume(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", imgs=np.zeros((0, 3, 4)))
    with pytest.raises(VolumeError, match="must have voxels"):
        read_volume(tmp_path / "b.npz")


def test_a_singular_affine_is_refused(tmp_path):
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), None)
    image.header["sform_code"], image.header["srow_x"] = 1, (1, 0, 0, 0)
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(VolumeError, match="singular"):
        read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("value", [0.5, -1, np.nan])
def test_an_image_is_no_label_map(tmp_path, value):
    with pytest.raises(VolumeError, match="whole numbers"):
        read_label(save_nifti(tmp_path / "a.nii", np.full((2, 2, 2), value, np.float32)))


def test_labels_that_do_not_fit_are_refused(tmp_path):
    like = some_volume((2, 3, 4))
    for labels, options, message in [
        (np.zeros((2, 3, 5), np.uint8), {}, "shape"),
        (np.zeros((2, 3, 4)), {}, "integers"),
        (np.full((2, 3, 4), 300), {"dtype": np.uint8}, "do not fit"),
        (np.full((2, 3, 4), -1), {}, "do not fit"),
    ]:
        with pytest.raises(VolumeError, match=message):
            write_label(labels, like, tmp_path / "a.nii.gz", **options)
    with pytest.raises(VolumeError, match="cannot write"):
        write_label(np.zeros((2, 3, 4), int), like, tmp_path / "a.jpg")
    with pytest.raises(VolumeError, match="one slice"):
        write_label(np.zeros((2, 3, 4), int), like, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.real_data
def test_real_dicom_lies_where_its_own_labels_say(real_data):
    folder = real_data / "dcmqi-ct-3slice"
    image, label = read_volume(folder / "ct-3slice"), read_label(folder / "liver_seg.nrrd")
    assert image.modality == "CT"
    assert image.shape == label.shape == (512, 512, 3)
    np.testing.assert_allclose(image.affine, label.affine, atol=1e-3)
    assert 0 < np.median(image.array[label.array == 1]) < 200


@pytest.mark.real_data
def test_every_real_image_reads(real_data):
    paths = [
        *real_data.glob("*/*.nii.gz"),
        *real_data.glob("flare22-style/images/*"),
        *real_data.glob("pyradiomics-mr/*.nrrd"),
    ]
    assert len(paths) >= 6
    for path in paths:
        assert read_volume(path).array.std() > 0


def test_an_array_becomes_a_volume_as_a_file_of_it_would():
    array = np.full((4, 5, 6), 7.0)
    array[0] = np.nan
    array[1] = -1000
    volume = volume_of_array(array, np.eye(4))
    assert (volume.array.dtype, volume.modality) == (np.float32, "CT")
    assert (volume.array[0] == -1000).all()


def test_a_name_that_no_file_can_have_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(VolumeError, match="File name too long"):
        read_volume(tmp_path / ("a" * 300 + ".nii"))
