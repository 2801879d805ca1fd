"""Training starts from the weights of another network."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from test_checkpoints import a_tiny_vit_b as a_tiny_vit_b
from test_checkpoints import network as network

from bundle.families.builders import sam_vit, semantic_sam
from bundle.families.checkpoints import CheckpointError
from bundle.families.initialisation import initialise_from
from bundle.networks.vit import VIT_VARIANTS


def test_positions_are_resized_as_sam_med2d_does(tmp_path):
    large, small = (sam_vit(image_size=size) for size in (128, 64))
    torch.nn.init.normal_(large.image_encoder.blocks[2].attn.rel_pos_h)
    torch.save(large.state_dict(), tmp_path / "large.pth")
    initialise_from(small, tmp_path / "large.pth")
    # Their code resizes (2g - 1, C) as a picture, which moves along its height only.
    picture = large.image_encoder.blocks[2].attn.rel_pos_h[None, None]
    expected = torch.nn.functional.interpolate(picture, (7, 16), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(small.image_encoder.blocks[2].attn.rel_pos_h, expected)


def test_positions_of_another_width_keep_their_random_values(tmp_path, monkeypatch):
    small = sam_vit(image_size=64)
    monkeypatch.setitem(VIT_VARIANTS, "vit_b", (96, 3, 4, (2,)))
    torch.save(sam_vit(image_size=128).state_dict(), tmp_path / "wide.pth")
    done = initialise_from(small, tmp_path / "wide.pth")
    assert "image_encoder.pos_embed" in done.kept and "prompt_encoder.no_mask_embed.weight" in done.loaded


def test_a_larger_sam_starts_a_smaller_one_with_resized_positions(tmp_path):
    large, small = (sam_vit(image_size=size).eval() for size in (128, 64))
    torch.nn.init.normal_(large.image_encoder.blocks[2].attn.rel_pos_h)
    torch.save(large.state_dict(), tmp_path / "large.pth")
    done = initialise_from(small, tmp_path / "large.pth", skip=["mask_decoder.iou_token.*"])
    assert done.kept == ["mask_decoder.iou_token.weight"]
    assert "image_encoder.blocks.2.attn.rel_pos_h" in done.resized
    assert small.image_encoder.blocks[2].attn.rel_pos_h.abs().sum() > 0
    assert not done.unused


def test_a_network_of_volumes_starts_with_every_block_of_a_plain_sam(tmp_path):
    plain, volumes = sam_vit(image_size=64), semantic_sam(image_size=64, classes=2, dimensions=3)
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    done = initialise_from(volumes, tmp_path / "plain.pth")
    assert not any(name.startswith("image_encoder.") for name in done.unused)
    assert all("adapter" in name for name in done.kept if name.startswith("image_encoder."))
    taken, given = volumes.image_encoder.blocks[2].block.mlp.lin1.weight, plain.image_encoder.blocks[2].mlp.lin1.weight
    assert torch.equal(taken, given)


def test_a_network_with_nothing_in_common_cannot_start_another(tmp_path, network):
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="no parameter in common"):
        initialise_from(network, tmp_path / "x.safetensors")
