"""The preprocessing contract."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.transform import resize

from bundle.families.family import load_family
from bundle.transforms.contract import Contract, ContractError

WINDOW = {"kind": "window", "low": -500, "high": 1000}
PERCENTILE = {"kind": "percentile", "low": 0.5, "high": 99.5}
IDENTITY = {"kind": "identity"}


def config(**changes):
    channel = {"CT": WINDOW, "other": PERCENTILE, "windowed": IDENTITY}
    base = {
        "size": 32,
        "resize": "longest",
        "interpolation": "bilinear",
        "channels": [channel],
        "normalise": {"scale": "0-1"},
        "eight_bit": False,
    }
    return {**base, **changes}


def to_input(contract: Contract, array: np.ndarray, modality: str) -> torch.Tensor:
    return contract.to_input(array, contract.intensity(array, modality), contract.placement(*array.shape[:2]))


def test_ct_is_clipped_to_minus_500_to_1000_hu():
    slice_hu = np.tile(np.array([-3000.0, -500.0, 250.0, 1000.0, 3000.0]), (5, 1)).repeat(8, 0).repeat(8, 1)[:32, :32]
    image = to_input(Contract.from_config(config()), slice_hu, "CT")
    assert image.shape == (3, 32, 32)
    np.testing.assert_allclose(np.unique(image.numpy()), [0.0, 0.5, 1.0], atol=1e-6)


def test_other_modalities_are_clipped_to_their_percentiles():
    volume = np.arange(10000.0).reshape(100, 100)
    (view,) = Contract.from_config(config()).intensity(volume, "other")
    assert (view.low, view.high) == tuple(np.percentile(volume, (0.5, 99.5)))


def test_nonzero_percentiles_leave_the_empty_background_at_zero():
    rule = {**PERCENTILE, "nonzero": True}
    contract = Contract.from_config(config(channels=[{"CT": WINDOW, "other": rule, "windowed": IDENTITY}]))
    volume = np.zeros((32, 32))
    volume[8:24, 8:24] = np.linspace(100, 200, 256).reshape(16, 16)
    (view,) = contract.intensity(volume, "other")
    assert view.low > 100 and view.apply(volume)[0, 0] == 0


def test_windowed_pictures_keep_their_grey_values():
    picture = np.full((32, 32), 51, dtype=np.uint8)
    assert torch.allclose(to_input(Contract.from_config(config()), picture, "windowed"), torch.tensor(0.2))


def test_three_channels_show_three_windows():
    narrow = {"CT": {"kind": "level", "level": 40, "width": 400}, "other": PERCENTILE, "windowed": IDENTITY}
    wide = config()["channels"][0]
    image = to_input(Contract.from_config(config(channels=[wide, narrow, wide])), np.full((32, 32), 40.0), "CT")
    np.testing.assert_allclose(image[:, 0, 0], [0.36, 0.5, 0.36], atol=1e-6)


def test_colour_pictures_keep_their_channels():
    picture = np.zeros((32, 32, 3), dtype=np.uint8)
    picture[..., 2] = 255
    image = to_input(Contract.from_config(config()), picture, "windowed")
    assert image[0].max() == 0 and image[2].min() == 1


def test_a_constant_volume_does_not_divide_by_zero():
    assert torch.isfinite(to_input(Contract.from_config(config()), np.full((8, 8), 3.0), "other")).all()


def test_padding_is_zero_after_normalisation():
    contract = Contract.from_config(config(normalise={"mean": [10, 20, 30], "std": [2, 2, 2]}))
    image = to_input(contract, np.full((32, 16), 1000.0), "CT")
    assert image[:, :, 16:].abs().max() == 0 and image[:, :, :16].min() > 100


def test_slice_minmax_stretches_each_slice():
    contract = Contract.from_config(config(slice_minmax=True))
    picture = np.linspace(100, 120, 32 * 32).reshape(32, 32)
    image = to_input(contract, picture, "windowed")
    assert image.min() == 0 and image.max() == 1


def test_sam_images_equal_segment_anythings_own_preprocessing():
    from segment_anything.utils.transforms import ResizeLongestSide

    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    contract = Contract.from_config(
        config(
            size=64,
            interpolation="pil_bilinear",
            eight_bit=True,
            normalise={"mean": mean.tolist(), "std": std.tolist()},
        )
    )
    picture = np.random.default_rng(0).integers(0, 256, (90, 50, 3), dtype=np.uint8)
    official = (ResizeLongestSide(64).apply_image(picture) - mean) / std
    ours = to_input(contract, picture, "windowed").numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(ours[: official.shape[0], : official.shape[1]], official, atol=1e-5)
    assert np.abs(ours[:, official.shape[1] :]).max() == 0


def test_medsam_sees_what_its_preparation_stored():
    """pre_CT_MR.py: a cubic with a constant border that keeps fractions, then the slice's own minimum and maximum."""
    picture = np.random.default_rng(0).integers(0, 256, (50, 37), dtype=np.uint8)
    large = resize(picture[..., None].repeat(3, 2), (64, 64), order=3, preserve_range=True, mode="constant")
    expected = (large - large.min()) / (large.max() - large.min())
    ours = to_input(replace(load_family("medsam").contract, size=64), picture, "windowed").numpy()
    np.testing.assert_allclose(ours.transpose(1, 2, 0), expected, atol=2e-6)


