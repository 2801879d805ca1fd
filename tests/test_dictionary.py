"""The dictionary transforms give the contract's values, bit for bit, and their inverses the volume's grid."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd

from bundle import load_family
from bundle.errors import ContractError, FrameError
from bundle.transforms.contract import MODALITIES, Contract
from bundle.transforms.dictionary import ClipIntensityd, IntensityViewsd, VolumeToSlicesd
from bundle.transforms.frames import PLANES, SliceFrame
from bundle.transforms.network_input import NetworkInputd

CONTRACTS = {
    name: Contract.from_config({**load_family(name).contract_def, "size": 32})
    for name in ("default", "medsam", "lite_medsam", "sam_med2d")
}
ORIENTATIONS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
shapes = st.tuples(*[st.integers(2, 9)] * 3)
oriented = st.builds(
    lambda orientation, sizes: affine_of(*orientation, sizes),
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.sampled_from([0.5, 1.0, 2.5])] * 3),
)
seeds = st.integers(0, 99)
few = settings(max_examples=15)


def affine_of(order, signs, sizes) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[list(order)] * signs * np.array(sizes)
    affine[:3, 3] = -3, 7, 11
    return affine


def volume(shape, seed=0, channels=1) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1100, 1500, (channels, *shape)).astype(np.int16)


def as_given(array: np.ndarray, affine: np.ndarray, kind: str) -> dict:
    """The data of an image: as MONAI's reader gives it, or plain."""
    if kind == "meta":
        return {"image": MetaTensor(torch.from_numpy(array), affine=torch.from_numpy(affine)), "modality": "CT"}
    return {"image": torch.from_numpy(array) if kind == "tensor" else array, "affine": affine, "modality": "CT"}


@few
@given(st.sampled_from(sorted(CONTRACTS)), st.sampled_from(MODALITIES), shapes, seeds)
def test_clipped_intensities_are_what_the_views_of_the_contract_show(family, modality, shape, seed):
    array, contract = volume(shape, seed), CONTRACTS[family]
    clipped = ClipIntensityd("image", contract)({"image": array, "modality": modality})["image"]
    views = contract.intensity(array, modality)
    assert clipped.dtype == np.float32
    assert np.array_equal(clipped, np.stack([view.apply(array[0]) for view in views]))


def test_ct_is_clipped_to_minus_500_to_1000_hu_and_mr_to_its_percentiles():
    array = np.linspace(-3000, 3000, 1001, dtype=np.float32).reshape(1, 7, 11, 13)
    clip = ClipIntensityd("image", CONTRACTS["default"])
    ct, mr = (clip({"image": array, "modality": modality})["image"][0] for modality in ("CT", "other"))
    assert np.array_equal(ct == 0, array[0] <= -500) and np.array_equal(ct == 255, array[0] >= 1000)
    low, high = np.percentile(array, (0.5, 99.5))
    assert np.array_equal(mr == 0, array[0] <= low) and np.array_equal(mr == 255, array[0] >= high)


@few
@given(shapes, oriented, st.sampled_from([*PLANES, 0, 1, 2]), st.sampled_from(["numpy", "tensor", "meta"]), seeds)
def test_slices_are_those_of_the_frame_and_go_back_where_they_were(shape, affine, along, kind, seed):
    array = volume(shape, seed, channels=2)
    way = {"plane": along} if along in PLANES else {"axis": along}
    frame = (SliceFrame.of_plane if along in PLANES else SliceFrame.along)(shape, affine, along)
    cut, given_data = VolumeToSlicesd("image", **way), as_given(array, affine, kind)
    slices = cut(given_data)
    assert all(
        np.array_equal(np.asarray(slices["image"])[channel, index], frame.extract(array[channel], index))
        for channel in range(2)
        for index in range(frame.depth)
    )
    back = cut.inverse(slices)
    assert type(back["image"]) is type(given_data["image"]) and np.array_equal(np.asarray(back["image"]), array)
    found = back["image"].affine if kind == "meta" else back["affine"]
    assert np.allclose(found, affine)


@few
@given(shapes, oriented, st.sampled_from(PLANES), st.sampled_from(["numpy", "meta"]))
def test_the_affine_goes_with_the_slices(shape, affine, plane, kind):
    slices = VolumeToSlicesd("image", plane=plane)(as_given(volume(shape), affine, kind))
    frame = SliceFrame.of_plane(shape, affine, plane)
    voxel = frame.to_voxels(np.array([[1.0, 0.0]]), 1)[0]  # row 0, column 1 of slice 1
    moved = np.asarray(slices["image"].affine if kind == "meta" else slices["affine"])
    assert np.allclose(moved @ [1, 0, 1, 1], affine @ [*voxel, 1])
    assert slices["pixel_spacing"] == frame.pixel_spacing(np.linalg.norm(affine[:3, :3], axis=0))


@few
@given(st.sampled_from(sorted(CONTRACTS)), st.tuples(*[st.integers(3, 40)] * 2), st.booleans(), st.booleans(), seeds)
def test_the_input_is_that_of_the_contract(family, shape, clipped, color, seed):
    contract, spacing = CONTRACTS[family], (1.0, 1.5)
    array = volume(shape, seed, channels=3 if color else 1)
    views = contract.intensity(array, "CT")
    placement = contract.placement(*shape, spacing)
    picture = np.moveaxis(array, 0, -1) if color else array[0]
    chain = [(ClipIntensityd if clipped else IntensityViewsd)("image", contract), NetworkInputd("image", contract)]
    found = Compose(chain)({"image": array, "modality": "CT", "pixel_spacing": spacing})["image"]
    assert torch.equal(found, contract.to_input(picture, views, placement))


