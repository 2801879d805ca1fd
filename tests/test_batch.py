"""Prompts of a slice as tensors; objects share a batch only where each is answered as alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bundle.errors import PromptError
from bundle.families.builders import prompted_unet
from bundle.networks.interface import ModelSpec
from bundle.networks.promptable_sam import PromptableSam
from bundle.prompts.batch import batch_of
from bundle.prompts.slice_prompts import SliceInteraction, SlicePrompt
from bundle.prompts.translation import translated
from bundle.transforms.placement import Placement

SIDE = 64
PLACE = Placement.of(48, 64, size=SIDE)
LINE = np.array([[10.0, 10], [30, 12]])
SQUARE = np.array([[20.0, 20], [40, 20], [40, 40], [20, 40]])
PROMPTS = {
    "point": SlicePrompt(np.array([[10.0, 12]]), np.array([1])),
    "box": SlicePrompt(box=np.array([4.0, 6, 30, 40])),
    "scribble": SlicePrompt(interactions=[SliceInteraction("scribble", LINE)]),
    "lasso": SlicePrompt(interactions=[SliceInteraction("lasso", SQUARE)]),
    "scribble off it in a box": SlicePrompt(
        interactions=[SliceInteraction("box", SQUARE[[0, 2]]), SliceInteraction("scribble", LINE, positive=False)]
    ),
}


def batch(*names: str):
    prompts = [translated(PROMPTS[name], 48, 64, scribble_points=3) for name in names]
    return batch_of(prompts, PLACE, mask_size=SIDE)


def test_what_an_object_lacks_is_padding_or_nan():
    every = batch(*PROMPTS)
    assert every.points.shape == (5, 3, 2) and every.point_labels.tolist()[:3] == [[1, -1, -1], [-1] * 3, [1] * 3]
    assert every.boxes.isnan().any(dim=1).tolist() == [True, False, True, False, False]
    assert every.masks.isnan().flatten(1).any(dim=1).tolist() == [True, True, True, False, True]
    assert every.mixed and not batch("scribble", "scribble").mixed
    assert batch("point").boxes is None and batch("box").points is None


@torch.no_grad()
def test_objects_of_all_kinds_are_answered_together_as_alone_by_a_network_that_draws_its_prompts():
    unet = prompted_unet(image_size=SIDE, widths=(8, 16, 16), depths=(1, 1, 1)).eval()
    prepared = unet.prepare(torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)))
    together = unet.predict(prepared, batch(*PROMPTS), multimask=False)
    for row, name in enumerate(PROMPTS):
        alone = unet.predict(prepared, batch(name), multimask=False)
        torch.testing.assert_close(together.logits[[row]], alone.logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pair", [("point", "scribble"), ("box", "lasso"), ("point", "box")])
def test_a_network_that_pads_refuses_a_batch_of_different_kinds(pair):
    network = object.__new__(PromptableSam)  # refused before anything of it is used
    torch.nn.Module.__init__(network)
    network.spec = ModelSpec((3, SIDE, SIDE), SIDE)
    network.eval()
    with pytest.raises(PromptError, match="in batches of their own"):
        network.predict(None, batch(*pair))
