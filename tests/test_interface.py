"""What every promptable network offers."""

from __future__ import annotations

import pytest
import torch

from bundle.networks.interface import MaskPrediction


def test_best_takes_the_mask_of_highest_predicted_iou():
    logits = torch.arange(6.0).view(2, 3, 1, 1)
    best, iou = MaskPrediction(logits, torch.tensor([[0.1, 0.9, 0.2], [0.8, 0.1, 0.1]])).best()
    assert best.flatten().tolist() == [1.0, 3.0]
    assert iou.tolist() == pytest.approx([0.9, 0.8])