@few
@given(st.sampled_from(sorted(CONTRACTS)), seeds)
def test_a_box_shows_its_window_and_is_mapped_into_it(family, seed):
    contract, rng = CONTRACTS[family], np.random.default_rng(seed)
    low, high = np.sort(rng.uniform(0, [59, 49], (2, 2)), axis=0)
    box = np.concatenate([low, high])
    array, labels = volume((50, 60), seed), rng.integers(0, 3, (1, 50, 60))
    data = {"image": array, "label": labels, "box": box, "modality": "other"}
    found = Compose([IntensityViewsd("image", contract), NetworkInputd("image", contract, label_keys="label")])(data)
    placement = contract.placement(50, 60, around=box)
    views = contract.intensity(array, "other")
    assert torch.equal(found["image"], contract.to_input(array[0], views, placement))
    assert np.array_equal(found["label"][0], placement.mask_to_square(labels[0]))
    assert np.array_equal(found["box"], placement.box_to_square(box))


@few
@given(st.sampled_from(sorted(CONTRACTS)), st.sampled_from(["numpy", "tensor", "meta"]), st.booleans(), seeds)
def test_logits_and_labels_come_back_onto_the_grid_of_the_volume(family, kind, boxed, seed):
    contract, shape, affine = CONTRACTS[family], (9, 7, 4), affine_of((2, 0, 1), (1, -1, -1), (1.0, 1.0, 3.0))
    cut = VolumeToSlicesd("image", plane="coronal")
    chain = Compose([IntensityViewsd("image", contract), cut, NetworkInputd("image", contract)])
    data = as_given(volume(shape, seed), affine, kind)
    prepared = chain({**data, "box": np.array([1.0, 1, 3, 2])} if boxed else data)
    frame = SliceFrame.of_plane(shape, affine, "coronal")
    assert prepared["image"].shape == (3, frame.depth, 32, 32)
    logits = torch.randn(2, frame.depth, 8, 8, generator=torch.Generator().manual_seed(seed))
    pred = MetaTensor(logits).copy_meta_from(prepared["image"]) if kind == "meta" else logits
    found = np.asarray(chain.inverse({**prepared, "image": pred})["image"])
    placement = contract.placement(
        *(frame.height, frame.width),
        frame.pixel_spacing((1.0, 1.0, 3.0)) if kind != "meta" else prepared["pixel_spacing"],
        around=np.array([1.0, 1, 3, 2]) if boxed else None,
    )
    expected = np.zeros(shape, np.float32)
    for index in range(frame.depth):
        frame.insert(expected, index, placement.logits_to_slice(logits[None, :, index])[0, 1].numpy())
    assert np.array_equal(found[1], expected)


def test_monais_own_invertd_brings_a_prediction_back():
    contract, array = CONTRACTS["default"], volume((6, 5, 3))
    chain = Compose(
        [
            IntensityViewsd("image", contract),
            VolumeToSlicesd("image", axis=2),
            NetworkInputd("image", contract),
        ]
    )
    prepared = chain(as_given(array, np.diag([-1.0, -1, 2, 1]), "meta"))
    prepared["pred"] = MetaTensor(torch.ones(1, 3, 8, 8)).copy_meta_from(prepared["image"])
    found = Invertd("pred", transform=chain, orig_keys="image", nearest_interp=False)(prepared)["pred"]
    assert found.shape == (1, 6, 5, 3) and bool((found > 0).all())
    assert np.allclose(found.affine, np.diag([-1.0, -1, 2, 1]))


def test_a_label_that_is_not_looked_at_is_background_again():
    contract = CONTRACTS["default"]
    place = NetworkInputd("image", contract, label_keys="label")
    shape, box = (1, 200, 200), np.array([40, 40, 69, 69])
    data = {"image": np.zeros(shape, np.float32), "label": np.ones(shape, np.uint8), "box": box}
    back = place.inverse(place(data))["label"]
    window = contract.placement(200, 200, around=box).window
    assert back.dtype == np.uint8 and back.sum() == window.height * window.width and back[0, 40:70, 40:70].all()


def test_what_does_not_say_enough_is_refused():
    contract, array = CONTRACTS["default"], volume((4, 4, 4))
    with pytest.raises(ContractError, match="do not say the modality; add 'modality'"):
        ClipIntensityd("image", contract)({"image": array})
    with pytest.raises(ContractError, match="'image' must have 1 channel or 3, the first axis, got the shape"):
        ClipIntensityd("image", contract, modality="CT")({"image": array[0]})
    with pytest.raises(ContractError, match=r"beyond 0\.\.255; put IntensityViewsd or ClipIntensityd before"):
        NetworkInputd("image", contract)({"image": array})
    with pytest.raises(FrameError, match="there is no affine of 'image'; give a MetaTensor"):
        VolumeToSlicesd("image", plane="axial")({"image": array})
    with pytest.raises(FrameError, match="one plane or one axis, got plane 'axial' and axis 2"):
        VolumeToSlicesd("image", plane="axial", axis=2)


def test_volumes_on_different_grids_are_refused():
    cut = VolumeToSlicesd(("image", "label"), axis=2)
    one, other = (MetaTensor(torch.zeros(1, 4, 4, 4), affine=torch.eye(4) * size) for size in (1.0, 2.0))
    with pytest.raises(FrameError, match="'label' lies on another grid than 'image'"):
        cut({"image": one, "label": other})
    with pytest.raises(FrameError, match=r"'label' must be a volume \(C, I, J, K\) with channels first"):
        cut({"image": one, "label": torch.zeros(4, 4, 4), "affine": np.eye(4)})