def test_medsams_inference_script_differs_along_the_border_alone():
    """MedSAM_Inference.py reflects the border and cuts to 8 bits; within the picture that is a grey level or two."""
    picture = np.random.default_rng(0).integers(0, 256, (50, 37), dtype=np.uint8)
    picture[20, 10:13], picture[30, 20:23] = 0, 255  # so that both have the same range
    theirs = resize(picture, (64, 64), order=3, preserve_range=True).astype(np.uint8) / 255
    ours = to_input(replace(load_family("medsam").contract, size=64), picture, "windowed")[0].numpy()
    apart = np.abs(ours - theirs)
    assert apart[8:-8, 8:-8].max() < 2 / 255 < apart.max()


@pytest.mark.parametrize("name", ["medico_sam_2d", "medico_sam_3d"])
@pytest.mark.parametrize("modality", ["CT", "other"])
def test_medico_sams_semantic_models_see_the_whole_range(name, modality):
    """``normalize(raw) * 255`` of torch-em, in fractions, then SAM's mean and standard deviation."""
    contract = replace(load_family(name).contract, size=32)
    volume = np.random.default_rng(1).normal(0, 300, (32, 32, 5)).astype(np.float32)
    volume[3, 4, 2] = 9000.0  # the percentiles 1 and 99 of the interactive model would clip it
    intensity, raw = contract.intensity(volume, modality), volume[..., 2]
    expected = (raw - volume.min()) / (volume.max() - volume.min() + 1e-7) * 255
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    ours = contract.to_input(raw, intensity, contract.placement(32, 32)).numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(ours, (expected[..., None] - mean) / std, atol=1e-5)


def test_medico_sams_semantic_models_take_pictures_of_8_bits_as_they_are():
    contract = replace(load_family("medico_sam_2d").contract, size=32)
    picture = np.tile(np.arange(100, 132, dtype=np.uint8), (32, 1))
    image = to_input(contract, picture, "windowed")
    np.testing.assert_allclose(image[0].numpy() * 58.395 + 123.675, picture, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resize": "shrink"}, "resize must be one of"),
        ({"interpolation": "magic"}, "interpolation must be one of"),
        ({"channels": []}, "1 or 3 channels, got 0"),
        ({"channels": [{"CT": WINDOW}]}, "'other' is missing"),
        ({"channels": [{"CT": {"kind": "window", "low": 1}, "other": PERCENTILE, "windowed": IDENTITY}]}, "'high'"),
        ({"normalise": {}}, "normalise must be"),
        ({"sise": 3}, "unknown contract key 'sise'"),
        ({"box_mapping": "outer"}, "box_mapping must be one of inclusive, scaled, truncated, got 'outer'"),
    ],
)
def test_a_wrong_contract_says_what_is_wrong(changes, message):
    with pytest.raises(ContractError, match=message):
        Contract.from_config(config(**changes))


def test_an_unknown_modality_is_refused():
    with pytest.raises(ContractError, match="modality must be one of CT, other, windowed, got 'PET'"):
        Contract.from_config(config()).intensity(np.zeros((2, 2)), "PET")
