"""The loss of predicted masks and of the network's own estimate of their quality."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.losses import DiceLoss, FocalLoss
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, mse_loss

from bundle.networks.promptable_sam import MaskPrediction


@dataclass
class LossTerms:
    """A loss to minimise and what it is made of, each a scalar tensor."""

    total: Tensor
    mask: Tensor
    iou: Tensor


class PromptLoss(nn.Module):
    """Dice + cross-entropy + focal of the best mask, and squared error of every predicted IoU.

    Of several candidate masks only the one of lowest loss is trained, as SAM does, so that the candidates may stand for
    different readings of an ambiguous prompt. Everything is computed in float32: half-precision sums of Dice overflow.

    Args:
        dice: weight of the soft Dice loss with squared denominators (MedSAM, micro-sam).
        cross_entropy: weight of the binary cross-entropy.
        focal: weight of the focal loss, gamma 2, alpha 0.25 (SAM and SAM-Med2D use 20 beside 1 for Dice).
        iou: weight of the squared error of the predicted IoU.
    """

    def __init__(self, *, dice: float = 1.0, cross_entropy: float = 1.0, focal: float = 0.0, iou: float = 1.0) -> None:
        super().__init__()
        self.weights = {"dice": dice, "cross_entropy": cross_entropy, "focal": focal, "iou": iou}
        self.dice = DiceLoss(sigmoid=True, squared_pred=True, reduction="none")
        self.focal = FocalLoss(gamma=2.0, alpha=0.25, reduction="none")

    def forward(self, prediction: MaskPrediction, truth: Tensor) -> LossTerms:
        """Compare predictions with masks.

        Args:
            prediction: logits (N, M, h, w) and predicted IoU (N, M).
            truth: (N, S, S) bool masks; logits are scaled up to them, so that the outline is learned at full detail.
        """
        logits = interpolate(prediction.logits.float(), truth.shape[-2:], mode="bilinear", align_corners=False)
        target = truth[:, None].float().expand_as(logits)
        per_mask = self._mask_loss(logits, target)
        mask = per_mask.min(dim=1).values.mean()
        iou = mse_loss(prediction.iou.float(), true_iou(logits, target))
        return LossTerms(mask + self.weights["iou"] * iou, mask.detach(), iou.detach())

    def _mask_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """(N, M) loss of every candidate."""
        total = logits.new_zeros(logits.shape[:2])
        if weight := self.weights["dice"]:
            total = total + weight * self.dice(logits, target).flatten(2).mean(2)
        if weight := self.weights["cross_entropy"]:
            entropy = binary_cross_entropy_with_logits(logits, target, reduction="none")
            total = total + weight * entropy.flatten(2).mean(2)
        if weight := self.weights["focal"]:
            total = total + weight * self.focal(logits, target).flatten(2).mean(2)
        return total


@torch.no_grad()
def true_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of ``logits > 0`` with a binary target, both (N, M, H, W); (N, M), 0 where the union is empty."""
    predicted, wanted = logits > 0, target > 0.5
    intersection = (predicted & wanted).flatten(2).sum(2)
    union = (predicted | wanted).flatten(2).sum(2)
    return intersection / union.clamp(min=1)
