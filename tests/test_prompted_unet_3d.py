"""The network of volumes answers cubes, and opens under the names that it was first trained with."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from bundle.errors import FamilyError
from bundle.families.family import build_network, load_family, structure_of
from bundle.networks.prompted_unet_3d import PromptedUNet3D, answer_so_far

TINY = {"image_size": 8, "widths": [8, 16], "depths": [1, 1]}


def tiny() -> PromptedUNet3D:
    torch.manual_seed(0)
    return PromptedUNet3D(8, widths=(8, 16), depths=(1, 1)).eval()


@torch.no_grad()
def test_it_answers_a_mask_and_its_iou_for_each_cube():
    network = tiny()
    answer = network.predict(network.prepare(torch.randn(2, 3, 8, 8, 8)), torch.zeros(2, 6, 8, 8, 8))
    assert answer.logits.shape == (2, 1, 8, 8, 8) and answer.iou.shape == (2, 1)
    assert ((answer.iou > 0) & (answer.iou < 1)).all()


@torch.no_grad()
def test_a_cube_is_answered_alone_as_among_others():
    network, images, maps = tiny(), torch.randn(3, 3, 8, 8, 8), torch.randn(3, 6, 8, 8, 8)
    together = network.predict(network.prepare(images), maps).logits
    alone = network.predict(network.prepare(images[1:2]), maps[1:2]).logits
    assert torch.allclose(together[1:2], alone, atol=1e-5)


@torch.no_grad()
def test_folding_keeps_every_cell_in_its_place():
    from bundle.networks.prompted_unet_3d import _folded, _unfolded

    x = torch.randn(2, 3, 4, 6, 8)
    assert torch.equal(_unfolded(_folded(x)), x)


def test_an_answer_so_far_is_between_minus_one_and_one_and_zero_is_unknown():
    assert answer_so_far(torch.tensor([-100.0, 0.0, 100.0])).tolist() == [-1, 0, 1]


@pytest.mark.parametrize("size", [0, 12, -32])
def test_a_side_that_the_levels_do_not_divide_is_refused(size):
    with pytest.raises(FamilyError, match="multiple of 32"):
        PromptedUNet3D(size)


def test_cubes_of_another_size_are_refused():
    with pytest.raises(ValueError, match="must have shape"):
        tiny().prepare(torch.zeros(1, 3, 16, 16, 16))


def test_the_shipped_size_is_ten_million_parameters():
    assert sum(p.numel() for p in structure_of(load_family("default_3d")).parameters()) == 10_229_193


def test_the_first_weights_load_bit_for_bit_under_their_own_names(tmp_path):
    network = tiny()
    former = {}
    for name, value in network.state_dict().items():
        name = name.replace(".first.", ".a.").replace(".second.", ".b.")
        former[name.replace("mask_head", "head").replace("iou_head", "iou")] = value.half().contiguous()
    save_file(former, tmp_path / "first.safetensors")
    opened = build_network("default_3d", checkpoint=tmp_path / "first.safetensors", options=TINY)
    for name, value in network.state_dict().items():
        assert torch.equal(opened.state_dict()[name], value.half().float()), name
